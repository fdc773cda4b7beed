//! What goes wrong: clusters, permissions, other writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::bundles::other_root;
use super::{Cluster, ISTIO, KEY, NAME, PATIENCE, published, rules, stands, status};
use crate::objects::{namespace, rule};
use crate::rootbridge::rootbridge;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_down_delays_only_itself() {
    let mut west = Cluster::of_chart().await;
    let east = Cluster::of_chart().await;
    west.api.crash();
    let target = ISTIO.replace("[\"east\"]", "[\"east\", \"west\"]");
    let clusters = [
        ("east", &east.api, &east.credential),
        ("west", &west.api, &west.credential),
    ];
    let setup = rootbridge(&clusters, &target);
    let server = setup.serve().await;
    stands(&setup, &server, "east in step", |status| {
        status["cluster"] == "east" && status["in_step"] == 5
    })
    .await;
    let admin = server
        .admin_request(http::Method::GET, "/v1/status", Some(&setup.operator))
        .await;
    let all: serde_json::Value = serde_json::from_str(&admin.1).unwrap();
    let down = &all["bundle_targets"][1];
    assert_eq!(down["cluster"], "west");
    assert_eq!(down["writer"]["state"], "unreachable", "{down}");

    // It heals by itself.
    west.api.restart();
    west.client = west.api.client().await;
    let pem = published(&setup);
    west.has("default", &pem, Duration::from_secs(60)).await;

    // And goes away again: the other is still followed at once.
    west.api.pause();
    namespace(&east.client, "fresh").await;
    east.has("fresh", &pem, PATIENCE).await;
    west.api.resume();
    namespace(&west.client, "fresh").await;
    west.has("fresh", &pem, Duration::from_secs(60)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_write_permission_is_reported_and_recovers() {
    // It may look, and hold the Lease, and no more.
    let mut few = rules(NAME);
    few.remove(1);
    few.push(rule("", &["configmaps"], &["list", "watch"], &[NAME]));
    let cluster = Cluster::start(few).await;
    let setup = cluster.setup(ISTIO);
    let server = setup.serve().await;
    let status = stands(&setup, &server, "all failing", |status| {
        status["failing"] == 5
    })
    .await;
    let why = status["error"].as_str().unwrap();
    assert!(why.contains("403 Forbidden"), "{why}");
    assert_eq!(status["applied"], json!(null));

    let roles: kube::Api<k8s_openapi::api::rbac::v1::ClusterRole> =
        kube::Api::all(cluster.client.clone());
    let patch = Patch::Merge(json!({ "rules": rules(NAME) }));
    roles
        .patch("rootbridge-rootbridge", &PatchParams::default(), &patch)
        .await
        .unwrap();
    stands(&setup, &server, "healed", |status| {
        status["in_step"] == 5 && status["failing"] == 0 && status["error"] == json!(null)
    })
    .await;
    server.stop().await;
}

/// An anchor is added and removed while the cluster takes no writes: the newest version has the
/// anchors of an older one, which all objects hold. It counts as published, by its own sequence.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_the_anchors_of_an_older_one_is_recorded() {
    let cluster = Cluster::start(rules(NAME)).await;
    let setup = cluster.setup(ISTIO);
    let server = setup.serve().await;
    let applied = async |what: &str, sequence: u64| {
        stands(&setup, &server, what, |status| {
            status["applied"]["sequence"] == sequence
        })
        .await;
    };
    applied("the first", 1).await;

    let roles: kube::Api<k8s_openapi::api::rbac::v1::ClusterRole> =
        kube::Api::all(cluster.client.clone());
    let mut few = rules(NAME);
    few.remove(1);
    few.push(rule("", &["configmaps"], &["list", "watch"], &[NAME]));
    let patch = Patch::Merge(json!({ "rules": few }));
    roles
        .patch("rootbridge-rootbridge", &PatchParams::default(), &patch)
        .await
        .unwrap();
    std::fs::write(setup.path("other.pem"), other_root()).unwrap();
    super::add_anchor(&setup, &setup.path("other.pem").display().to_string());
    stands(&setup, &server, "the second fails", |status| {
        status["wanted"]["sequence"] == 2 && status["failing"] == 5
    })
    .await;
    let pem = std::fs::read(setup.path("other.pem")).unwrap();
    let other = rootbridge::x509::parse_pem_chain(&pem).unwrap();
    let fingerprint = rootbridge::digest::hex(&other[0].fingerprint());
    setup.cli(&["anchors", "remove", &fingerprint]);
    applied("the third", 3).await;
    server.stop().await;
}

/// Another writer that puts its own bundle back at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_conflict_is_logged_once_and_slows_down() {
    let cluster = Cluster::of_chart().await;
    namespace(&cluster.client, "shop").await;
    let setup = cluster.setup(ISTIO);
    let server = setup.serve().await;
    let pem = published(&setup);
    cluster.has("shop", &pem, PATIENCE).await;

    let rounds = Arc::new(AtomicU32::new(0));
    let on = Arc::new(AtomicBool::new(true));
    let fighter = {
        let (maps, pem) = (cluster.maps("shop"), pem.clone());
        let (rounds, on) = (Arc::clone(&rounds), Arc::clone(&on));
        tokio::spawn(async move {
            while on.load(Ordering::SeqCst) {
                let map = maps.get(NAME).await.unwrap();
                if map.data.unwrap()[KEY] == pem {
                    let patch = Patch::Merge(json!({ "data": { KEY: "theirs" } }));
                    let params = PatchParams {
                        field_manager: Some("other-publisher".to_owned()),
                        ..PatchParams::default()
                    };
                    maps.patch(NAME, &params, &patch).await.unwrap();
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let contested = stands(&setup, &server, "contested", |status| {
        status["contested"] == 1
    })
    .await;
    eprintln!("{contested}");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let fought = rounds.load(Ordering::SeqCst);
    eprintln!("{fought} rounds");
    assert!((5..=8).contains(&fought), "{fought} rounds");
    let log = server.log();
    let message: Vec<_> = log
        .lines()
        .filter(|line| line.contains("keeps changing the object"))
        .collect();
    assert_eq!(message.len(), 1, "{message:?}");
    assert!(message[0].contains("other-publisher"), "{}", message[0]);
    // The others are in step all the while.
    assert_eq!(status(&setup, &server)["in_step"], 5);

    on.store(false, Ordering::SeqCst);
    fighter.await.unwrap();
    cluster.has("shop", &pem, Duration::from_secs(60)).await;
    server.stop().await;
}
