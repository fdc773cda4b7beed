//! A real istiod as a registration authority: configured by the words of its how-to, with the rights
//! that Istio's own chart gives it, and asked by Istio's own client.

mod calls;
mod istiod;

use std::path::Path;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};

use calls::{Call, Shop};
use istiod::Istiod;

use super::chart;
use super::rootbridge::rootbridge;
use super::server::ApiServer;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, openssl};

const HOW_TO: &str = include_str!("../../../docs/how-to/istiod-ra.md");
/// Where the how-to has istiod.
const NAMESPACE: &str = "istio-system";
/// Where istiod keeps the key of a CA of its own.
const OWN_CA: &str = "istio-ca-secret";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const TILL: &str = "spiffe://cluster.local/ns/shop/sa/till";

/// The fenced block of the how-to that holds these words.
fn block(language: &str, words: &str) -> &'static str {
    HOW_TO
        .split(&format!("```{language}\n"))
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .find(|block| block.contains(words))
        .unwrap_or_else(|| panic!("the how-to has no {language} block with `{words}`"))
}

/// A CA as the how-to configures it, with the chart's rights in the cluster and no more.
async fn ca(server: &ApiServer, admin: &Client) -> TestServer {
    let ours = [
        "authentication.enabled=false",
        "csrSigners.istio.signer_name=rootbridge.example/mesh",
        "csrSigners.istio.profile=workload",
        "csrSigners.istio.requesters[0]=istio-system/istiod",
        "istiodTls.istiod.namespace=istio-system",
    ];
    let credential = chart::rights(admin, "rootbridge", &chart::set(&ours)).await;
    // Its cluster is reached by a kubeconfig of the test's.
    let text = block("toml", "[csr_signers.istio]");
    let (_, sections) = text.split_once("\n\n").unwrap();
    rootbridge(&[("east", server, &credential)], &format!("\n{sections}\n"))
}

/// The page says which istiod was tried, and it is of one version with the client.
#[test]
fn the_page_names_the_istiod_that_is_built() {
    let version = |manifest: &'static str| {
        let line = manifest
            .lines()
            .find(|line| line.contains("istio.io/istio v"));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap()
    };
    let built = version(include_str!("../../istiod/go.mod"));
    assert_eq!(built, version(include_str!("../../interop/go.mod")));
    let (_, commit) = built.rsplit_once('-').unwrap();
    assert!(HOW_TO.contains(commit), "{commit}");
}

async fn requests(admin: &Client) -> Vec<CertificateSigningRequest> {
    let api: Api<CertificateSigningRequest> = Api::all(admin.clone());
    api.list(&ListParams::default()).await.unwrap().items
}

/// Workloads' calls to istiod end as certificates of this CA, and no workload gets another's name. While
/// the CA is away calls fail, and come right with it. Another root reaches namespaces and workloads by
/// an istiod that was started since.
#[tokio::test(flavor = "multi_thread")]
async fn istiod_has_its_workloads_certified_here() {
    let server = ApiServer::start();
    let admin = server.client().await;
    let setup = ca(&server, &admin).await;
    let running = setup.serve().await;
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), NAMESPACE);
    eventually(PATIENCE, "the secret", async || {
        secrets.get_opt("istiod-tls").await.unwrap().is_some()
    })
    .await;
    let istiod = Istiod::start(&server, &admin, &[]).await;
    let shop = Shop::new(&admin, &setup.path(&format!("{TD}.pem"))).await;

    let sidecar = istiod.injects(&setup.roots(TD)).await;
    for part in ["/var/run/secrets/istio", "istio-ca-root-cert"] {
        assert!(sidecar.contains(part), "no {part} in {sidecar}");
    }

    who_asks_has_its_own_name(&shop, &istiod, &setup).await;
    shop.agent(&istiod, "web").await;
    shop.many(&istiod, "till", 50).await;
    ztunnel_speaks_for_its_node(&shop, &istiod).await;
    its_roots_are_ours(&admin, &setup).await;
    running.stop().await;
    let running = what_is_asked_meanwhile(&shop, &istiod, &setup, &admin).await;

    add_a_root(&setup);
    istiod
        .remount(&admin, |files| files.matches("BEGIN").count() == 2)
        .await;
    let web = [Call::of("web", WEB, "ecdsa-p256")];
    assert_eq!(shop.ask(&istiod, &web).await[0].granted()["roots"], 1);
    drop(istiod);
    let istiod = Istiod::start(&server, &admin, &[]).await;
    roots_of_namespaces(&admin, 2).await;
    assert_eq!(shop.ask(&istiod, &web).await[0].granted()["roots"], 2);
    drop(istiod);
    secrets
        .delete(OWN_CA, &DeleteParams::default())
        .await
        .unwrap();
    // The how-to's words for workloads that name a signer themselves, and for a mesh without sidecars.
    let domain = "pilot.env.CERT_SIGNER_DOMAIN=rootbridge.example";
    assert!(HOW_TO.contains("CERT_SIGNER_DOMAIN: rootbridge.example"));
    let none = "global.pilotCertProvider=k8s.io/rootbridge.example/mesh";
    assert!(HOW_TO.contains("pilotCertProvider: k8s.io/rootbridge.example/mesh"));
    let istiod = Istiod::start(&server, &admin, &["--set", domain, "--set", none]).await;
    let named = Call::of("web", WEB, "ecdsa-p256").signed_by("mesh");
    let unknown = Call::of("web", WEB, "ecdsa-p256").signed_by("other");
    let answers = shop.ask(&istiod, &[named, unknown.once()]).await;
    assert_eq!(answers[0].granted()["roots"], 2);
    // istiod may not approve for that one.
    assert_eq!(answers[1].code, "Internal", "{answers:?}");
    assert!(answers[1].message.contains("approve"), "{answers:?}");
    // And no CA is made, but sidecars do not get the roots.
    assert!(
        !istiod
            .injects(&setup.roots(TD))
            .await
            .contains("istio-ca-root-cert")
    );
    assert!(secrets.get_opt(OWN_CA).await.unwrap().is_none());
    running.stop().await;
}

/// A second trust anchor, as a rotation begins.
fn add_a_root(setup: &TestServer) {
    let other = openssl::OpensslCa::new(&setup.path(""), "other");
    let root = setup.path("other-root.pem");
    std::fs::write(&root, other.pem()).unwrap();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "test"];
    setup.cli(&[&add[..], &[root.to_str().unwrap()]].concat());
}

/// What istiod has given to a namespace, once it is this many roots.
async fn roots_of_namespaces(admin: &Client, count: usize) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "shop");
    let mut found = String::new();
    eventually(PATIENCE, "roots in the namespace", async || {
        let map = maps.get_opt("istio-ca-root-cert").await.unwrap();
        let data = map.and_then(|map| map.data).unwrap_or_default();
        found = data.get("root-cert.pem").cloned().unwrap_or_default();
        found.matches("BEGIN").count() == count
    })
    .await;
    found
}

async fn who_asks_has_its_own_name(shop: &Shop, istiod: &Istiod, setup: &TestServer) {
    let kinds = ["rsa-2048", "ecdsa-p256"];
    let calls = kinds.map(|key| Call::of("web", WEB, key));
    for answer in shop.ask(istiod, &calls).await {
        assert_eq!(answer.granted()["roots"], 1);
    }
    let others = [
        Call::of("till", TILL, "ecdsa-p256"),
        Call::of("till", WEB, "ecdsa-p256"),
        Call::of("stranger", WEB, "ecdsa-p256"),
    ];
    let answers = shop.ask(istiod, &others).await;
    answers[0].granted();
    // istiod's own judgement, before anything is asked of us.
    assert_eq!(answers[1].code, "InvalidArgument", "{answers:?}");
    assert_eq!(answers[2].code, "Unauthenticated", "{answers:?}");

    let rows = setup.certificates(&[]);
    let of = |name: &str| rows.iter().filter(|row| row["subject"] == name).count();
    assert_eq!((of(WEB), of(TILL)), (2, 1), "{rows:?}");
    for row in rows.iter().filter(|row| row["subject"] == WEB) {
        let caller = row["caller"].to_string();
        assert!(caller.contains("/ns/istio-system/sa/istiod"), "{row}");
        assert!(caller.contains("CertificateSigningRequest"), "{row}");
    }
}

/// Ambient: istiod decides whom a node's proxy may ask for, and asks us for that name.
async fn ztunnel_speaks_for_its_node(shop: &Shop, istiod: &Istiod) {
    let on_its_node = Call::of("ztunnel", WEB, "ecdsa-p256").on_behalf();
    let elsewhere = Call::of("ztunnel", TILL, "ecdsa-p256").on_behalf();
    let not_trusted = Call::of("till", WEB, "ecdsa-p256").on_behalf();
    // istiod's view of pods may be a moment behind.
    let call = [on_its_node];
    eventually(PATIENCE, "istiod knows the pods", async || {
        shop.ask(istiod, &call).await[0].code == "OK"
    })
    .await;
    shop.ask(istiod, &call).await[0].granted();
    for answer in shop.ask(istiod, &[elsewhere, not_trusted]).await {
        assert_eq!(answer.code, "Unauthenticated", "{answer:?}");
    }
}

/// The roots that istiod gives to namespaces are ours, not those of the CA that it makes beside.
async fn its_roots_are_ours(admin: &Client, setup: &TestServer) {
    let given = roots_of_namespaces(admin, 1).await;
    assert_eq!(given.trim(), setup.roots(TD).trim());
    // It cleared its requests away.
    assert_eq!(requests(admin).await, []);
}

/// Asked while the CA is away: what waits for less than istiod's minute is certified by the same
/// call, and what does not fails without a trace.
async fn what_is_asked_meanwhile(
    shop: &Shop,
    istiod: &Istiod,
    setup: &TestServer,
    admin: &Client,
) -> RunningServer {
    // Without the client's own retries, so that a failure shows.
    let once = [Call::of("web", WEB, "ecdsa-p256").once()];
    let recorded = || {
        let rows = setup.certificates(&[]);
        rows.iter().filter(|row| row["subject"] == WEB).count()
    };
    let before = recorded();
    let answer = shop.ask(istiod, &once).await.remove(0);
    assert_eq!(answer.code, "Internal", "{answer:?}");
    assert!(answer.message.contains("timeout"), "{answer:?}");
    assert_eq!(requests(admin).await, []);

    let (answers, running) = tokio::join!(shop.ask(istiod, &once), async {
        eventually(PATIENCE, "an approved request", async || {
            let all = requests(admin).await;
            let conditions = all.into_iter().filter_map(|one| one.status?.conditions);
            conditions.flatten().any(|one| one.type_ == "Approved")
        })
        .await;
        setup.serve().await
    });
    answers[0].granted();
    shop.ask(istiod, &once).await[0].granted();
    assert_eq!(recorded(), before + 2);
    running
}

/// A file of `build/`, which `scripts/setup test` has made.
fn built(name: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("build")
        .join(name);
    assert!(path.exists(), "no {}; run `make setup`", path.display());
    path
}
