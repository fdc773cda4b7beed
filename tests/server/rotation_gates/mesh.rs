//! The rotation and the workloads of an authority.

use std::time::Duration;

use prost_types::Duration as ProtoDuration;
use reqwest::Method;
use rootbridge::mesh::proto::rootbridge_v1::target_report::State;
use rootbridge::mesh::proto::rootbridge_v1::{
    GetTrustBundleRequest, ReportTrustBundleRequest, TargetReport, TrustBundle,
};
use rootbridge::x509::{Certificate, parse_pem_chain};
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::bearer;
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::mutual_tls::Peer;
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::{Value, json};

/// So long that nothing counts as read or received during a test.
const SETTLE: &str = "1h";
pub(crate) const HELD: Duration = Duration::from_secs(7200);

/// Adds authorities whose workloads have tokens, and `more` to the configuration.
pub(crate) fn add(setup: &TestServer, domains: &[&str], more: &str) {
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
pub(crate) struct Mesh<'a> {
    pub(crate) setup: &'a TestServer,
    pub(crate) server: &'a RunningServer,
    client: Client,
    domain: &'a str,
    /// The root that leaves.
    pub(crate) old: Certificate,
}

impl<'a> Mesh<'a> {
    pub(crate) async fn new(
        setup: &'a TestServer,
        server: &'a RunningServer,
        domain: &'a str,
    ) -> Self {
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
    pub(crate) async fn issue_by(&self, client: &Client, account: &str) -> Peer {
        let name = format!("spiffe://{}/ns/shop/sa/{account}", self.domain);
        let csr = KeyAndCsr::new(&[&name]);
        let chain = client.istio(&self.token(account, "istio-ca"), &csr).await;
        let chain = chain.unwrap();
        Peer::new(&chain.pem(), csr.key.serialize_der(), &chain.roots)
    }

    pub(crate) async fn issue(&self, account: &str) -> Peer {
        self.issue_by(&self.client, account).await
    }

    /// A workload with a certificate below another root than the old one, and its roots.
    pub(crate) async fn issue_below_new(&self, account: &str) -> Peer {
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

    pub(crate) async fn bundle(&self) -> TrustBundle {
        let request = GetTrustBundleRequest {
            trust_domain: self.domain.to_owned(),
        };
        let bundle = self.client.bundles().get_trust_bundle(request).await;
        bundle.unwrap().into_inner()
    }

    /// What an agent or a watcher says: that its target holds the bundle, or that it has applied it.
    pub(crate) async fn report(&self, bundle: &TrustBundle, held_for: Option<Duration>) {
        self.report_by("follower", bundle, held_for).await;
    }

    pub(crate) async fn report_by(
        &self,
        account: &str,
        bundle: &TrustBundle,
        held_for: Option<Duration>,
    ) {
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
        *request.metadata_mut() = bearer(&self.token(account, "rootbridge"));
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

    pub(crate) async fn start(&self) {
        let body = json!({ "trust_domain": self.domain, "kind": "new-root" });
        self.post("start", body).await.unwrap();
    }

    pub(crate) async fn advance(&self, force: Option<&str>) -> Result<String, String> {
        let body = json!({ "trust_domain": self.domain, "force": force });
        let moved = self.post("advance", body).await?;
        Ok(moved["phase"].as_str().unwrap().to_owned())
    }

    /// Moves without force, as soon as nothing holds it back.
    pub(crate) async fn reach(&self, phases: &[&str]) {
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

    pub(crate) async fn held(&self) -> Vec<String> {
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
    pub(crate) async fn force(&self, condition: &str, reached: &str) {
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
    pub(crate) async fn activate_too_early(&self, condition: &str, verifier: &Peer) {
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
pub(crate) async fn fails(condition: &str, verifier: &Peer, peer: &Peer) {
    let failed = verifier.connect(peer).await.err();
    let failed = failed.unwrap_or_else(|| panic!("{condition}: the handshake succeeds"));
    let failed = failed.to_string();
    assert!(failed.contains("UnknownIssuer"), "{condition}: {failed}");
}

pub(crate) fn with_roots(peer: &Peer, roots: &[Certificate]) -> Peer {
    Peer {
        roots: roots.to_vec(),
        ..peer.clone()
    }
}
