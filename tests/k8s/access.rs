//! Who may speak to an API server, and kubeconfigs that say so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use serde_json::json;

/// The CA of an API server's own certificate and of its clients'.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = name("test-ca", &[]);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for the loopback address, and its key.
    pub(crate) fn server(&self) -> (String, String) {
        let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        params.distinguished_name = name("kube-apiserver", &[]);
        self.sign(&params)
    }

    /// A user with groups, as Kubernetes reads them from a certificate.
    pub(crate) fn user(&self, user: &str, groups: &[&str]) -> Credential {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name(user, groups);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.sign(&params);
        Credential::Certificate { certificate, key }
    }

    fn sign(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn name(common: &str, groups: &[&str]) -> DistinguishedName {
    // rcgen keeps one value of a type, and one group is what a node has.
    assert!(groups.len() <= 1, "one group at most");
    let mut name = DistinguishedName::new();
    for group in groups {
        name.push(DnType::OrganizationName, *group);
    }
    name.push(DnType::CommonName, common);
    name
}

/// How a user shows who it is.
#[derive(Clone)]
pub(crate) enum Credential {
    Token(String),
    TokenFile(String),
    Certificate { certificate: String, key: String },
}

/// A kubeconfig with one context, `test`.
pub(crate) fn kubeconfig(port: u16, ca: &str, credential: &Credential) -> String {
    let data = |text: &str| STANDARD.encode(text);
    let user = match credential {
        Credential::Token(token) => json!({ "token": token }),
        Credential::TokenFile(path) => json!({ "tokenFile": path }),
        Credential::Certificate { certificate, key } => json!({
            "client-certificate-data": data(certificate),
            "client-key-data": data(key),
        }),
    };
    // JSON is YAML.
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": data(ca),
        }}],
        "users": [{ "name": "test", "user": user }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    })
    .to_string()
}

/// A client for a kubeconfig. It lives on the runtime that made it.
pub(crate) async fn client(kubeconfig: &str) -> Client {
    let file = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}
