//! A workload under mTLS: it renews, and verifies its peers with the roots that it holds.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rootbridge::x509::{Certificate, parse_pem_chain};
use rootbridge_test_support::RunningServer;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::Client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::LIFETIME;

/// A workload that verifies its peers, and is verified by them.
pub(super) struct Workload {
    pub(super) account: String,
    pub(super) token: String,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Vec<u8>,
    pub(super) not_after: i64,
    pub(super) roots: Vec<Certificate>,
    /// It reads its roots from the cluster's object instead of its certificate's answer.
    pub(super) reads: bool,
    pub(super) at: Instant,
}

pub(super) type Kept = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

impl Workload {
    /// A new certificate, over a connection that is verified with the roots that it holds.
    /// `Err(Some)` if these do not verify the server.
    pub(super) async fn renew(&mut self, server: &RunningServer) -> Result<(), Option<String>> {
        let roots: String = self.roots.iter().map(Certificate::to_pem).collect();
        let connection = Client::connect(server.port(), &roots, None).await;
        let connection = connection.map_err(|error| {
            let error = format!("{error:?}");
            // The second is what is said of another key of the same name.
            let refused = error.contains("UnknownIssuer") || error.contains("BadSignature");
            refused.then(|| format!("{} to the server: {error}", self.account))
        })?;
        let csr = KeyAndCsr::workload("shop", &self.account);
        let seconds = i64::try_from(LIFETIME.as_secs()).unwrap();
        let answer = connection.istio_for(&self.token, &csr, seconds).await;
        let answer = answer.map_err(|_| None)?;
        self.chain = parse_pem_chain(answer.pem().as_bytes())
            .unwrap()
            .iter()
            .map(|each| CertificateDer::from(each.der().to_vec()))
            .collect();
        self.key = csr.key.serialize_der();
        self.not_after = answer.leaf.not_after().secs();
        if !self.reads {
            self.roots = answer.roots;
        }
        self.at = Instant::now();
        Ok(())
    }

    pub(super) fn has_expired(&self) -> bool {
        let now = UnixTime::now().as_secs();
        i64::try_from(now).unwrap() + 1 >= self.not_after
    }

    fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            store
                .add(CertificateDer::from(root.der().to_vec()))
                .unwrap();
        }
        Arc::new(store)
    }

    fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        (self.chain.clone(), key.into())
    }

    /// A mutual handshake, each side with its own roots.
    pub(super) async fn connect(&self, other: &Self) -> io::Result<Kept> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(other.store(), Arc::clone(&provider));
        let (chain, key) = other.identity();
        let accepts = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let (chain, key) = self.identity();
        let verifier = Peer {
            roots: self.store(),
            provider: Arc::clone(&provider),
        };
        let connects = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)
            .unwrap();
        let (near, far) = duplex(64 * 1024);
        let name = ServerName::try_from("peer").unwrap();
        let connector = TlsConnector::from(Arc::new(connects));
        let acceptor = TlsAcceptor::from(Arc::new(accepts));
        let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        // The client's error says why it refused; the server's only that it was.
        let client = client?;
        Ok((client, server?))
    }
}

/// Verifies a peer's path as webpki does; that it has another name than the connection is SPIFFE's way.
#[derive(Debug)]
struct Peer {
    pub(super) roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Peer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, above, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
