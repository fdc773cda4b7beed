//! An API server that accepts connections and does not answer, where tokens are verified with its keys.

use std::time::{Duration, Instant};

use kube::Client;
use tonic::Code;

use super::callers::{Caller, ca, credential, offline, recorded};
use super::objects::{namespace, node, pod, service_account, token, token_for};
use super::server::{ApiServer, shared};
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::{PATIENCE, TD, eventually};

const NS: &str = "callers-hang";
/// `watch_silence`.
const SILENCE: Duration = Duration::from_secs(10);
/// A namespace with an account and its pod; so many tokens that are bound to it.
async fn tokens(client: &Client, count: usize) -> Vec<String> {
    namespace(client, NS).await;
    service_account(client, NS, "app").await;
    node(client, NS).await;
    let app = pod(client, NS, "app-0", "app", NS).await;
    let mut tokens = Vec::new();
    for _ in 0..count {
        tokens.push(token_for(client, (NS, "app"), "istio-ca", &app).await);
    }
    tokens
}

/// What keys and index can verify is verified until the index is too old; then nobody is
/// accepted and nobody waits, and the other cluster's callers notice nothing of all this.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_verified_here_until_the_index_is_too_old() {
    let stopped = ApiServer::start();
    let (east, west) = (stopped.client().await, shared().client().await);
    let (ours, theirs) = (tokens(&east, 2).await, tokens(&west, 1).await);
    let free = token(&east, (NS, "app"), &["istio-ca"], 3600, None).await;
    let (known, fresh) = (&ours[0], &ours[1]);
    let credentials = (credential(&east, NS).await, credential(&west, NS).await);
    let keys = "authenticate = \"offline\"\nwatch_silence = \"10s\"\nreview_timeout = \"1s\"";
    let setup = ca(
        &[
            ("east", &stopped, &credentials.0, keys),
            ("west", shared(), &credentials.1, ""),
        ],
        "default_cluster = \"east\"",
    );
    let all = [known, fresh, &free, &theirs[0]].map(Clone::clone);
    setup.issuer.minted.lock().unwrap().extend(all);
    let server = setup.serve().await;
    let caller = Caller::new(&server, NS, "app").await;
    eventually(PATIENCE, "both clusters", async || {
        caller.ask(known, None).await.is_ok() && caller.ask(&theirs[0], Some("west")).await.is_ok()
    })
    .await;
    offline(&setup, &caller, known).await;
    let silent = "rootbridge_cluster_watch_silent_seconds{cluster=\"east\"}";
    // Just heard, so that what follows is well before the bound.
    eventually(PATIENCE, "news", async || {
        server.metric(silent).await.is_some_and(|s| s < 2.0)
    })
    .await;

    let other = async || caller.ask(&theirs[0], Some("west")).await.unwrap();
    let asked = async |token: &str| {
        let started = Instant::now();
        let (answer, _) = tokio::join!(caller.ask(token, None), other());
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        answer
    };
    stopped.pause();
    let paused = Instant::now();
    let before = recorded(&setup, "cluster_keys").len();
    // A token that nobody has seen before needs no API server; one without a pod needs it.
    asked(fresh).await.unwrap();
    assert_eq!(recorded(&setup, "cluster_keys").len(), before + 1);
    refusal(asked(&free).await, Code::Unavailable);
    let mut accepted = 0;
    loop {
        match asked(known).await {
            Ok(_) => accepted += 1,
            refused => {
                refusal(refused, Code::Unavailable);
                break;
            }
        }
        assert!(
            paused.elapsed() < SILENCE + PATIENCE,
            "it is still believed"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(accepted > 0);
    eprintln!("verified here for {:?} after it stopped", paused.elapsed());
    let silence = server.metric(silent).await.unwrap();
    assert!(silence >= SILENCE.as_secs_f64(), "{silence} s are too few");
    for token in [known, fresh, &free] {
        refusal(asked(token).await, Code::Unavailable);
    }

    stopped.resume();
    let before = recorded(&setup, "cluster_keys").len();
    let healed = eventually(PATIENCE, "keys and index verify again", async || {
        let _ = asked(known).await;
        recorded(&setup, "cluster_keys").len() > before
    })
    .await;
    eprintln!("again {healed:?} after it went on");
    asked(&free).await.unwrap();
    assert_eq!(
        server
            .metric("rootbridge_cluster_up{cluster=\"west\"}")
            .await,
        Some(1.0)
    );
    let id = format!("spiffe://{TD}/ns/{NS}/sa/app");
    assert_eq!(asked(known).await.unwrap(), [id]);
    let refused = async |cluster: &str, reason: &str| {
        let of =
            format!("listener=\"mesh\",api=\"istio\",cluster=\"{cluster}\",reason=\"{reason}\"");
        let name = format!("rootbridge_authentications_refused_total{{{of}}}");
        server.metric(&name).await.unwrap_or_default()
    };
    assert!(refused("east", "cannot_tell").await >= 5.0);
    assert_eq!(refused("west", "cannot_tell").await, 0.0);
    server.metrics_are_listed().await;
    server.stop().await;
}
