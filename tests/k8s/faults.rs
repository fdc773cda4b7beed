//! API servers with faulty answers: objects become correct all the same, and nothing is signed twice.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::faulty_proxy::{Faulty, How};
use super::objects::namespace;
use super::rootbridge::rootbridge;
use super::server::shared;
use super::signing::Scene;
use rootbridge_test_support::{PATIENCE, TD, eventually};

const CSRS: &str = "/certificatesigningrequests";

fn web(n: usize) -> String {
    format!("spiffe://{TD}/ns/shop/sa/web-{n}")
}

/// Lists, watches, reads and writes fail in every way, one after another.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_and_an_api_server_that_answers_badly() {
    let scene = Scene::new(shared(), "faults-csr", "").await;
    let faulty = Faulty::before(&scene.setup, "east").await;
    for code in [500, 403, 429] {
        faulty.next(1, Method::GET, CSRS, How::Status(code));
    }
    faulty.next(1, Method::GET, "watch=true", How::Expired);
    faulty.next(
        2,
        Method::GET,
        "watch=true",
        How::Cut(Duration::from_millis(200)),
    );
    let first = scene.approved(&web(1)).await;
    let running = scene.setup.serve().await;
    scene.signed(&first).await;
    eventually(PATIENCE, "all faults of the watch", async || {
        faulty.left() == 0
    })
    .await;

    for code in [500, 403, 429, 409] {
        faulty.next(1, Method::PUT, "/status", How::Status(code));
    }
    faulty.next(
        1,
        Method::PUT,
        "/status",
        How::Timeout(Duration::from_secs(2)),
    );
    let second = scene.approved(&web(2)).await;
    scene.signed(&second).await;
    eventually(PATIENCE, "all faults of the answer", async || {
        faulty.left() == 0
    })
    .await;

    // The server took the answer, and this was not heard.
    faulty.next(1, Method::PUT, "/status", How::Lost);
    let third = scene.approved(&web(3)).await;
    scene.signed(&third).await;
    eventually(PATIENCE, "the lost answer", async || faulty.left() == 0).await;
    for n in 1..=3 {
        assert_eq!(scene.recorded(&web(n)), (1, 1), "{n}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_and_an_api_server_that_answers_badly() {
    let server = shared();
    let client = server.client().await;
    namespace(&client, "faults-bundle").await;
    let target = format!(
        "\n[bundle_targets.roots]\ntrust_domain = \"{TD}\"\nclusters = [\"east\"]\n\
         name = \"faults-roots\"\nkey = \"roots.pem\"\n\
         namespaces = \"kubernetes.io/metadata.name=faults-bundle\"\n\
         [publisher]\nlease_namespace = \"faults-bundle\"\n"
    );
    let setup = rootbridge(&[("east", server, &server.admin())], &target);
    let faulty = Faulty::before(&setup, "east").await;
    for code in [500, 403, 429] {
        faulty.next(1, Method::GET, "/leases", How::Status(code));
        faulty.next(1, Method::GET, "/configmaps", How::Status(code));
        faulty.next(1, Method::GET, "/namespaces?", How::Status(code));
        faulty.next(
            1,
            Method::PATCH,
            "/configmaps/faults-roots",
            How::Status(code),
        );
    }
    faulty.next(1, Method::GET, "watch=true", How::Expired);
    faulty.next(
        2,
        Method::GET,
        "watch=true",
        How::Cut(Duration::from_millis(200)),
    );
    faulty.next(1, Method::PATCH, "/configmaps/faults-roots", How::Lost);
    let running = setup.serve().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "faults-bundle");
    let roots = setup.roots(TD);
    eventually(PATIENCE, "the bundle", async || {
        let found = maps.get_opt("faults-roots").await.unwrap();
        let data = found.and_then(|map| map.data).unwrap_or_default();
        data.get("roots.pem") == Some(&roots)
    })
    .await;
    eventually(PATIENCE, "all faults", async || faulty.left() == 0).await;

    // And it goes on: a deletion is put right.
    maps.delete("faults-roots", &Default::default())
        .await
        .unwrap();
    eventually(PATIENCE, "the bundle again", async || {
        maps.get_opt("faults-roots").await.unwrap().is_some()
    })
    .await;
    running.stop().await;
}
