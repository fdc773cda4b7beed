//! Each condition of a rotation, forced while it alone is not met: a handshake fails that succeeds once
//! it is met. Authorities of one server have a rotation each; the workloads are rustls clients and
//! servers, each with the roots that it would have.

use std::fs;
use std::process::Command;
use std::time::Duration;

use prost_types::Duration as ProtoDuration;
use rcgen::KeyPair;
use reqwest::Method;
use rootbridge::mesh::proto::rootbridge_v1::target_report::State;
use rootbridge::mesh::proto::rootbridge_v1::{
    GetTrustBundleRequest, ReportTrustBundleRequest, TargetReport, TrustBundle,
};
use rootbridge::x509::{Certificate, parse_pem_chain};
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::files::write_secret;
use rootbridge_test_support::grpc::{bearer, https};
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::mutual_tls::Peer;
use rootbridge_test_support::postgres::PostgresServer;
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::{Value, json};

use crate::postgres::{another_with, with_database};

/// So long that nothing counts as read or received during a test.
const SETTLE: &str = "1h";
const HELD: Duration = Duration::from_secs(7200);

/// Adds authorities whose workloads have tokens, and `more` to the configuration.
fn add(setup: &TestServer, domains: &[&str], more: &str) {
    let mut added = format!("[rotation]\nsettle = \"{SETTLE}\"\n\n{more}\n");
    let mut verifiers = String::new();
    for domain in domains {
        let name = label(domain);
        verifiers += &format!(", \"{name}\"");
        added += &format!(
            "[jwt.{name}]\nissuer = \"https://{domain}\"\ntrust_domain = \"{domain}\"\n\
             subject = \"kubernetes\"\n\
             audiences = {{ istio = \"istio-ca\", certificates = \"rootbridge\" }}\n\
             jwks_file = {:?}\n\n",
            setup.path("jwks.json")
        );
    }
    setup.edit("[jwt.people]", &format!("{added}[jwt.people]"));
    let both = "jwt = [\"cluster\", \"people\"";
    setup.edit(both, &format!("{both}{verifiers}"));
    for domain in domains {
        setup.init(domain, &["--path-len", "1"]);
    }
}

fn label(domain: &str) -> &str {
    domain.split('.').next().unwrap()
}

/// The rotation and the workloads of one authority.
struct Mesh<'a> {
    setup: &'a TestServer,
    server: &'a RunningServer,
    client: Client,
    domain: &'a str,
    old: Certificate,
}

impl<'a> Mesh<'a> {
    async fn new(setup: &'a TestServer, server: &'a RunningServer, domain: &'a str) -> Self {
        let mut roots = parse_pem_chain(setup.roots(domain).as_bytes()).unwrap();
        Self {
            setup,
            server,
            client: server.client(TD).await,
            domain,
            old: roots.remove(0),
        }
    }

    fn token(&self, account: &str, audience: &str) -> String {
        let mut claims = claims("shop", account, audience);
        claims["iss"] = format!("https://{}", self.domain).into();
        self.setup.issuer.mint(&claims)
    }

    /// A workload with a new certificate, and the roots that came with it.
    async fn issue_by(&self, client: &Client, account: &str) -> Peer {
        let name = format!("spiffe://{}/ns/shop/sa/{account}", self.domain);
        let csr = KeyAndCsr::new(&[&name]);
        let chain = client.istio(&self.token(account, "istio-ca"), &csr).await;
        let chain = chain.unwrap();
        Peer::new(&chain.pem(), csr.key.serialize_der(), &chain.roots)
    }

    async fn issue(&self, account: &str) -> Peer {
        self.issue_by(&self.client, account).await
    }

    /// A workload with a certificate below another root than the old one, and its roots.
    async fn issue_below_new(&self, account: &str) -> Peer {
        let mut found = None;
        eventually(PATIENCE, "the new issuing CA signs", async || {
            let peer = self.issue(account).await;
            let issuing = Certificate::parse(peer.chain[1].as_ref()).unwrap();
            let is_new = issuing.verify_signed_by(self.old.public_key()).is_err();
            found = is_new.then_some(peer);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn bundle(&self) -> TrustBundle {
        let request = GetTrustBundleRequest {
            trust_domain: self.domain.to_owned(),
        };
        let bundle = self.client.bundles().get_trust_bundle(request).await;
        bundle.unwrap().into_inner()
    }

    /// What an agent or a watcher says: that its target holds the bundle, or that it has applied it.
    async fn report(&self, bundle: &TrustBundle, held_for: Option<Duration>) {
        let target = held_for.map(|held_for| TargetReport {
            target: "istio".to_owned(),
            state: State::Holds.into(),
            held_for: ProtoDuration::try_from(held_for).ok(),
            ..TargetReport::default()
        });
        let mut request = tonic::Request::new(ReportTrustBundleRequest {
            trust_domain: self.domain.to_owned(),
            instance: "one".to_owned(),
            sequence: bundle.sequence,
            digest: bundle.digest.clone(),
            targets: target.into_iter().collect(),
        });
        *request.metadata_mut() = bearer(&self.token("follower", "rootbridge"));
        let mut bundles = self.client.bundles();
        bundles.report_trust_bundle(request).await.unwrap();
    }

    async fn post(&self, operation: &str, body: Value) -> Result<Value, String> {
        let url = format!(
            "http://127.0.0.1:{}/v1/rotations/{operation}",
            self.server.admin
        );
        let client = reqwest::Client::new();
        let request = client
            .post(url)
            .bearer_auth(&self.setup.operator)
            .body(body.to_string())
            .header("content-type", "application/json");
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        match status.is_success() {
            true => Ok(serde_json::from_str(&text).unwrap()),
            false => Err(text),
        }
    }

    async fn start(&self) {
        let body = json!({ "trust_domain": self.domain, "kind": "new-root" });
        self.post("start", body).await.unwrap();
    }

    async fn advance(&self, force: Option<&str>) -> Result<String, String> {
        let body = json!({ "trust_domain": self.domain, "force": force });
        let moved = self.post("advance", body).await?;
        Ok(moved["phase"].as_str().unwrap().to_owned())
    }

    /// Moves without force, as soon as nothing holds it back.
    async fn reach(&self, phases: &[&str]) {
        for phase in phases {
            let mut moved = Err(String::new());
            eventually(PATIENCE, phase, async || {
                moved = self.advance(None).await;
                moved.is_ok()
            })
            .await;
            assert_eq!(moved.unwrap(), *phase);
        }
    }

    async fn held(&self) -> Vec<String> {
        let credential = Some(self.setup.operator.as_str());
        let admin = self
            .server
            .admin_request(Method::GET, "/v1/rotations", credential);
        let all: Value = serde_json::from_str(&admin.await.1).unwrap();
        let mut rotations = all["rotations"].as_array().unwrap().iter();
        let own = rotations.find(|each| each["trust_domain"] == self.domain);
        let held = own.unwrap()["held"].as_array().unwrap().iter();
        held.map(|reason| reason["condition"].as_str().unwrap().to_owned())
            .collect()
    }

    /// This condition alone holds the rotation back; it is overridden.
    async fn force(&self, condition: &str, reached: &str) {
        eventually(PATIENCE, condition, async || {
            self.held().await == [condition]
        })
        .await;
        let refused = self.advance(None).await.unwrap_err();
        assert!(!refused.is_empty());
        let forced = self.advance(Some("a test of what fails")).await;
        assert_eq!(forced.unwrap(), reached, "{condition}");
    }

    /// Activates the new root in spite of the condition that the verifier with the old root stands for.
    async fn activate_too_early(&self, condition: &str, verifier: &Peer) {
        let peer = self.issue("web").await;
        verifier.connect(&peer).await.unwrap();
        self.force(condition, "activate").await;
        let peer = self.issue_below_new("web").await;
        fails(condition, verifier, &peer).await;
        let both = peer.roots.clone();
        assert_eq!(both.len(), 2, "{condition}");
        with_roots(verifier, &both).connect(&peer).await.unwrap();
    }
}

/// The verifier, as the client, does not know the root above its peer's certificate.
async fn fails(condition: &str, verifier: &Peer, peer: &Peer) {
    let failed = verifier.connect(peer).await.err();
    let failed = failed.unwrap_or_else(|| panic!("{condition}: the handshake succeeds"));
    let failed = failed.to_string();
    assert!(failed.contains("UnknownIssuer"), "{condition}: {failed}");
}

fn with_roots(peer: &Peer, roots: &[Certificate]) -> Peer {
    Peer {
        roots: roots.to_vec(),
        ..peer.clone()
    }
}

const FOLLOWERS: &str = r#"
[watchers.target]
trust_domain = "target.test"
identity = "spiffe://target.test/ns/shop/sa/follower"
cluster = "west"

[watchers.settling]
trust_domain = "settling.test"
identity = "spiffe://settling.test/ns/shop/sa/follower"
cluster = "west"

[watchers.billing]
trust_domain = "watcher.test"
identity = "spiffe://watcher.test/ns/shop/sa/follower"

[listeners.vault]
address = "127.0.0.1:0"
apis = ["vault"]
operators = ["below"]

[listeners.vault.tls]
trust_domain = "cluster.local"
dns = ["localhost"]

[vault.mount.pki]
authority = "subordinate.test"
ca_profile = "below"

[profiles.below]
ca = true
default_ttl = "24h"

[[policy.rules]]
callers = ["operator:below"]
profiles = ["below"]
names = ["spiffe://subordinate.test"]

[operators.below]
trust_domain = "subordinate.test"
"#;

/// A CA of somebody else below the issuing CA, and a workload that it has certified.
async fn subordinate(mesh: &Mesh<'_>) -> Peer {
    let (setup, server) = (mesh.setup, mesh.server);
    let key = KeyPair::generate().unwrap();
    let (ca, leaf, request) = (
        setup.path("below.pem"),
        setup.path("below.key"),
        setup.path("leaf.csr"),
    );
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let url = format!(
        "https://localhost:{}/v1/pki/root/sign-intermediate",
        server.port_of("vault")
    );
    let body = json!({ "csr": csr, "uri_sans": "spiffe://subordinate.test" });
    let client = https(&setup.roots(TD));
    let mut answer = Value::Null;
    eventually(PATIENCE, "the CA is certified", async || {
        let request = client
            .put(&url)
            .header("x-vault-token", &setup.other_operator)
            .body(body.to_string());
        let Ok(response) = request.send().await else {
            return false;
        };
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{text}");
        answer = serde_json::from_str(&text).unwrap();
        true
    })
    .await;
    let data = &answer["data"];
    let certificate = data["certificate"].as_str().unwrap();
    fs::write(&ca, certificate).unwrap();
    fs::write(&leaf, key.serialize_pem()).unwrap();
    let workload = KeyAndCsr::new(&["spiffe://subordinate.test/ns/shop/sa/below"]);
    fs::write(&request, &workload.pem).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-req", "-days", "1", "-copy_extensions", "copy"]);
    openssl.arg("-in").arg(&request);
    openssl.arg("-CA").arg(&ca).arg("-CAkey").arg(&leaf);
    let signed = run(&mut openssl);
    let chain = format!(
        "{signed}\n{certificate}\n{}",
        data["issuing_ca"].as_str().unwrap()
    );
    let key = workload.key.serialize_der();
    Peer::new(&chain, key, std::slice::from_ref(&mesh.old))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_gate_a_handshake_fails() {
    let setup = TestServer::new();
    let domains = [
        "target",
        "settling",
        "watcher",
        "holder",
        "alive",
        "subordinate",
    ];
    let domains = domains.map(|gate| format!("{gate}.test"));
    let credential = setup.path("below.token");
    write_secret(&credential, &setup.other_operator);
    let followers = format!("{FOLLOWERS}credential_file = {credential:?}\n");
    add(&setup, &domains.each_ref().map(String::as_str), &followers);
    let server = setup.serve().await;
    let mut meshes = Vec::new();
    for domain in &domains {
        meshes.push(Mesh::new(&setup, &server, domain).await);
    }
    let [target, settling, watcher, holder, alive, below] = &meshes[..] else {
        unreachable!()
    };

    // What is there before the rotations: the holder's certificate came with the old bundle.
    let sidecar = holder.issue("sidecar").await;
    let certified = subordinate(below).await;
    target.report(&target.bundle().await, Some(HELD)).await;
    settling.report(&settling.bundle().await, Some(HELD)).await;
    watcher.report(&watcher.bundle().await, None).await;
    for mesh in &meshes {
        mesh.start().await;
    }
    for mesh in &meshes {
        mesh.reach(&["publish", "converge"]).await;
    }

    // They have a certificate since, and verify with the roots that their object, their file or their
    // memory holds: the old ones.
    let newest = settling.bundle().await;
    settling.report(&newest, Some(Duration::ZERO)).await;
    for (condition, mesh) in [
        ("target", target),
        ("settling", settling),
        ("watcher", watcher),
    ] {
        let verifier = mesh.issue("verifier").await;
        let verifier = with_roots(&verifier, std::slice::from_ref(&mesh.old));
        mesh.activate_too_early(condition, &verifier).await;
    }
    holder.activate_too_early("holder", &sidecar).await;

    // Nobody lacks the new root, and a certificate below the old one is alive when that leaves.
    let late = alive.issue("late").await;
    for (condition, mesh, late) in [("alive", alive, &late), ("subordinate", below, &certified)] {
        mesh.reach(&["activate", "drain"]).await;
        mesh.force(condition, "retire").await;
        let mut fresh = Peer::default();
        eventually(PATIENCE, "the bundle without the old root", async || {
            fresh = mesh.issue("fresh").await;
            fresh.roots.len() == 1
        })
        .await;
        fails(condition, &fresh, late).await;
        // With the root that its issuer still has.
        let mut roots = fresh.roots.clone();
        roots.push(mesh.old.clone());
        let late = with_roots(late, &roots);
        with_roots(&fresh, &roots).connect(&late).await.unwrap();
    }
    let renewed = alive.issue("late").await;
    let fresh = alive.issue("fresh").await;
    fresh.connect(&renewed).await.unwrap();
    server.stop().await;
}

/// With a database, of which another server reads an old revision, and so does not hear of changes; and
/// where it can be written that a proxy was started with the old roots.
#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_for_servers_and_proxies_a_handshake_fails() {
    let database = PostgresServer::shared();
    let name = database.database();
    let setup = with_database(database, &name);
    add(&setup, &["server.test", "proxy.test"], "");
    database.psql(
        &name,
        "CREATE SCHEMA lags; CREATE TABLE lags.revision AS SELECT * FROM public.revision",
    );
    let one = setup.serve().await;
    let url = database.tls_url(&name) + "&options=-c%20search_path%3Dlags,public";
    let environment = [
        ("ROOTBRIDGE_INSTANCE__LEASE", "1h"),
        ("ROOTBRIDGE_LEDGER__URL", &url),
    ];
    let two = another_with(&setup, "test-1", &environment).await;
    let catch_up = "UPDATE lags.revision SET value = (SELECT value FROM public.revision)";

    let mesh = Mesh::new(&setup, &one, "server.test").await;
    mesh.start().await;
    mesh.reach(&["publish"]).await;
    mesh.force("server", "converge").await;
    mesh.force("server", "activate").await;
    let peer = mesh.issue_below_new("web").await;
    let client = two.client(TD).await;
    let verifier = mesh.issue_by(&client, "verifier").await;
    assert_eq!(verifier.roots, std::slice::from_ref(&mesh.old));
    fails("server", &verifier, &peer).await;
    database.psql(&name, catch_up);
    eventually(PATIENCE, "the other server has heard of it", async || {
        let verifier = mesh.issue_by(&client, "verifier").await;
        verifier.roots.len() == 2 && verifier.connect(&peer).await.is_ok()
    })
    .await;

    let mesh = Mesh::new(&setup, &one, "proxy.test").await;
    mesh.start().await;
    for phase in ["publish", "converge"] {
        eventually(PATIENCE, phase, async || {
            database.psql(&name, catch_up);
            mesh.advance(None)
                .await
                .is_ok_and(|reached| reached == phase)
        })
        .await;
    }
    let proxies = json!({ "newest": 2, "targets": [], "proxies": [
        { "cluster": "east", "outdated": 1, "examples": ["shop/web-0"] },
    ] });
    let counted = format!(
        "INSERT INTO instance (name, boot, lease, lease_until)
            VALUES ('counts', 1, 3600, extract(epoch FROM now())::bigint + 3600)
            ON CONFLICT DO NOTHING;
         DELETE FROM server_report WHERE instance = 'counts';
         INSERT INTO server_report
            (instance, authority, boot, sequence, digest, issuer, details, reported_at)
            SELECT 'counts', authority, 1, sequence, digest, issuer, '{proxies}', reported_at
            FROM server_report JOIN authority ON authority.id = authority
            WHERE instance = 'test-0' AND trust_domain = 'proxy.test'"
    );
    eventually(PATIENCE, "only proxies are waited for", async || {
        database.psql(&name, catch_up);
        database.psql(&name, &counted);
        mesh.held().await == ["proxy"]
    })
    .await;
    let verifier = mesh.issue("verifier").await;
    let verifier = with_roots(&verifier, std::slice::from_ref(&mesh.old));
    mesh.activate_too_early("proxy", &verifier).await;
    one.stop().await;
    two.stop().await;
}
