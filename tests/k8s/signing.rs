//! What the tests of the signers have in common.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};

use super::chart;
use super::objects::{create, granted, rule};
use super::rootbridge::rootbridge_of;
use super::server::ApiServer;
use rootbridge_test_support::{PATIENCE, TestServer, command, eventually};

const GROUP: &str = "certificates.k8s.io";

/// What the chart gives for both kinds of request and istiod's secret.
fn values(signer: &str, namespace: &str) -> Vec<String> {
    let pairs = [
        "authentication.enabled=false".to_owned(),
        format!("csrSigners.istio.signer_name={signer}"),
        "csrSigners.istio.profile=workload".to_owned(),
        format!("csrSigners.istio.requesters[0]={namespace}/istiod"),
        format!("podSigners.pods.signer_name={signer}"),
        "podSigners.pods.profile=workload".to_owned(),
        format!("istiodTls.main.namespace={namespace}"),
    ];
    chart::set(&pairs.each_ref().map(String::as_str))
}

/// What a case changes in an object.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Value);

/// A namespace with an istiod that may make requests, a CA that signs them, and clients.
pub(crate) struct Scene {
    pub(crate) setup: TestServer,
    pub(crate) signer: String,
    pub(crate) namespace: String,
    pub(crate) admin: Client,
    pub(crate) istiod: Client,
}

impl Scene {
    /// Everything is named after the test, so that tests share a server.
    pub(crate) async fn new(server: &ApiServer, name: &str, more: &str) -> Self {
        Self::of(&[], server, name, more).await
    }

    /// The same; the CA is made by `ca init` with further arguments.
    pub(crate) async fn of(init: &[&str], server: &ApiServer, name: &str, more: &str) -> Self {
        let admin = server.client().await;
        let signer = format!("{name}.rootbridge.example/mesh");
        let ours = chart::rights(&admin, name, &values(&signer, name)).await;
        let csrs = ["certificatesigningrequests"];
        let may = vec![rule(GROUP, &csrs, &["create", "get"], &[])];
        let istiod = granted(&admin, name, "istiod", may).await;
        let clusters = [("east", server, &ours)];
        let setup = rootbridge_of(init, &clusters, &sections(&signer, name, more));
        Self {
            setup,
            signer,
            namespace: name.to_owned(),
            istiod: server.client_as(&istiod).await,
            admin,
        }
    }

    /// A request as istiod makes it in its RA mode, with changes; not approved yet.
    pub(crate) async fn request(
        &self,
        client: &Client,
        san: &str,
        change: impl FnOnce(&mut Value),
    ) -> String {
        let mut object = json!({
            "metadata": { "generateName": "csr-workload-" },
            "spec": {
                "signerName": self.signer,
                "request": ByteString(csr(san).into_bytes()),
                "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
                "expirationSeconds": 3600,
            },
        });
        change(&mut object);
        let api: Api<CertificateSigningRequest> = Api::all(client.clone());
        create(&api, object).await.name_any()
    }

    /// The same, approved.
    pub(crate) async fn approved(&self, san: &str) -> String {
        let name = self.request(&self.istiod, san, |_| {}).await;
        self.approve(&name).await;
        name
    }

    pub(crate) async fn approve(&self, name: &str) {
        let api: Api<CertificateSigningRequest> = Api::all(self.admin.clone());
        let condition = json!({ "type": "Approved", "status": "True", "reason": "Test" });
        let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
        api.patch_subresource("approval", name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub(crate) async fn read(&self, name: &str) -> CertificateSigningRequest {
        let api: Api<CertificateSigningRequest> = Api::all(self.admin.clone());
        api.get(name).await.unwrap()
    }

    /// The certificates of a request, once it has them.
    pub(crate) async fn signed(&self, name: &str) -> String {
        let mut pem = None;
        eventually(PATIENCE, "a certificate", async || {
            pem = certificate(&self.read(name).await);
            pem.is_some()
        })
        .await;
        pem.unwrap()
    }

    /// Reason and message of a request's refusal, once it has one.
    pub(crate) async fn failed(&self, name: &str) -> (String, String) {
        let mut found = None;
        eventually(PATIENCE, "a refusal", async || {
            let object = self.read(name).await;
            assert_eq!(certificate(&object), None);
            let conditions = object.status.unwrap_or_default().conditions;
            let failed = conditions.unwrap_or_default();
            found = failed.into_iter().find(|each| each.type_ == "Failed");
            found.is_some()
        })
        .await;
        let found = found.unwrap();
        (found.reason.unwrap(), found.message.unwrap())
    }

    /// How many records there are for a name, and how many of those were issued.
    pub(crate) fn recorded(&self, san: &str) -> (usize, usize) {
        let rows = self.setup.certificates(&[]);
        let of: Vec<_> = rows.iter().filter(|row| row["subject"] == san).collect();
        let issued = of.iter().filter(|row| row["state"] == "issued").count();
        (of.len(), issued)
    }

    /// `openssl verify` of a chain, against the CA's root.
    pub(crate) fn verify(&self, chain: &str) {
        let (root, all) = (self.setup.path("root.pem"), self.setup.path("chain.pem"));
        std::fs::write(&root, self.setup.roots(rootbridge_test_support::TD)).unwrap();
        std::fs::write(&all, chain).unwrap();
        command::run(
            std::process::Command::new("openssl")
                .args(["verify", "-x509_strict", "-CAfile"])
                .arg(&root)
                .arg("-untrusted")
                .arg(&all)
                .arg(&all),
        );
    }
}

/// The certificates in an object's status.
pub(crate) fn certificate(object: &CertificateSigningRequest) -> Option<String> {
    let pem = object.status.as_ref()?.certificate.as_ref()?;
    Some(String::from_utf8(pem.0.clone()).unwrap())
}

/// A PEM request for one name, with a new key.
pub(crate) fn csr(san: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !san.is_empty() {
        params.subject_alt_names = vec![SanType::URI(san.try_into().unwrap())];
    }
    let request = params.serialize_request(&KeyPair::generate().unwrap());
    request.unwrap().pem().unwrap()
}

fn sections(signer: &str, namespace: &str, more: &str) -> String {
    format!(
        r#"
[csr_signers.istio]
signer_name = "{signer}"
clusters = ["east"]
profile = "workload"
requesters = ["{namespace}/istiod"]

[pod_signers.pods]
signer_name = "{signer}"
clusters = ["east"]
profile = "workload"

[profiles.server]
usages = ["server"]

[[policy.rules]]
callers = ["spiffe://cluster.local/ns/{namespace}/sa/istiod"]
profiles = ["workload", "server"]
names = ["spiffe://cluster.local/ns/shop/sa/*"]
{more}"#
    )
}
