//! A real cert-manager as the upstream CA: its controllers, its CA issuer, its approver.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use reqwest::Method;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::files::{documented, repository};
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::under_load::{Kills, every_key_is_recorded, workloads_are_served};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::{Value, json};

use super::access::Credential;
use super::chart::apply;
use super::guarded_process::GuardedProcess;
use super::objects::{create, namespace, service_account, token};
use super::server::{ApiServer, shared};

const PKI: &str = "upstream-pki";
const OWN: &str = "upstream-rootbridge";
const CONTROLLERS: &str = "certificaterequests-issuer-ca,issuers";
const APPROVER: &str = "certificaterequests-approver";

/// The resources that the controllers look at, as they are defined for real clusters.
pub(crate) async fn define_resources(client: &Client, names: &[&str]) {
    for name in names {
        let file =
            repository("build/cert-manager/crds").join(format!("cert-manager.io_{name}.yaml"));
        let text = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; run `make setup`", file.display()));
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        let defined = apply(client, &object, false).await.unwrap().name_any();
        eventually(PATIENCE * 4, &defined, async || {
            let group = client.list_api_group_resources("cert-manager.io/v1").await;
            group.is_ok_and(|group| group.resources.iter().any(|each| each.name == *name))
        })
        .await;
    }
}

/// Some of cert-manager's controllers, by their names, for one namespace.
pub(crate) fn start(
    server: &ApiServer,
    directory: &Path,
    namespace: &str,
    names: &str,
) -> GuardedProcess {
    let kubeconfig = directory.join("cert-manager.kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig(&server.admin())).unwrap();
    let program = repository("build/cert-manager/controllers");
    assert!(
        program.exists(),
        "no {}; run `make setup`",
        program.display()
    );
    let arguments = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--namespace={namespace}"),
        format!("--controllers={names}"),
    ];
    let log = names.split(',').next().unwrap();
    GuardedProcess::start(&program, &arguments, &directory.join(log), None)
}

fn requests(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cert-manager.io", "v1", "CertificateRequest");
    let resource = ApiResource::from_gvk_with_plural(&kind, "certificaterequests");
    Api::namespaced_with(client.clone(), PKI, &resource)
}

/// An issuer with a CA of the enterprise's below its root.
async fn issuer(client: &Client, root: &OpensslCa) {
    let middle = root.intermediate("middle");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), PKI);
    let chain = middle.pem() + &root.pem();
    let key = fs::read_to_string(middle.key_file()).unwrap();
    let secret = json!({
        "metadata": { "name": "corp-ca" },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": chain, "tls.key": key },
    });
    create(&secrets, secret).await;
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": { "name": "corp-ca", "namespace": PKI },
        "spec": { "ca": { "secretName": "corp-ca" } },
    });
    apply(client, &issuer, false).await.unwrap();
}

/// What docs/how-to/upstream-cert-manager.md grants, and nothing else.
async fn least_privilege(client: &Client) -> Credential {
    let rules = documented("upstream-cert-manager.md", "yaml");
    let rules = rules.replace("namespace: pki", &format!("namespace: {PKI}"));
    let rules = rules.replace("namespace: rootbridge", &format!("namespace: {OWN}"));
    service_account(client, OWN, "rootbridge").await;
    for document in rules.split("---\n") {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        apply(client, &object, false).await.unwrap();
    }
    Credential::Token(token(client, (OWN, "rootbridge"), &[], 86_400, None).await)
}

/// Certificates of seconds, below an issuing CA that is renewed after a tenth of 150 seconds.
fn configured(server: &ApiServer, credential: &Credential) -> TestServer {
    let setup = TestServer::bare();
    for (from, to) in [
        ("default_ttl = \"24h\"", "default_ttl = \"10s\""),
        ("backdate = \"2m\"", "backdate = \"1s\""),
        (
            "[istio]",
            "[profiles.serving]\ndefault_ttl = \"20s\"\nbackdate = \"1s\"\n\n[istio]",
        ),
        (
            "[\"short\", \"gold\", \"workload\"]",
            "[\"short\", \"workload\"]",
        ),
        (
            "[\"workload\", \"short\", \"ignore\"]",
            "[\"workload\", \"short\"]",
        ),
    ] {
        setup.edit(from, to);
    }
    let kubeconfig = setup.path("east.kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig(credential)).unwrap();
    let text = format!(
        "{}\n[clusters.east]\ntrust_domain = \"{TD}\"\nkubeconfig = \"{}\"\n\n\
         [upstream.corp]\nkind = \"cert-manager\"\ncluster = \"east\"\nnamespace = \"{PKI}\"\n\
         issuer = \"corp-ca\"\npoll = \"1s\"\nlongest_poll = \"1s\"\nafter_refusal = \"1s\"\n\n\
         [authority.\"{TD}\"]\nupstream = \"corp\"\nttl = \"150s\"\nrenew_at = \"10%\"\n",
        fs::read_to_string(setup.config()).unwrap(),
        kubeconfig.display()
    );
    fs::write(setup.config(), text).unwrap();
    setup
}

async fn status(setup: &TestServer, server: &RunningServer) -> Value {
    let credential = Some(setup.operator.as_str());
    let (code, text) = server
        .admin_request(Method::GET, "/v1/status", credential)
        .await;
    assert_eq!(code, 200, "{text}");
    let status: Value = serde_json::from_str(&text).unwrap();
    status["upstream"][0].clone()
}

/// The name of the object of the request that is pending.
async fn pending(setup: &TestServer, server: &RunningServer, other: &str) -> String {
    let mut name = String::new();
    eventually(PATIENCE * 4, "a pending request", async || {
        let open = status(setup, server).await["request"].clone();
        let reference = open["reference"].as_str().unwrap_or_default();
        let mut parts = reference.split('/');
        name = parts.nth(1).unwrap_or_default().to_owned();
        open["state"] == "pending" && !name.is_empty() && name != other
    })
    .await;
    name
}

/// What `cmctl approve` and `cmctl deny` do.
async fn decide(client: &Client, name: &str, condition: &str) {
    let patch = json!({ "status": { "conditions": [{
        "type": condition, "status": "True", "reason": "Policy", "message": "minutes of Tuesday",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    let (api, patch) = (requests(client), Patch::Merge(patch));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// How many issuing CAs have a certificate.
fn certified(setup: &TestServer) -> usize {
    let issuers: Vec<Value> =
        serde_json::from_str(&setup.cli(&["ca", "list", "-o", "json"])).unwrap();
    let signed = issuers.iter().filter(|each| each["not_after"].is_string());
    signed.count()
}

/// Pending until it is approved, refused once it is denied, sent again when its object is replaced, and
/// renewed under the automatic approver, with the least rights.
#[tokio::test(flavor = "multi_thread")]
async fn cert_manager_certifies_and_renews_the_issuing_ca() {
    let server = shared();
    let client = server.client().await;
    define_resources(&client, &["certificaterequests", "issuers"]).await;
    namespace(&client, PKI).await;
    namespace(&client, OWN).await;
    let credential = least_privilege(&client).await;
    let setup = configured(server, &credential);
    let root = OpensslCa::new(&setup.path("enterprise"), "root");
    issuer(&client, &root).await;
    let directory = setup.path("cert-manager");
    fs::create_dir_all(&directory).unwrap();
    let controllers = start(server, &directory, PKI, CONTROLLERS);

    let mut found = String::new();
    // An API server that is busy may not answer in time.
    eventually(PATIENCE * 4, "upstream test", async || {
        let tested = setup.try_cli(&["upstream", "test", "corp"]);
        found = String::from_utf8_lossy(&tested.stdout).into_owned();
        tested.status.success()
    })
    .await;
    for says in [
        "it answers",
        "may create and get",
        "cert-manager is installed",
    ] {
        assert!(found.contains(says), "{found}");
    }

    let mut running = setup.start().await;
    let denied = pending(&setup, &running, "").await;
    let object = requests(&client).get(&denied).await.unwrap();
    assert_eq!(object.data["spec"]["isCA"], true);
    assert_eq!(object.data["spec"]["duration"], "150s");
    decide(&client, &denied, "Denied").await;
    eventually(PATIENCE * 4, "the refusal", async || {
        let status = status(&setup, &running).await;
        let why = status["last_refusal"].as_str().unwrap_or_default();
        why.contains("Denied") && why.contains("minutes of Tuesday")
    })
    .await;

    // Somebody replaces the next one by another of the same name, which is approved.
    let replaced = pending(&setup, &running, &denied).await;
    let mut copy = requests(&client).get(&replaced).await.unwrap();
    let uid = copy.uid().unwrap();
    requests(&client)
        .delete(&replaced, &Default::default())
        .await
        .unwrap();
    copy.metadata.uid = None;
    copy.metadata.resource_version = None;
    copy.metadata.annotations = Some([("stranger".to_owned(), "yes".to_owned())].into());
    // This server may have made its own in between.
    let _ = requests(&client).create(&Default::default(), &copy).await;
    eventually(PATIENCE * 4, "it is noticed", async || {
        let open = status(&setup, &running).await["request"].clone();
        let reference = open["reference"].as_str().unwrap_or_default().to_owned();
        reference.contains(&replaced) && !reference.contains(&uid)
    })
    .await;
    assert!(running.log().contains("upstream.forgotten"));
    assert_eq!(running.get("/readyz").await.0, 503, "nothing is approved");

    decide(&client, &replaced, "Approved").await;
    eventually(
        PATIENCE * 4,
        "a certificate below an unknown root",
        async || status(&setup, &running).await["request"]["state"] == "received",
    )
    .await;
    assert!(
        controllers.log().is_empty() || !controllers.ended(),
        "{}",
        controllers.log()
    );

    let approver = start(server, &directory, PKI, APPROVER);
    let certificate = rootbridge::x509::parse_pem_chain(root.pem().as_bytes())
        .unwrap()
        .remove(0);
    let fingerprint = rootbridge::digest::hex(&certificate.fingerprint());
    setup.cli(&["anchors", "approve", &fingerprint]);
    fs::write(setup.path(&format!("{TD}.pem")), root.pem()).unwrap();
    running.ready().await;
    // Three renewals of the first one.
    let wanted = rounds(4, 31);
    let limit = PATIENCE * 3 * u32::try_from(wanted).unwrap();
    let mut kills = Kills::new(rounds(1, 30), Duration::from_secs(15));
    let start = Instant::now();
    while certified(&setup) < wanted || !kills.are_done() {
        assert!(start.elapsed() < limit, "not renewed within {limit:?}");
        assert!(!controllers.ended(), "{}", controllers.log());
        assert!(!approver.ended(), "{}", approver.log());
        workloads_are_served(&setup, &running).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        running = kills.perhaps(&setup, running).await;
    }
    every_key_is_recorded(&setup);
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    let chain = running.client(TD).await.istio(&token, &csr).await.unwrap();
    assert_eq!(chain.names(), ["spiffe://cluster.local/ns/shop/sa/cart"]);
    assert!(chain.above[1].subject().contains("middle"));
    let listed = requests(&client)
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(listed.items.len() > wanted, "one object for each request");
    running.stop().await;
}
