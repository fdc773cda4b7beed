//! Clients of the gRPC APIs and of HTTPS.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use rootbridge::mesh::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use rootbridge::mesh::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use rootbridge::mesh::proto::rootbridge_v1::certificate_service_client::CertificateServiceClient;
use rootbridge::mesh::proto::rootbridge_v1::trust_bundle_service_client::TrustBundleServiceClient;
use rootbridge::mesh::proto::rootbridge_v1::{SignCertificateRequest, SignCertificateResponse};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use crate::chain::Chain;
use crate::csr::KeyAndCsr;

/// One HTTP/2 connection over TLS.
#[derive(Clone)]
pub struct Client(pub Channel);

impl Client {
    /// Connects; `identity` is a chain and a key in PEM.
    pub async fn connect(
        port: u16,
        roots: &str,
        identity: Option<(&str, &str)>,
    ) -> Result<Self, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(roots))
            .domain_name("localhost");
        if let Some((chain, key)) = identity {
            tls = tls.identity(Identity::from_pem(chain, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?;
        let endpoint = endpoint
            .tls_config(tls)?
            .connect_timeout(Duration::from_secs(20));
        Ok(Self(endpoint.connect().await?))
    }

    pub async fn create(
        &self,
        body: IstioCertificateRequest,
        headers: MetadataMap,
    ) -> Result<IstioCertificateResponse, Status> {
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = headers;
        let mut client = IstioCertificateServiceClient::new(self.0.clone());
        client
            .create_certificate(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Istio's call with the headers and metadata of its agents.
    pub async fn istio(&self, token: &str, csr: &KeyAndCsr) -> Result<Chain, Status> {
        self.istio_for(token, csr, 0).await
    }

    pub async fn istio_for(
        &self,
        token: &str,
        csr: &KeyAndCsr,
        seconds: i64,
    ) -> Result<Chain, Status> {
        let body = istio_request(&csr.pem, seconds, &[("CertSigner", text(""))]);
        let answer = self.create(body, bearer(token)).await?;
        Ok(Chain::istio(&answer.cert_chain))
    }

    pub async fn sign(
        &self,
        token: &str,
        body: SignCertificateRequest,
    ) -> Result<SignCertificateResponse, Status> {
        let headers = match token {
            "" => MetadataMap::new(),
            token => bearer(token),
        };
        self.sign_with(headers, body).await
    }

    pub async fn sign_with(
        &self,
        headers: MetadataMap,
        body: SignCertificateRequest,
    ) -> Result<SignCertificateResponse, Status> {
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = headers;
        let mut client = CertificateServiceClient::new(self.0.clone());
        client
            .sign_certificate(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub fn bundles(&self) -> TrustBundleServiceClient<Channel> {
        TrustBundleServiceClient::new(self.0.clone())
    }
}

pub fn istio_request(csr: &str, seconds: i64, fields: &[(&str, Kind)]) -> IstioCertificateRequest {
    let value = |kind: &Kind| Value {
        kind: Some(kind.clone()),
    };
    let fields: BTreeMap<_, _> = fields
        .iter()
        .map(|(key, kind)| ((*key).to_owned(), value(kind)))
        .collect();
    IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: seconds,
        metadata: Some(Struct { fields }),
    }
}

pub fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

/// A request for `names` under `profile`; both may be empty.
pub fn sign_request(csr: &KeyAndCsr, profile: &str, names: &[&str]) -> SignCertificateRequest {
    SignCertificateRequest {
        csr: csr.der.clone(),
        profile: profile.to_owned(),
        names: names.iter().map(ToString::to_string).collect(),
        ..SignCertificateRequest::default()
    }
}

pub fn bearer(token: &str) -> MetadataMap {
    let mut headers = MetadataMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers.insert("clusterid", "Kubernetes".parse().unwrap());
    headers
}

/// Asserts the code, and that the message reveals no internals; returns the message.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    let message = status.message();
    assert!(message.contains("[request "), "no request id: {message}");
    for leak in [
        "/tmp",
        ".db",
        "softhsm",
        "SOFTHSM",
        "CKR_",
        "operator:",
        "main`",
        "sqlite",
        ".rs:",
    ] {
        assert!(!message.contains(leak), "`{leak}` leaks in: {message}");
    }
    message.to_owned()
}

/// An HTTPS client that trusts `roots`.
pub fn https(roots: &str) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(roots.as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([root])
        .build()
        .unwrap()
}
