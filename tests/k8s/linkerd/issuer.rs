//! An issuer for Linkerd's own controller: made, verified, put back, renewed; and what the
//! controller, whose part is played here, says of it.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use rootbridge::x509::{Certificate, KeyKind, parse_pem_chain};
use serde_json::{Value, json};

use super::verify::{sign_and_verify, verify_issuer, verify_ledger};
use crate::chart;
use crate::objects::create;
use crate::rootbridge::rootbridge_of;
use crate::server::{ApiServer, shared};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, openssl};

const NAME: &str = "linkerd-identity-issuer";
const PROFILE: &str = "linkerd-issuer";

/// A CA with this path length, and what the chart lets it do for a controller in `control`.
async fn feeder(
    server: &ApiServer,
    control: &str,
    path_len: &str,
    more: &str,
) -> (TestServer, Client) {
    let admin = server.client().await;
    let values = chart::set(&[
        &format!("fullnameOverride={control}"),
        "authentication.enabled=false",
        &format!("linkerdIssuers.main.control_namespace={control}"),
    ]);
    let credential = chart::rights(&admin, control, &values).await;
    let section = format!(
        "\n[linkerd_issuers.main]\ncluster = \"east\"\ncontrol_namespace = \"{control}\"\n\
         acceptance_timeout = \"5s\"\n{more}"
    );
    let clusters = [("east", server, &credential)];
    let setup = rootbridge_of(&["--path-len", path_len], &clusters, &section);
    (setup, admin)
}

pub(super) fn data(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().unwrap();
    String::from_utf8(data[key].0.clone()).unwrap()
}

pub(super) fn chain(secret: &Secret) -> Vec<Certificate> {
    parse_pem_chain(data(secret, "tls.crt").as_bytes()).unwrap()
}

/// The secret, once it is there and `right` says so.
async fn secret(api: &Api<Secret>, what: &str, right: impl Fn(&Secret) -> bool) -> Secret {
    let mut found = None;
    eventually(PATIENCE, what, async || {
        let now = api.get_opt(NAME).await.unwrap();
        let whole = |secret: &Secret| {
            let data = secret.data.as_ref();
            data.is_some_and(|data| data.contains_key("tls.crt"))
        };
        found = now.filter(whole).filter(&right);
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// The controller's event, as its recorder writes it.
async fn event(client: &Client, control: &str, kind: &str, reason: &str, message: &str) -> String {
    let api: Api<Event> = Api::namespaced(client.clone(), control);
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let event = json!({
        "metadata": { "generateName": "linkerd-identity." },
        "involvedObject": {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "linkerd-identity",
            "namespace": control,
        },
        "type": kind, "reason": reason, "message": message, "count": 1,
        "source": { "component": "linkerd-identity" },
        "firstTimestamp": now, "lastTimestamp": now,
    });
    create(&api, event).await.name_any()
}

async fn taken(running: &RunningServer) -> Option<f64> {
    let name = "rootbridge_linkerd_issuer_taken{issuer=\"main\",cluster=\"east\"}";
    running.metric(name).await
}

/// What the ledger has of these: subjects of CA certificates that were issued.
fn recorded(setup: &TestServer) -> Vec<Value> {
    let rows = setup.certificates(&[]).into_iter();
    rows.filter(|row| row["profile"] == PROFILE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_is_created_reconciled_and_accepted() {
    let control = "lk-feed";
    let (setup, admin) = feeder(shared(), control, "1", "").await;
    let api: Api<Secret> = Api::namespaced(admin.clone(), control);
    // Older than the write: it does not count.
    let stale = event(&admin, control, "Normal", "IssuerUpdated", "Updated").await;
    let running = setup.serve().await;
    let first = secret(&api, "the issuer", |_| true).await;
    assert_eq!(first.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(data(&first, "ca.crt"), setup.roots(TD));
    let path = chain(&first);
    // The issuer, then the CA in the HSM; not the anchor.
    assert_eq!(path.len(), 2);
    let own = &path[0];
    assert!(own.is_ca() && own.path_len() == Some(0));
    assert_eq!(own.public_key().kind(), KeyKind::EcdsaP256);
    let name = format!("identity.{control}.{TD}");
    assert_eq!(own.names().len(), 1);
    assert_eq!(own.names()[0].to_string(), format!("dns:{name}"));
    assert_eq!(own.subject(), format!("CN={name}"));
    let life = own.not_after().since(own.not_before());
    let hours = Duration::from_secs(48 * 3600);
    assert!(
        life >= hours && life < hours + Duration::from_secs(600),
        "{life:?}"
    );
    assert!(own.not_after() <= path[1].not_after());
    sign_and_verify(&setup, &first);
    verify_issuer(&setup, &first);

    // It said nothing, then that it could not, then that it did.
    running.wait_for_log("it reported nothing within 5 s").await;
    running
        .wait_for_log("kubectl rollout restart deploy/linkerd-identity -n lk-feed")
        .await;
    assert_eq!(taken(&running).await, Some(0.0));
    let serial = |secret: &Secret| chain(secret)[0].serial().to_string();
    api.delete(NAME, &DeleteParams::default()).await.unwrap();
    let second = secret(&api, "it is back", |_| true).await;
    assert_ne!(serial(&first), serial(&second));
    let why = "Skipping issuer update as certs could not be read from disk: no";
    event(&admin, control, "Warning", "IssuerUpdateSkipped", why).await;
    running
        .wait_for_log(&format!("the controller reports: {why}"))
        .await;
    assert_eq!(taken(&running).await, Some(0.0));
    // Its recorder counts a repetition in the same object.
    let events: Api<Event> = Api::namespaced(admin.clone(), control);
    let later = k8s_openapi::jiff::Timestamp::now().to_string();
    let again = Patch::Merge(json!({ "count": 2, "lastTimestamp": later }));
    events
        .patch(&stale, &PatchParams::default(), &again)
        .await
        .unwrap();
    eventually(PATIENCE, "it is taken", async || {
        taken(&running).await == Some(1.0)
    })
    .await;
    running
        .wait_for_log("Linkerd's controller accepted its new issuer")
        .await;

    // Edited: put right, with another key. What others add is left alone.
    let mut last = second;
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        let patch = Patch::Merge(json!({ "stringData": { key: "nonsense", "theirs": "kept" } }));
        api.patch(NAME, &PatchParams::default(), &patch)
            .await
            .unwrap();
        let right = |secret: &Secret| data(secret, key) != "nonsense";
        let next = secret(&api, key, right).await;
        assert_ne!(serial(&last), serial(&next));
        assert_eq!(data(&next, "theirs"), "kept");
        last = next;
    }
    assert_eq!(taken(&running).await, Some(0.0));
    sign_and_verify(&setup, &last);

    // Another key with the same certificate does not fit, and is not the controller's to find out.
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let patch = Patch::Merge(json!({ "stringData": { "tls.key": other } }));
    api.patch(NAME, &PatchParams::default(), &patch)
        .await
        .unwrap();
    let next = secret(&api, "a key", |secret| data(secret, "tls.key") != other).await;
    assert_ne!(serial(&last), serial(&next));

    // Right as it is: a restart changes nothing.
    running.metrics_are_listed().await;
    let log = running.log();
    running.stop().await;
    let again = setup.serve().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let now = api.get(NAME).await.unwrap();
    assert_eq!(serial(&now), serial(&next));
    let log = log + &again.log();
    again.stop().await;

    let rows = recorded(&setup);
    assert_eq!(rows.len(), 6, "{rows:#?}");
    for row in &rows {
        assert_eq!(
            (&row["kind"], &row["state"]),
            (&json!("ca"), &json!("issued")),
            "{row}"
        );
        assert_eq!(row["subject"], format!("dns:{name}"), "{row}");
    }
    let check: Value =
        serde_json::from_slice(&setup.try_cli(&["check", "-o", "json"]).stdout).unwrap();
    for found in check["checks"].as_array().unwrap() {
        let all = ["ledger", "linkerd", "chain"].map(Value::from);
        assert!(
            !all.contains(&found["category"]) || found["result"] == "ok",
            "{found}"
        );
    }
    verify_ledger(&setup);
    for secret in [&first, &last, &now] {
        for line in data(secret, "tls.key")
            .lines()
            .filter(|line| !line.starts_with('-'))
        {
            assert!(!log.contains(line), "the key is in the log");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_renewed_at_half_of_its_life() {
    let control = "lk-renewed";
    let profile = "\n[profiles.linkerd-issuer]\ndefault_ttl = \"20s\"\nmax_ttl = \"20s\"\nbackdate = \"1s\"\n";
    let (setup, admin) = feeder(shared(), control, "1", profile).await;
    let api: Api<Secret> = Api::namespaced(admin.clone(), control);
    let running = setup.serve().await;
    let mut last = secret(&api, "the issuer", |_| true).await;
    for _ in 0..2 {
        let before = chain(&last).remove(0);
        let next = secret(&api, "its successor", |secret| {
            chain(secret)[0].serial() != before.serial()
        })
        .await;
        let after = chain(&next).remove(0);
        let apart = after.not_before().since(before.not_before()).as_secs();
        // Half of 21 s, less the second that each begins in the past.
        assert!((9..19).contains(&apart), "{apart} s");
        assert_ne!(before.public_key(), after.public_key());
        sign_and_verify(&setup, &next);
        last = next;
    }
    running.stop().await;
}

/// Path length 0: no issuer is made, and the log says what to do. Then with path length 1.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuing_ca_with_path_length_0_makes_none_until_it_has_more() {
    let control = "lk-path-len";
    let (setup, admin) = feeder(shared(), control, "0", "").await;
    let api: Api<Secret> = Api::namespaced(admin.clone(), control);
    let checked = || {
        let output = setup.try_cli(&["check", "-o", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = report["checks"].as_array().unwrap().clone();
        let own = all.into_iter().find(|check| check["category"] == "linkerd");
        own.unwrap()
    };
    let check = checked();
    assert_eq!(check["result"], "failed", "{check}");
    let command = format!("rootbridge ca request --trust-domain {TD} --path-len 1");
    assert!(
        check["hint"].as_str().unwrap().contains(&command),
        "{check}"
    );

    let running = setup.serve().await;
    running.wait_for_log(&command).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(api.get_opt(NAME).await.unwrap().is_none());
    assert!(recorded(&setup).is_empty());

    // As the command says: another issuing CA, below the enterprise's root.
    let enterprise = openssl::OpensslCa::new(&setup.path(""), "enterprise");
    let root = setup.path("enterprise.pem");
    fs::write(&root, enterprise.pem()).unwrap();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "test"];
    setup.cli(&[&add[..], &[root.to_str().unwrap()]].concat());
    let mut request: Vec<&str> = command.split(' ').skip(1).collect();
    request.extend(["--organization", "Other"]);
    let csr = setup.cli(&request);
    let answer = setup.path("answer.pem");
    // For a day: what is below it ends with it, though it asks for two.
    let day = enterprise.sign(&csr, &openssl::ca(Some(1)), &["-days", "1"]);
    fs::write(&answer, day + &enterprise.pem()).unwrap();
    setup.cli(&["ca", "import", answer.to_str().unwrap()]);
    let first = secret(&api, "the issuer", |_| true).await;
    assert_eq!(data(&first, "ca.crt").matches("BEGIN").count(), 2);
    let path = chain(&first);
    assert_eq!(path[0].not_after(), path[1].not_after());
    assert_eq!(checked()["result"], "ok");

    // Another bundle: in the secret a moment later, with another key.
    let next = openssl::OpensslCa::new(&setup.path(""), "next");
    fs::write(&root, next.pem()).unwrap();
    setup.cli(&[&add[..], &[root.to_str().unwrap()]].concat());
    let second = secret(&api, "three roots", |secret| {
        data(secret, "ca.crt").matches("BEGIN").count() == 3
    })
    .await;
    assert_ne!(data(&first, "tls.key"), data(&second, "tls.key"));

    // And with path length 0 again: existing objects are unchanged, and no issuer is made.
    let mut request: Vec<&str> = vec!["ca", "request", "--trust-domain", TD];
    request.extend(["--organization", "Third"]);
    let csr = setup.cli(&request);
    fs::write(&answer, enterprise.certify(&csr, 0) + &enterprise.pem()).unwrap();
    let made = recorded(&setup).len();
    setup.cli(&["ca", "import", answer.to_str().unwrap()]);
    eventually(PATIENCE, "refused again", async || {
        running.log().matches(&command).count() >= 2
    })
    .await;
    let now = api.get(NAME).await.unwrap();
    assert_eq!(data(&now, "tls.crt"), data(&second, "tls.crt"));
    assert_eq!(recorded(&setup).len(), made);
    running.stop().await;
}

/// A secret of the type that Linkerd's CLI makes cannot be taken over, and nothing is signed for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_type_is_left_to_its_owner() {
    let control = "lk-foreign";
    let (setup, admin) = feeder(shared(), control, "1", "").await;
    let api: Api<Secret> = Api::namespaced(admin.clone(), control);
    let theirs = json!({ "metadata": { "name": NAME }, "stringData": { "crt.pem": "x" } });
    create(&api, theirs).await;
    let running = setup.serve().await;
    running.wait_for_log("field is immutable").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(recorded(&setup).is_empty());
    api.delete(NAME, &DeleteParams::default()).await.unwrap();
    secret(&api, "the issuer", |_| true).await;
    running.stop().await;
}

/// While the HSM is unavailable at renewal, the existing issuer is unchanged; it is renewed later.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_hsm_existing_objects_are_unchanged() {
    let control = "lk-away";
    let profile = "\n[profiles.linkerd-issuer]\ndefault_ttl = \"40s\"\nmax_ttl = \"40s\"\nbackdate = \"1s\"\n";
    let (setup, admin) = feeder(shared(), control, "1", profile).await;
    let api: Api<Secret> = Api::namespaced(admin.clone(), control);
    let command = setup.use_faulty_module();
    let running = setup.serve().await;
    let first = secret(&api, "the issuer", |_| true).await;
    // CKR_DEVICE_ERROR
    command("sign_rv 48\n");
    running
        .wait_for_log("the issuer of Linkerd's controller not written")
        .await;
    let now = api.get(NAME).await.unwrap();
    assert_eq!(now.data, first.data);
    command("");
    let before = chain(&first).remove(0);
    let next = secret(&api, "its successor", |secret| {
        chain(secret)[0].serial() != before.serial()
    })
    .await;
    assert!(
        chain(&next)[0].not_before() < before.not_after(),
        "without a gap"
    );
    sign_and_verify(&setup, &next);
    running.stop().await;
    verify_ledger(&setup);
}
