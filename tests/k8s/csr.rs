//! CertificateSigningRequests: what istiod's RA mode sends, approved or not, right or wrong, and a
//! cluster or a CA that goes away meanwhile.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use rootbridge::x509::parse_pem_chain;
use serde_json::{Value, json};

use super::objects::{granted, rule};
use super::server::{ApiServer, shared};
use super::signing::{Change, Scene, certificate};
use rootbridge_test_support::{PATIENCE, eventually};

fn web(n: usize) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/web-{n}")
}

/// Approved by us and for us: signed. Everything else is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_is_signed() {
    let scene = Scene::new(shared(), "csr-signed", "").await;
    let running = scene.setup.serve().await;
    let pending = scene.request(&scene.istiod, &web(1), |_| {}).await;
    let foreign = scene
        .request(&scene.istiod, &web(2), |object| {
            object["spec"]["signerName"] = "other.example/mesh".into();
        })
        .await;
    scene.approve(&foreign).await;
    let approved = scene.approved(&web(3)).await;

    let chain = scene.signed(&approved).await;
    scene.verify(&chain);
    let parsed = parse_pem_chain(chain.as_bytes()).unwrap();
    assert_eq!(parsed[0].names()[0].to_string(), web(3));
    assert!(parsed.len() > 1, "with its intermediates");
    let life = parsed[0].not_after().since(parsed[0].not_before());
    assert_eq!(
        life,
        Duration::from_secs(3600 + 120),
        "the requested lifetime, and the backdating"
    );

    // Earlier than the one that was signed, and still as they were.
    for name in [&pending, &foreign] {
        let object = scene.read(name).await;
        assert_eq!(certificate(&object), None);
        let conditions = object.status.unwrap_or_default().conditions;
        assert!(
            conditions
                .unwrap_or_default()
                .iter()
                .all(|c| c.type_ == "Approved")
        );
    }
    scene.approve(&pending).await;
    scene.signed(&pending).await;

    let rows = scene.setup.certificates(&[]);
    let row = rows.iter().find(|row| row["subject"] == web(3)).unwrap();
    let caller = row["caller"].to_string();
    assert!(caller.contains("/ns/csr-signed/sa/istiod"), "{row}");
    assert!(caller.contains("CertificateSigningRequest"), "{row}");
    running.stop().await;
}

/// Each refusal is on the object, with a reason, and nothing is recorded for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_fails_with_a_reason() {
    let server = shared();
    let scene = Scene::new(server, "csr-refused", "").await;
    scene.setup.edit(
        "profile = \"workload\"\nrequesters",
        "profile = \"server\"\nrequesters",
    );
    let running = scene.setup.serve().await;
    let csrs = ["certificatesigningrequests"];
    let may = vec![rule("certificates.k8s.io", &csrs, &["create"], &[])];
    let other = granted(&scene.admin, "csr-refused", "other", may).await;
    let other = server.client_as(&other).await;
    let server_only = |object: &mut Value| object["spec"]["usages"] = json!(["server auth"]);
    let cases: [(&str, &Client, &str, Change<'_>); 11] = [
        ("RequesterNotTrusted", &other, &web(1), &server_only),
        ("RequesterNotTrusted", &scene.admin, &web(1), &server_only),
        (
            "NamesNotAllowed",
            &scene.istiod,
            "spiffe://cluster.local/ns/bank/sa/till",
            &server_only,
        ),
        (
            "NamesNotAllowed",
            &scene.istiod,
            "spiffe://other.example/ns/shop/sa/web",
            &server_only,
        ),
        ("NamesNotAllowed", &scene.istiod, "", &server_only),
        (
            "MalformedRequest",
            &scene.istiod,
            "spiffe://a,evil.example,b/ns/x/sa/y",
            &server_only,
        ),
        (
            "MalformedRequest",
            &scene.istiod,
            "spiffe://cluster.local/ns/shop/sa/*",
            &server_only,
        ),
        (
            "MalformedRequest",
            &scene.istiod,
            "spiffe://cluster.local/ns/bank%2f..%2fshop/sa/web-1",
            &server_only,
        ),
        (
            "NamesNotAllowed",
            &scene.istiod,
            "spiffe://cluster.local/ns/shop/sa/web-1/x",
            &server_only,
        ),
        ("UsageNotAllowed", &scene.istiod, &web(1), &|_| {}),
        (
            "MalformedRequest",
            &scene.istiod,
            &web(1),
            // Two names, one of them of a kind that is never certified: the API server takes it.
            &|object| {
                server_only(object);
                object["spec"]["request"] = json!(ByteString(mail_csr().into_bytes()));
            },
        ),
    ];
    for (reason, client, san, change) in cases {
        let name = scene.request(client, san, |object| change(object)).await;
        scene.approve(&name).await;
        let (found, message) = scene.failed(&name).await;
        assert_eq!(found, reason, "{san}: {message}");
        assert!(!message.contains("profile `"), "{message}");
    }
    assert_eq!(scene.recorded(&web(1)), (0, 0));
    running.metrics_are_listed().await;
    running.stop().await;
}

fn mail_csr() -> String {
    let mut params = rcgen::CertificateParams::default();
    let mail = "a@b.example".try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::Rfc822Name(mail)];
    let key = rcgen::KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

/// Two hundred at once: each has its certificate, and one record.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once() {
    at_once(200, "csr-many").await;
}

/// `cargo test --release --test k8s -- --ignored --nocapture two_thousand_requests`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute of load; for figures"]
async fn two_thousand_requests() {
    at_once(2000, "csr-load").await;
}

/// Requests that wait when the server starts: each is signed, and has one record.
async fn at_once(count: usize, name: &str) {
    let scene = Scene::new(shared(), name, "").await;
    scene.setup.edit("level = \"trace\"", "level = \"info\"");
    let made = (0..count).map(|n| {
        let scene = &scene;
        async move { scene.approved(&web(n)).await }
    });
    let names: Vec<String> = stream::iter(made).buffered(64).collect().await;
    let started = Instant::now();
    let running = scene.setup.serve().await;
    let listed = started.elapsed();
    let api: Api<CertificateSigningRequest> = Api::all(scene.admin.clone());
    let ours = ListParams::default().fields(&format!("spec.signerName={}", scene.signer));
    eventually(PATIENCE * 2, "all signed", async || {
        let all = api.list(&ours).await.unwrap().items;
        all.iter().filter_map(certificate).count() == count
    })
    .await;
    let took = started.elapsed().saturating_sub(listed);
    let rate = count as f64 / took.as_secs_f64();
    eprintln!("{count} CSRs: {took:?}, {rate:.0}/s, after the start of {listed:?}");
    one_record_each(&scene, count);
    let counted =
        "rootbridge_cluster_objects_total{signer=\"istio\",cluster=\"east\",result=\"issued\"}";
    eventually(PATIENCE, "the count", async || {
        running.metric(counted).await == Some(count as f64)
    })
    .await;
    for name in names {
        api.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    running.stop().await;
}

fn one_record_each(scene: &Scene, count: usize) {
    let rows = scene.setup.certificates(&[]);
    for n in 0..count {
        let of: Vec<_> = rows.iter().filter(|row| row["subject"] == web(n)).collect();
        assert_eq!(of.len(), 1, "{of:?}");
        assert_eq!(of[0]["state"], "issued", "{of:?}");
    }
}

/// Killed in the middle, several times: none has two records, and each object's certificate is the
/// recorded one.
#[tokio::test(flavor = "multi_thread")]
async fn none_is_signed_twice_by_a_server_that_dies() {
    const COUNT: usize = 60;
    let scene = Scene::new(shared(), "csr-killed", "").await;
    let names = join_all((0..COUNT).map(async |n| scene.approved(&web(n)).await)).await;
    let api: Api<CertificateSigningRequest> = Api::all(scene.admin.clone());
    let ours = ListParams::default().fields(&format!("spec.signerName={}", scene.signer));
    let signed = async || {
        let all = api.list(&ours).await.unwrap().items;
        all.iter().filter_map(certificate).count()
    };
    for at in [1, COUNT / 4, COUNT / 2] {
        let mut running = scene.setup.serve().await;
        eventually(PATIENCE, "some signed", async || signed().await >= at).await;
        running.kill();
    }
    let running = scene.setup.serve().await;
    eventually(PATIENCE, "all signed", async || signed().await == COUNT).await;
    one_record_each(&scene, COUNT);
    let rows = scene.setup.certificates(&[]);
    for (n, name) in names.iter().enumerate() {
        let chain = scene.signed(name).await;
        let leaf = parse_pem_chain(chain.as_bytes()).unwrap().remove(0);
        let row = rows.iter().find(|row| row["subject"] == web(n)).unwrap();
        assert_eq!(row["serial_number"], leaf.serial().to_string());
    }
    running.stop().await;
}

/// A server that stops, crashes and comes back: what was approved meanwhile is signed soon after.
/// The other cluster notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_goes_away_recovers_by_itself() {
    let mut server = ApiServer::start();
    let mut scene = Scene::new(&server, "csr-away", "").await;
    let other = Scene::new(shared(), "csr-stays", "").await;
    // One CA for both.
    let kubeconfig = other.setup.path("east.kubeconfig");
    let section = format!(
        "[clusters.west]\ntrust_domain = \"cluster.local\"\nkubeconfig = \"{}\"\n\n\
         [csr_signers.west]\nsigner_name = \"{}\"\nclusters = [\"west\"]\n\
         profile = \"workload\"\nrequesters = [\"csr-stays/istiod\"]\n\n\
         [[policy.rules]]\ncallers = [\"spiffe://cluster.local/ns/csr-stays/sa/istiod\"]\n\
         profiles = [\"workload\"]\nnames = [\"spiffe://cluster.local/ns/shop/sa/*\"]\n\n[admin]",
        kubeconfig.display(),
        other.signer
    );
    scene.setup.edit("[admin]", &section);
    let running = scene.setup.serve().await;
    let first = scene.approved(&web(0)).await;
    scene.signed(&first).await;

    server.pause();
    let meanwhile = other.approved(&web(1)).await;
    other.signed(&meanwhile).await;
    server.resume();
    let next = scene.approved(&web(2)).await;
    scene.signed(&next).await;

    server.crash();
    let meanwhile = other.approved(&web(3)).await;
    other.signed(&meanwhile).await;
    eventually(PATIENCE, "the watch is down", async || {
        let watch = "rootbridge_cluster_watch_up{signer=\"istio\",cluster=\"east\"}";
        running.metric(watch).await == Some(0.0)
    })
    .await;
    server.restart();
    scene.admin = server.client().await;
    let name = scene.request(&scene.admin, &web(4), |_| {}).await;
    scene.approve(&name).await;
    // The administrator's own: answered, by a refusal.
    assert_eq!(scene.failed(&name).await.0, "RequesterNotTrusted");
    running.stop().await;
}
