//! Loads, for figures of a machine without other work: a rotation of a hundred clusters, and ten thousand
//! followers of a bundle. No figure is on record yet.
//! `cargo test --release --test server -- --ignored --nocapture rotation_load`

use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rootbridge::mesh::proto::rootbridge_v1::WatchTrustBundleRequest;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{Client, RunningServer, TD, TestServer};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::rotation_gates::mesh::{HELD, Mesh, add};

const CLUSTERS: usize = 100;
const FOLLOWERS: usize = 10_000;
/// Of one connection, as `limits.max_streams` has it.
const STREAMS: usize = 100;
const LIMIT: Duration = Duration::from_secs(120);

fn of(times: &[Duration], percent: usize) -> Duration {
    times[((times.len() - 1) * percent) / 100]
}

/// Each cluster has an agent that reports its target.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures, on a machine without other load"]
async fn a_hundred_clusters_are_read() {
    let setup = TestServer::new();
    setup.edit("level = \"trace\"", "level = \"info\"");
    let agents = (0..CLUSTERS).map(|n| {
        format!(
            "[watchers.west-{n}]\ntrust_domain = \"many.test\"\ncluster = \"west-{n}\"\n\
             identity = \"spiffe://many.test/ns/shop/sa/agent-{n}\"\n\n"
        )
    });
    add(&setup, &["many.test"], &agents.collect::<String>());
    let server = setup.serve().await;
    let mesh = Mesh::new(&setup, &server, "many.test").await;
    mesh.start().await;
    mesh.reach(&["publish", "converge"]).await;
    assert_eq!(mesh.held().await, ["target"; CLUSTERS]);
    let newest = mesh.bundle().await;
    for n in 0..CLUSTERS {
        let account = format!("agent-{n}");
        mesh.report_by(&account, &newest, Some(HELD)).await;
    }
    let mut took = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        assert_eq!(mesh.held().await, [""; 0]);
        took.push(started.elapsed());
    }
    took.sort();
    eprintln!(
        "what holds a rotation of {CLUSTERS} clusters back: p50 {:?}, longest {:?}",
        of(&took, 50),
        of(&took, 100)
    );
    server.stop().await;
}

/// Follows the bundle with all streams, and says when each message came, and with how many roots.
async fn follow(
    server: &RunningServer,
    roots: &str,
) -> (JoinSet<()>, mpsc::UnboundedReceiver<(Timestamp, usize)>) {
    let (said, heard) = mpsc::unbounded_channel();
    let mut all = JoinSet::new();
    for _ in 0..FOLLOWERS / STREAMS {
        let (said, roots, port) = (said.clone(), roots.to_owned(), server.port());
        all.spawn(async move {
            let client = Client::connect(port, &roots, None).await.unwrap();
            let mut streams = JoinSet::new();
            for _ in 0..STREAMS {
                let (client, said) = (client.clone(), said.clone());
                streams.spawn(async move {
                    let request = WatchTrustBundleRequest::default();
                    let stream = client.bundles().watch_trust_bundle(request).await;
                    let mut stream = stream.unwrap().into_inner();
                    while let Ok(Some(bundle)) = stream.message().await {
                        said.send((Timestamp::now(), bundle.anchors.len())).unwrap();
                    }
                });
            }
            streams.join_all().await;
        });
    }
    (all, heard)
}

/// When each follower has heard of a bundle with so many roots, after `since`.
async fn hear(
    heard: &mut mpsc::UnboundedReceiver<(Timestamp, usize)>,
    count: usize,
) -> Vec<Timestamp> {
    let mut times = Vec::new();
    while times.len() < FOLLOWERS {
        let next = tokio::time::timeout(LIMIT, heard.recv()).await;
        let (at, anchors) = next.unwrap().unwrap();
        times.extend((anchors == count).then_some(at));
    }
    times
}

fn after(since: Timestamp, times: &[Timestamp]) -> Vec<Duration> {
    let mut took: Vec<_> = times
        .iter()
        .map(|at| Duration::try_from(at.duration_since(since)).unwrap_or_default())
        .collect();
    took.sort();
    took
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures, on a machine without other load"]
async fn ten_thousand_followers_hear_of_a_bundle() {
    let setup = TestServer::new();
    setup.edit("level = \"trace\"", "level = \"info\"");
    let server = setup.serve().await;
    drop(server.client(TD).await);
    let roots = setup.roots(TD);
    let (all, mut heard) = follow(&server, &roots).await;
    hear(&mut heard, 1).await;
    let partner = OpensslCa::new(&setup.path(""), "partner");
    let file = setup.path("partner-root.pem");
    fs::write(&file, partner.pem()).unwrap();
    let file = file.display().to_string();
    let add = [
        "anchors",
        "add",
        &file,
        "--trust-domain",
        TD,
        "--source",
        "x",
    ];
    setup.cli(&add);
    let times = hear(&mut heard, 2).await;
    let log = server.log();
    let published = log
        .lines()
        .rfind(|line| line.contains("trust bundle published"));
    let published: Value = serde_json::from_str(published.unwrap()).unwrap();
    let published: Timestamp = published["timestamp"].as_str().unwrap().parse().unwrap();
    let took = after(published, &times);
    eprintln!(
        "a bundle reaches {FOLLOWERS} followers: p50 {:?}, last {:?}",
        of(&took, 50),
        of(&took, 100)
    );

    // All at once, without the spreading of `rootbridge agent`.
    drop(all);
    let started = Timestamp::now();
    let (all, mut heard) = follow(&server, &roots).await;
    let took = after(started, &hear(&mut heard, 2).await);
    eprintln!(
        "{FOLLOWERS} followers come back on {} connections: p50 {:?}, last {:?}",
        FOLLOWERS / STREAMS,
        of(&took, 50),
        of(&took, 100)
    );
    drop(all);
    server.stop().await;
}
