//! Filling a cluster, and keeping it filled.

use std::time::Instant;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{Cluster, ISTIO, KEY, NAME, PATIENCE, published, stands, status};
use crate::objects::namespace;
use rootbridge_test_support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_namespaces_are_filled_and_reconciled() {
    let cluster = Cluster::of_chart().await;
    for n in 0..300 {
        namespace(&cluster.client, &format!("shop-{n}")).await;
    }
    let setup = cluster.setup(ISTIO);
    let started = Instant::now();
    let server = setup.serve().await;
    let pem = published(&setup);

    // While the bulk is under way, a new namespace goes first.
    eventually(PATIENCE, "the first", async || {
        status(&setup, &server)["in_step"].as_u64() > Some(5)
    })
    .await;
    namespace(&cluster.client, "fresh").await;
    let took = cluster.has("fresh", &pem, PATIENCE).await;
    let at = status(&setup, &server);
    eprintln!(
        "a new namespace during the fill: {took:?}; {} still behind",
        at["behind"]
    );

    let full = stands(&setup, &server, "everything in step", |status| {
        status["behind"] == 0 && status["applied"]["sequence"] == 1
    })
    .await;
    eprintln!("filled after {:?}: {full}", started.elapsed());
    // 50 writes a second at most.
    let writes = full["writes"].as_u64().unwrap();
    assert!(started.elapsed().as_millis() as u64 >= (writes - 1) * 20);
    assert_eq!(full["writer"]["state"], "this");
    assert_eq!(
        (&full["failing"], &full["contested"]),
        (&json!(0), &json!(0))
    );
    // default, kube-system, kube-public, kube-node-lease, rootbridge, fresh.
    assert_eq!(full["in_step"], 306);
    assert_eq!(writes, 306, "each was written once");
    let map = cluster.maps("shop-7").get(NAME).await.unwrap();
    assert_eq!(map.metadata.labels.unwrap()["istio.io/config"], "true");

    new_namespace(&cluster, &pem).await;
    edits(&cluster, &pem).await;
    let metric = "rootbridge_bundle_targets_up_to_date{cluster=\"east\",target=\"istio\"}";
    eventually(PATIENCE, "the metric", async || {
        server.metric(metric).await == Some(307.0)
    })
    .await;

    // Another anchor: everything follows, and the ledger says so.
    std::fs::write(setup.path("other.pem"), super::bundles::other_root()).unwrap();
    let file = setup.path("other.pem").display().to_string();
    super::add_anchor(&setup, &file);
    let next = stands(&setup, &server, "the next version everywhere", |status| {
        status["behind"] == 0 && status["applied"]["sequence"] == 2
    })
    .await;
    assert_eq!(next["wanted"], next["applied"]);
    let both = cluster.pem("shop-7").await.unwrap();
    assert!(both.starts_with(&pem) && both.matches("BEGIN CERTIFICATE").count() == 2);
    server.stop().await;

    // After a restart existing objects are not written again, and the time is the recorded one.
    let server = setup.serve().await;
    let again = stands(&setup, &server, "in step again", |status| {
        status["behind"] == 0 && status["applied"]["sequence"] == 2
    })
    .await;
    assert_eq!(again["writes"], 0);
    assert_eq!(again["applied_at"], next["applied_at"]);
    server.stop().await;
}

async fn new_namespace(cluster: &Cluster, pem: &str) {
    namespace(&cluster.client, "later").await;
    eprintln!(
        "a new namespace: {:?}",
        cluster.has("later", pem, PATIENCE).await
    );
}

/// Edits and deletions are put back, and what is others' stays.
async fn edits(cluster: &Cluster, pem: &str) {
    let maps = cluster.maps("shop-3");
    let merge = async |patch| {
        let patch = Patch::Merge(patch);
        maps.patch(NAME, &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    merge(json!({
        "data": { "theirs": "stays", KEY: "edited" },
        "metadata": { "labels": { "their": "label", "istio.io/config": null } },
    }))
    .await;
    eprintln!("an edit: {:?}", cluster.has("shop-3", pem, PATIENCE).await);
    let map = maps.get(NAME).await.unwrap();
    assert_eq!(map.data.unwrap()["theirs"], "stays");
    let labels = map.metadata.labels.unwrap();
    assert_eq!(
        (&labels["their"][..], &labels["istio.io/config"][..]),
        ("label", "true")
    );

    // A foreign key alone is left unchanged.
    let before = maps.get(NAME).await.unwrap().metadata.generation;
    merge(json!({ "data": { "theirs": "changed" } })).await;
    maps.delete(NAME, &DeleteParams::default()).await.unwrap();
    eprintln!(
        "a deletion: {:?}",
        cluster.has("shop-3", pem, PATIENCE).await
    );
    assert_eq!(before, None, "ConfigMaps have no generation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_ends_is_no_error() {
    let cluster = Cluster::of_chart().await;
    for n in 0..4 {
        namespace(&cluster.client, &format!("shop-{n}")).await;
    }
    // No controller ends what is deleted here: it stays terminating, before and while it is watched.
    cluster.delete_namespace("shop-0").await;
    let setup = cluster.setup(ISTIO);
    let server = setup.serve().await;
    let in_step = |count: u64| {
        move |status: &serde_json::Value| {
            status["in_step"] == count && status["behind"] == 0 && status["failing"] == 0
        }
    };
    stands(&setup, &server, "eight", in_step(8)).await;
    assert_eq!(cluster.pem("shop-0").await, None);
    cluster.delete_namespace("shop-1").await;
    // What a namespace controller would do.
    let maps = cluster.maps("shop-1");
    maps.delete(NAME, &DeleteParams::default()).await.unwrap();
    let status = stands(&setup, &server, "seven", in_step(7)).await;
    assert_eq!(
        (&status["error"], &status["contested"]),
        (&json!(null), &json!(0))
    );
    assert_eq!(cluster.pem("shop-1").await, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_chooses_namespaces() {
    let cluster = Cluster::of_chart().await;
    namespace(&cluster.client, "in").await;
    namespace(&cluster.client, "out").await;
    let target = ISTIO.replace(
        "preset = \"istio\"",
        "preset = \"istio\"\nnamespaces = \"mesh in (one,two)\"",
    );
    let setup = cluster.setup(&target);
    let server = setup.serve().await;
    stands(&setup, &server, "nothing wanted", |status| {
        status["applied"]["sequence"] == 1 && status["in_step"] == 0
    })
    .await;
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
        kube::Api::all(cluster.client.clone());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "mesh": "two" } } }));
    namespaces
        .patch("in", &PatchParams::default(), &patch)
        .await
        .unwrap();
    cluster.has("in", &published(&setup), PATIENCE).await;
    assert_eq!(cluster.pem("out").await, None);
    server.stop().await;
}
