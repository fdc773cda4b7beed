//! The index, as a real API server's watch keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rootbridge::authn::{Api, AuthnError, Method};
use rootbridge::clock::{Clock, SystemClock};
use rootbridge::cluster::{Cluster, Clusters, RawCluster, clusters};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Credential;
use super::callers::credential;
use super::objects::{namespace, node, pod, service_account, token_for};
use super::server::ApiServer;
use rootbridge_test_support::{PATIENCE, eventually};

/// One cluster that verifies offline, as the library has it; ends with the guard.
pub(crate) fn reach(
    server: &ApiServer,
    credential: &Credential,
    keys: &str,
) -> (Arc<Cluster>, TempDir, tokio_util::sync::DropGuard) {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("kubeconfig");
    std::fs::write(&path, server.kubeconfig(credential)).unwrap();
    let text = format!(
        "trust_domain = 'td'\nkubeconfig = '{}'\naudiences = {{ istio = 'istio-ca' }}\n{keys}",
        path.display()
    );
    let raw: RawCluster = toml::from_str(&text).unwrap();
    let raw = BTreeMap::from([("east".to_owned(), raw)]);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stop = CancellationToken::new();
    let all = Clusters::start(&clusters(raw).unwrap(), &clock, &TaskTracker::new(), &stop);
    let cluster = Arc::clone(all.get("east").unwrap());
    (cluster, files, stop.drop_guard())
}

/// A cluster where nothing happens is heard of in time; when the API server is gone the index
/// is believed until the bound and no longer; when it is back all is as before, with what is new.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_is_told_from_a_dead_one() {
    let bound = Duration::from_secs(10);
    let mut server = ApiServer::start();
    let client = server.client().await;
    let ns = "watch";
    namespace(&client, ns).await;
    service_account(&client, ns, "app").await;
    node(&client, "n1").await;
    let app = pod(&client, ns, "app-0", "app", "n1").await;
    let credential = credential(&client, ns).await;
    let keys = "authenticate = 'offline'\nwatch_silence = '10s'\nreview_timeout = '1s'";
    let (cluster, _files, _guard) = reach(&server, &credential, keys);
    let index = cluster.index().unwrap();
    eventually(PATIENCE, "keys and index", async || {
        index.time_since_contact().is_some() && cluster.keys().unwrap().keys > 0
    })
    .await;
    let token = token_for(&client, (ns, "app"), "istio-ca", &app).await;
    let by_keys = async || {
        let caller = cluster.authenticate(&token, Api::Istio).await;
        matches!(
            caller.map(|caller| caller.method),
            Ok(Method::ClusterKeys { .. })
        )
    };

    let started = Instant::now();
    let mut longest = Duration::ZERO;
    while started.elapsed() < bound * 2 {
        longest = longest.max(index.time_since_contact().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(longest < bound, "silent for {longest:?}");

    server.crash();
    assert!(by_keys().await, "what was heard a moment ago still holds");
    let verdict = async || cluster.authenticate(&token, Api::Istio).await;
    eventually(PATIENCE, "the bound", async || {
        matches!(verdict().await, Err(AuthnError::Unavailable(_)))
    })
    .await;
    assert!(index.time_since_contact().unwrap() > bound);

    server.restart();
    eventually(PATIENCE, "it is believed again", by_keys).await;
    let client = server.client().await;
    service_account(&client, ns, "new").await;
    pod(&client, ns, "new-0", "new", "n1").await;
    eventually(PATIENCE, "what is new", async || {
        index.pod(ns, "new-0").is_some() && index.account(ns, "new").is_some()
    })
    .await;
    assert!(index.on_node("n1").len() == 2);
}
