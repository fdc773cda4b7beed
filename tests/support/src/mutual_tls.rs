//! Mutual TLS between two workloads, each with roots of its own.

use std::io;
use std::sync::Arc;

use rootbridge::x509::{Certificate, parse_pem_chain};
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

/// A connection, from both ends.
pub type Connection = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

/// What a workload shows to its peers, and what it verifies them with.
#[derive(Clone, Default)]
pub struct Peer {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: Vec<u8>,
    pub roots: Vec<Certificate>,
}

impl Peer {
    pub fn new(chain: &str, key: Vec<u8>, roots: &[Certificate]) -> Self {
        let chain = parse_pem_chain(chain.as_bytes()).unwrap();
        Self {
            chain: chain.iter().map(der).collect(),
            key,
            roots: roots.to_vec(),
        }
    }

    fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            store.add(der(root)).unwrap();
        }
        Arc::new(store)
    }

    fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        (self.chain.clone(), key.into())
    }

    /// A mutual handshake as the client, each side with its own roots.
    pub async fn connect(&self, other: &Self) -> io::Result<Connection> {
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
        let verifier = PathVerifier {
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

fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from(certificate.der().to_vec())
}

/// Verifies a peer's path as webpki does; that it has another name than the connection is SPIFFE's way.
#[derive(Debug)]
struct PathVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PathVerifier {
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
