//! `IssuedLeafCertificate`: written on accounts, bounded, and never waited for.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use prometheus_client::registry::Registry;
use rootbridge::clock::{Clock, SystemClock, UnixTime};
use rootbridge::cluster::{Notice, Notices};
use rootbridge::controllers::Metrics;
use rootbridge::controllers::linkerd::{event_permission, start_events};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::objects::{granted, namespace, rule, service_account};
use crate::server::{ApiServer, shared};
use crate::watch::reach;
use rootbridge_test_support::{PATIENCE, eventually};

/// A way to tell one cluster, and what is counted of it.
struct Recorder {
    notices: Notices,
    metrics: Registry,
    tasks: TaskTracker,
    stop: CancellationToken,
    _world: (tempfile::TempDir, tokio_util::sync::DropGuard),
}

impl Recorder {
    async fn new(server: &ApiServer, ns: &str) -> (Self, Client) {
        let admin = server.client().await;
        namespace(&admin, ns).await;
        let right = event_permission("test");
        let rules = vec![rule(right.group, &[right.resource], &[right.verb], &[])];
        let credential = granted(&admin, ns, "rootbridge", rules).await;
        let (cluster, files, guard) = reach(server, &credential, "");
        eventually(PATIENCE, "the cluster", async || {
            cluster.connection().client().await.is_ok()
        })
        .await;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let counted = Metrics::default();
        let mut metrics = Registry::default();
        counted.register(&mut metrics);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let notices = start_events([cluster], &clock, &counted, &tasks, &stop);
        let recorder = Self {
            notices,
            metrics,
            tasks,
            stop,
            _world: (files, guard),
        };
        (recorder, admin)
    }

    fn count(&self, result: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let begin = format!("linkerd_events_total{{cluster=\"east\",result=\"{result}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&begin));
        line.map_or(0, |number| number.parse().unwrap())
    }
}

fn notice(ns: &str, account: &str, uid: Option<String>) -> Notice {
    Notice {
        namespace: ns.to_owned(),
        account: account.to_owned(),
        uid,
        name: format!("{account}.{ns}.serviceaccount.identity.linkerd.cluster.local"),
        not_after: UnixTime::from_secs(1_790_000_000),
        sha256: [0xab; 32],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_on_the_account() {
    let ns = "lk-events";
    let (recorder, admin) = Recorder::new(shared(), ns).await;
    let account = service_account(&admin, ns, "web").await;
    let uid = account.uid().unwrap();
    // What cannot be written holds up nothing that comes after it.
    recorder
        .notices
        .send("east", notice("lk-events-none", "web", None));
    recorder.notices.send("elsewhere", notice(ns, "web", None));
    recorder
        .notices
        .send("east", notice(ns, "web", Some(uid.clone())));
    let events: Api<Event> = Api::namespaced(admin.clone(), ns);
    // As `kubectl describe serviceaccount` finds them.
    let of = format!("involvedObject.kind=ServiceAccount,involvedObject.uid={uid}");
    let mut found = Vec::new();
    eventually(PATIENCE, "the event", async || {
        found = events
            .list(&ListParams::default().fields(&of))
            .await
            .unwrap()
            .items;
        !found.is_empty()
    })
    .await;
    let [event] = &found[..] else {
        panic!("{found:#?}");
    };
    assert_eq!(event.reason.as_deref(), Some("IssuedLeafCertificate"));
    assert_eq!(event.type_.as_deref(), Some("Normal"));
    let source = event.source.as_ref().unwrap();
    assert_eq!(source.component.as_deref(), Some("rootbridge"));
    assert_eq!(event.involved_object.name.as_deref(), Some("web"));
    let hash = "ab".repeat(32);
    let message = format!(
        "issued certificate for web.{ns}.serviceaccount.identity.linkerd.cluster.local until \
         2026-09-21 14:13:20 +0000 UTC: {hash}"
    );
    assert_eq!(event.message.as_deref(), Some(&message[..]));
    eventually(PATIENCE, "the count", async || {
        recorder.count("written") == 1
    })
    .await;
    assert_eq!(
        (
            recorder.count("written"),
            recorder.count("failed"),
            recorder.count("dropped")
        ),
        (1, 1, 0)
    );
    recorder.stop.cancel();
    recorder.tasks.close();
    recorder.tasks.wait().await;
}

/// Ten thousand at once: sent without waiting, most are dropped, and few are written in a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_bounded() {
    let ns = "lk-flood";
    let (recorder, admin) = Recorder::new(shared(), ns).await;
    let started = Instant::now();
    for n in 0..10_000 {
        recorder
            .notices
            .send("east", notice(ns, &format!("web-{n}"), None));
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    let dropped = recorder.count("dropped");
    // The queue holds 1,024; the others were written meanwhile, or are about to be.
    let taken = recorder.count("written") + recorder.count("failed") + 1;
    assert!(
        (8_976 - taken..=8_976).contains(&dropped),
        "{dropped} dropped, {taken} taken"
    );
    eventually(PATIENCE, "some are written", async || {
        recorder.count("written") > 5
    })
    .await;
    let written = recorder.count("written") as f64;
    let rate = written / started.elapsed().as_secs_f64();
    assert!(rate < 20.0, "{rate} in a second");
    // A shutdown does not wait for those that are left.
    recorder.stop.cancel();
    recorder.tasks.close();
    let ended = Instant::now();
    recorder.tasks.wait().await;
    assert!(ended.elapsed() < PATIENCE);
    let events: Api<Event> = Api::namespaced(admin, ns);
    let there = events
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .len();
    assert!(there as f64 >= written && there < 1024, "{there}");
}
