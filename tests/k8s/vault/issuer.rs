//! A real cert-manager whose issuers are this server's Vault API, as docs/how-to/cert-manager.md has it.

use std::fs;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use rootbridge::clock::{Clock as _, SystemClock};
use rootbridge::x509::{Certificate, parse_pem_chain, verify_ca_path};
use rootbridge_test_support::files::{documented, write_secret};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::{Value, json};

use super::Vault;
use crate::access::Credential;
use crate::callers::credential;
use crate::cert_manager::{define_resources, start};
use crate::chart::apply;
use crate::objects::{create, namespace, service_account};
use crate::rootbridge::rootbridge;
use crate::server::shared;

const NS: &str = "vault-issuer";
const CONTROLLERS: &str = "issuers,certificaterequests-issuer-vault,certificaterequests-approver,\
     certificates-issuing,certificates-key-manager,certificates-readiness,certificates-request-manager,\
     certificates-revision-manager,certificates-trigger";

/// The page's configuration, with a role of certificates that end soon.
fn configured(credential: &Credential) -> TestServer {
    let setup = rootbridge(&[("east", shared(), credential)], "");
    let file = setup.path("cert-manager.token");
    write_secret(
        &file,
        &fs::read_to_string(setup.path("operator.token")).unwrap(),
    );
    let mut text = documented("cert-manager.md", "toml");
    let kubeconfig = setup.path("east.kubeconfig").display().to_string();
    for (from, to) in [
        ("0.0.0.0:8200", "127.0.0.1:0"),
        (
            "\"rootbridge.rootbridge.svc\"",
            "\"rootbridge.rootbridge.svc\", \"localhost\"",
        ),
        (
            "/etc/rootbridge/cert-manager.token",
            &*file.display().to_string(),
        ),
        (
            "audiences = { vault",
            &format!("kubeconfig = \"{kubeconfig}\"\naudiences = {{ vault"),
        ),
        (
            "profile = \"web\"",
            "profile = \"web\"\nroles = { brief = \"brief\" }",
        ),
        (
            "[[policy.rules]]",
            "[profiles.brief]\ndefault_ttl = \"15s\"\nmax_ttl = \"15s\"\nbackdate = \"1s\"\n\n\
             [[policy.rules]]",
        ),
        ("profiles = [\"web\"]", "profiles = [\"web\", \"brief\"]"),
        ("/ns/shop/", &format!("/ns/{NS}/")),
    ] {
        assert!(text.contains(from), "{from} in\n{text}");
        text = text.replace(from, to);
    }
    let made =
        format!("\n[clusters.east]\ntrust_domain = \"{TD}\"\nkubeconfig = \"{kubeconfig}\"\n");
    setup.edit(&made, &text);
    setup
}

fn api(client: &Client, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cert-manager.io", "v1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Api::namespaced_with(client.clone(), NS, &resource)
}

/// The message and status of an object's condition.
async fn condition(api: &Api<DynamicObject>, name: &str, kind: &str) -> (String, String) {
    let object = api.get(name).await.unwrap();
    let all = object.data["status"]["conditions"].as_array().cloned();
    let all = all.unwrap_or_default();
    let found = all.iter().find(|each| each["type"] == kind);
    let text = |name: &str| {
        found
            .and_then(|each| each[name].as_str())
            .unwrap_or_default()
    };
    (text("status").to_owned(), text("message").to_owned())
}

/// The page's issuer, and three that differ in how they log in.
async fn issuers(client: &Client, setup: &TestServer, server: &RunningServer) {
    let url = format!("https://localhost:{}", server.port_of("vault"));
    let text = documented("cert-manager.md", "yaml")
        .replace("https://rootbridge.rootbridge.svc:8200", &url)
        .replace("namespace: shop", &format!("namespace: {NS}"));
    let by_account: Value = serde_saphyr::from_str(&text).unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NS);
    for (name, key, value) in [
        ("rootbridge-ca", "ca.crt", setup.roots(TD)),
        ("cert-manager", "credential", setup.operator.clone()),
    ] {
        let data = json!({ key: value });
        create(
            &secrets,
            json!({ "metadata": { "name": name }, "stringData": data }),
        )
        .await;
    }
    let secret = json!({ "name": "cert-manager", "key": "credential" });
    let approle = |role: &str| json!({ "appRole": { "path": "approle", "roleId": role, "secretRef": secret } });
    for (name, path, auth) in [
        ("approle", "pki/sign/web", approle("cert-manager")),
        (
            "token",
            "pki/sign/brief",
            json!({ "tokenSecretRef": secret }),
        ),
        ("nobody", "pki/sign/web", approle("nobody")),
    ] {
        let mut issuer = by_account.clone();
        issuer["metadata"]["name"] = name.into();
        issuer["spec"]["vault"]["path"] = path.into();
        issuer["spec"]["vault"]["auth"] = auth;
        apply(client, &issuer, false).await.unwrap();
    }
    apply(client, &by_account, false).await.unwrap();
}

async fn certificate(client: &Client, name: &str, issuer: &str, spec: Value) {
    let mut object = json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": { "name": name, "namespace": NS },
        "spec": spec,
    });
    object["spec"]["secretName"] = name.into();
    object["spec"]["issuerRef"] = json!({ "name": issuer, "kind": "Issuer" });
    apply(client, &object, false).await.unwrap();
}

/// What a Secret holds, verified to the root that it holds; `None` before it is there.
async fn issued(client: &Client, setup: &TestServer, name: &str) -> Option<Certificate> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NS);
    let data = secrets.get_opt(name).await.unwrap()?.data?;
    let chain = data.get("tls.crt").filter(|chain| !chain.0.is_empty())?;
    let mut chain = parse_pem_chain(&chain.0).unwrap();
    let leaf = chain.remove(0);
    let root = parse_pem_chain(&data["ca.crt"].0).unwrap();
    let known = parse_pem_chain(setup.roots(TD).as_bytes()).unwrap();
    assert!(
        root[0].der() == known[0].der(),
        "the root is the last of the chain"
    );
    verify_ca_path(&chain, &root, SystemClock.now()).unwrap();
    leaf.verify_signed_by(chain[0].public_key()).unwrap();
    Some(leaf)
}

/// A Certificate's Secret once it is ready.
async fn ready(client: &Client, setup: &TestServer, name: &str) -> Certificate {
    let certificates = api(client, "Certificate", "certificates");
    let mut said = String::new();
    let mut found = None;
    eventually(
        PATIENCE * 4,
        &format!("the certificate {name}"),
        async || {
            let (status, message) = condition(&certificates, name, "Ready").await;
            said = message;
            if status == "True" {
                found = issued(client, setup, name).await;
            }
            found.is_some()
        },
    )
    .await;
    let leaf = found.unwrap();
    assert_eq!(
        leaf.names()[0].to_string(),
        format!("dns:{name}.shop.svc"),
        "{said}"
    );
    leaf
}

/// Certificates by each login, one that is renewed when its time comes, one that policy refuses, and an
/// issuer whose secret is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn cert_managers_vault_issuer_is_served() {
    let client = shared().client().await;
    define_resources(&client, &["certificaterequests", "certificates", "issuers"]).await;
    namespace(&client, NS).await;
    service_account(&client, NS, "issuer").await;
    let credential = credential(&client, NS).await;
    let setup = configured(&credential);
    let server = setup.serve().await;
    Vault::connect(&setup, &server).await;
    issuers(&client, &setup, &server).await;
    let directory = setup.path("cert-manager");
    fs::create_dir_all(&directory).unwrap();
    let controllers = start(shared(), &directory, NS, CONTROLLERS);

    let modern = json!({ "algorithm": "ECDSA", "size": 256 });
    for (name, issuer, spec) in [
        // As cert-manager does without being told: an RSA key and 90 days.
        (
            "account",
            "rootbridge",
            json!({ "dnsNames": ["account.shop.svc"] }),
        ),
        (
            "role",
            "approle",
            json!({
                "commonName": "role.shop.svc", "dnsNames": ["role.shop.svc"], "duration": "1h",
                "privateKey": modern, "usages": ["server auth"],
            }),
        ),
        (
            "token",
            "token",
            json!({ "dnsNames": ["token.shop.svc"], "privateKey": modern }),
        ),
        (
            "denied",
            "approle",
            json!({ "dnsNames": ["denied.bank.svc"], "privateKey": modern }),
        ),
    ] {
        certificate(&client, name, issuer, spec).await;
    }
    let life = |leaf: &Certificate| leaf.not_after().since(leaf.not_before()).as_secs();
    let leaf = ready(&client, &setup, "account").await;
    assert!(life(&leaf) > 89 * 86_400, "{} s", life(&leaf));
    let callers = crate::callers::recorded(&setup, "token_review");
    let account = format!("spiffe://{TD}/ns/{NS}/sa/issuer");
    assert!(!callers.is_empty(), "{account} is on record");
    assert_eq!(callers[0]["cluster"], "east");
    let leaf = ready(&client, &setup, "role").await;
    assert!((3600..=3720).contains(&life(&leaf)), "{} s", life(&leaf));

    // What is refused says so, with the id under which this server's log has the reason.
    let certificates = api(&client, "Certificate", "certificates");
    let mut said = String::new();
    eventually(PATIENCE * 4, "the refusal", async || {
        let (status, message) = condition(&certificates, "denied", "Issuing").await;
        said = message;
        status == "False" && !said.is_empty()
    })
    .await;
    let public = "policy does not let this caller have this name under this profile [request ";
    let (_, id) = said.split_once(public).unwrap_or_else(|| panic!("{said}"));
    let (id, _) = id.split_once(']').unwrap();
    let log = server.log();
    let mut lines = log.lines().filter(|line| line.contains(id));
    assert!(lines.any(|line| line.contains("denied.bank.svc")), "{id}");
    let issuers = api(&client, "Issuer", "issuers");
    eventually(PATIENCE * 4, "the issuer that cannot log in", async || {
        let (status, message) = condition(&issuers, "nobody", "Ready").await;
        said = message;
        status == "False"
    })
    .await;
    // The same text each time, so that cert-manager waits longer from attempt to attempt.
    assert!(said.ends_with("* invalid role or secret ID"), "{said}");

    // Renewed when two thirds of its 15 seconds are over, with a new key.
    let first = ready(&client, &setup, "token").await;
    eventually(PATIENCE * 4, "two renewals", async || {
        assert!(!controllers.ended(), "{}", controllers.log());
        let object = certificates.get("token").await.unwrap();
        object.data["status"]["revision"].as_u64() >= Some(3)
    })
    .await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NS);
    let data = secrets.get("token").await.unwrap().data.unwrap();
    let renewed = parse_pem_chain(&data["tls.crt"].0).unwrap().remove(0);
    assert_ne!(renewed.serial(), first.serial());
    assert_ne!(
        renewed.public_key().spki_der(),
        first.public_key().spki_der()
    );
    drop(controllers);
    server.stop().await;
}
