//! The bundle of another trust domain in a cluster: in an object of its own, and never in another.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::{eventually, tls_server};
use serde_json::json;

use super::bundles::other_root;
use super::{Cluster, ISTIO, NAME, PATIENCE, published, rules};

const PARTNER: &str = "partner-roots";
const KEY: &str = "roots.pem";

/// A SPIFFE bundle.
fn document(roots: &str, sequence: u64) -> String {
    let roots = parse_pem_chain(roots.as_bytes()).unwrap();
    let keys = roots
        .iter()
        .map(|root| json!({"use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(root.der())]}));
    json!({
        "keys": keys.collect::<Vec<_>>(), "spiffe_sequence": sequence, "spiffe_refresh_hint": 1,
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partners_roots_are_an_object_of_their_own() {
    let (first, second) = (other_root(), other_root());
    let shown = Arc::new(Mutex::new(document(&first, 1)));
    let endpoint = Arc::clone(&shown);
    let answer = move || {
        let text = endpoint.lock().unwrap().clone();
        async move { text }
    };
    let (port, ca) = tls_server::serve(Router::new().route("/", get(answer))).await;

    let mut needed = rules(NAME);
    if let Some(maps) = needed.get_mut(1) {
        maps.resource_names = Some(vec![NAME.to_owned(), PARTNER.to_owned()]);
    }
    let cluster = Cluster::start(needed).await;
    let target = format!(
        "[bundle_targets.partner]\ntrust_domain = \"partner.example\"\nclusters = [\"east\"]\n\
         name = \"{PARTNER}\"\nkey = \"{KEY}\"\n"
    );
    let setup = cluster.setup(&format!("{target}{ISTIO}"));
    let file = setup.path("endpoint.pem");
    std::fs::write(&file, ca).unwrap();
    let federation = format!(
        "[federation.partner]\ntrust_domain = \"partner.example\"\nurl = \"https://127.0.0.1:{port}/\"\n\
         profile = \"https_web\"\nca_file = \"{}\"\n",
        file.display(),
    );
    setup.edit("[admin]\n", &format!("{federation}[admin]\n"));
    let server = setup.serve().await;

    let maps: Api<ConfigMap> = cluster.maps("default");
    let has = async |pem: &str| {
        eventually(PATIENCE, "the partner's roots", async || {
            let map = maps.get_opt(PARTNER).await.unwrap();
            map.and_then(|map| map.data?.remove(KEY)).as_deref() == Some(pem)
        })
        .await;
    };
    let own = published(&setup);
    has(&first).await;
    cluster.has("default", &own, PATIENCE).await;

    let both = format!("{first}{second}");
    *shown.lock().unwrap() = document(&both, 2);
    has(&both).await;
    // This server's own is as before, and the ledger takes no part in the other one.
    assert_eq!(cluster.pem("default").await.as_deref(), Some(own.as_str()));
    // A status is made from time to time.
    eventually(PATIENCE, "the partner's status", async || {
        let targets = super::all_statuses(&setup, &server);
        targets.as_array().unwrap().iter().any(|status| {
            status["target"] == "partner"
                && status["trust_domain"] == "partner.example"
                && status["applied"]["sequence"] == 2
        })
    })
    .await;
    server.stop().await;
    let log = setup.path("serve.log");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("has no bundle"), "{log}");
}
