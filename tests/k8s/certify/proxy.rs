//! A Linkerd proxy's identity client: the published API crate over TLS as the proxy sets it up
//! (TLS 1.3 alone, no ALPN, HTTP/2 at once), and what the proxy checks in an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper_util::rt::TokioIo;
use linkerd2_proxy_api::identity::identity_client::IdentityClient;
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse};
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use rootbridge_test_support::TD;
use rootbridge_test_support::csr::KeyAndCsr;

/// The namespace of the control plane.
pub(super) const CONTROL: &str = "linkerd";

/// The name of a service account in the mesh of [`CONTROL`] and [`TD`].
pub(super) fn name(ns: &str, sa: &str) -> String {
    format!("{sa}.{ns}.serviceaccount.identity.{CONTROL}.{TD}")
}

/// One connection of a proxy to its identity service.
#[derive(Clone)]
pub(super) struct Proxy {
    client: IdentityClient<Channel>,
    /// Whether the service asked for a client certificate.
    asked: Arc<AtomicBool>,
}

/// A client certificate to be shown, if anybody asks.
#[derive(Debug)]
struct Shown {
    key: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::SeqCst);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

fn roots(pem: &str) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(root.unwrap()).unwrap();
    }
    Arc::new(store)
}

impl Proxy {
    /// Connects over TLS, trusting `anchors`; `own` is a proxy's certificate path and key.
    pub(super) async fn connect(
        port: u16,
        anchors: &str,
        own: Option<(Vec<Vec<u8>>, &KeyAndCsr)>,
    ) -> Result<Self, tonic::transport::Error> {
        Self::connect_to(port, &name(CONTROL, "linkerd-identity"), anchors, own).await
    }

    /// The same to a service of another name.
    pub(super) async fn connect_to(
        port: u16,
        service: &str,
        anchors: &str,
        own: Option<(Vec<Vec<u8>>, &KeyAndCsr)>,
    ) -> Result<Self, tonic::transport::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let asked = Arc::new(AtomicBool::new(false));
        let key = own.map(|(path, request)| {
            let path = path.into_iter().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::try_from(request.key.serialize_der()).unwrap();
            Arc::new(CertifiedKey::from_der(path, key, &provider).unwrap())
        });
        let shown = Shown {
            key,
            asked: Arc::clone(&asked),
        };
        // No ALPN: a proxy offers none.
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(anchors))
            .with_client_cert_resolver(Arc::new(shown));
        let tls = TlsConnector::from(Arc::new(config));
        let service = ServerName::try_from(service.to_owned()).unwrap();
        let connect = tower::service_fn(move |_| {
            let (tls, service) = (tls.clone(), service.clone());
            async move {
                let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
                tls.connect(service, tcp).await.map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://identity")
            .connect_with_connector(connect)
            .await?;
        Ok(Self {
            client: IdentityClient::new(channel),
            asked,
        })
    }

    /// Connects in plaintext, as the proxy in the controller's own pod does.
    pub(super) async fn plain(address: &str) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Ok(Self {
            client: IdentityClient::new(endpoint.connect().await?),
            asked: Arc::default(),
        })
    }

    /// Whether the service has ever asked for a client certificate.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// One call, which must be answered: a proxy sets no deadline of its own.
    pub(super) async fn certify(&self, request: CertifyRequest) -> Result<CertifyResponse, Status> {
        let mut client = self.client.clone();
        let call = client.certify(request);
        let answered = tokio::time::timeout(Duration::from_secs(30), call).await;
        answered.expect("a call hangs").map(|a| a.into_inner())
    }

    /// The same for a workload's own name.
    pub(super) async fn own(
        &self,
        (ns, sa): (&str, &str),
        token: &str,
        csr: &KeyAndCsr,
    ) -> Result<CertifyResponse, Status> {
        self.certify(request(&name(ns, sa), token, csr)).await
    }
}

/// What a proxy sends.
pub(super) fn request(identity: &str, token: &str, csr: &KeyAndCsr) -> CertifyRequest {
    CertifyRequest {
        identity: identity.to_owned(),
        token: token.as_bytes().to_vec(),
        certificate_signing_request: csr.der.clone(),
    }
}

/// The code of an outcome.
pub(super) fn code(outcome: &Result<CertifyResponse, Status>) -> Code {
    outcome.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// The whole path of an answer, leaf first.
pub(super) fn path(answer: &CertifyResponse) -> Vec<Vec<u8>> {
    let mut path = vec![answer.leaf_certificate.clone()];
    path.extend(answer.intermediate_certificates.iter().cloned());
    path
}

/// `valid_until`, in seconds.
pub(super) fn valid_until(answer: &CertifyResponse) -> u64 {
    u64::try_from(answer.valid_until.as_ref().unwrap().seconds).unwrap()
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs()
}

/// What a proxy checks before it takes an answer: a time to come, a path to its anchors for its own
/// name, and its own key.
pub(super) fn take(answer: &CertifyResponse, name: &str, csr: &KeyAndCsr, anchors: &str) {
    assert!(valid_until(answer) > now());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(anchors), provider.clone())
        .build()
        .unwrap();
    let path: Vec<CertificateDer<'static>> = path(answer).into_iter().map(Into::into).collect();
    let server = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(&path[0], &path[1..], &server, &[], UnixTime::now())
        .unwrap();
    let key = PrivateKeyDer::try_from(csr.key.serialize_der()).unwrap();
    let own = CertifiedKey::from_der(path, key, &provider).unwrap();
    own.keys_match().unwrap();
}
