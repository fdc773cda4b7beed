//! TLS for servers: X25519MLKEM768 first, the certificate selected per handshake.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoClientAuth, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig, SignatureScheme};

/// Bytes of a client's certificate with those that came with it, all of which rustls keeps as long as
/// the connection.
const MAX_CHAIN: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("the client's certificates have {0} bytes, more than {MAX_CHAIN}")]
struct ChainTooLong(usize);

#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A certificate and the server names (SNI) that it is for.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Host names in lower case.
    pub names: Vec<String>,
    pub key: Arc<CertifiedKey>,
}

/// The certificates that a listener serves; replaced as a whole, seen by the next handshake.
#[derive(Default)]
pub struct Certificates(ArcSwap<Vec<Entry>>);

impl Certificates {
    /// Replaces the certificates. The first is for clients whose SNI matches none.
    pub fn replace(&self, entries: Vec<Entry>) {
        self.0.store(Arc::new(entries));
    }

    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    pub fn entries(&self) -> Arc<Vec<Entry>> {
        self.0.load_full()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("entries", &self.0.load().len())
            .finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let entries = self.0.load();
        let named = hello.server_name().and_then(|sni| {
            entries.iter().find(|entry| {
                entry
                    .names
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(sni))
            })
        });
        named
            .or_else(|| entries.first())
            .map(|entry| Arc::clone(&entry.key))
    }
}

/// A chain and a key, checked to belong together.
///
/// # Errors
/// TLS does not support the key's kind, or it is not the leaf's key.
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?;
    certified.keys_match()?;
    Ok(Arc::new(certified))
}

/// The TLS versions and client certificates of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// TLS 1.2 and 1.3, without a client certificate.
    Anonymous,
    /// The same, with an optional client certificate, which each call verifies.
    WithCertificate,
    /// TLS 1.3 only. No client certificate is requested: a proxy whose certificate has expired could
    /// not renew it (linkerd2 #13136).
    LinkerdProxies,
}

/// A TLS configuration that serves `certificates` to such clients.
///
/// # Errors
/// When the provider has no cipher suite for the versions.
pub fn server_config(
    certificates: Arc<Certificates>,
    clients: Clients,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        Clients::WithCertificate => Arc::new(AnyClient::new(&provider)),
        Clients::Anonymous | Clients::LinkerdProxies => Arc::new(NoClientAuth),
    };
    let versions = match clients {
        Clients::LinkerdProxies => &[&rustls::version::TLS13][..],
        _ => rustls::DEFAULT_VERSIONS,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    // Clients without ALPN, such as Linkerd's proxies, start with HTTP/2 at once.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts any certificate whose key the client holds: an agent with a token and an expired
/// certificate must be able to call (linkerd2 #13136), and without a token each call verifies the
/// certificate against the ledger.
#[derive(Debug)]
struct AnyClient {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClient {
    fn new(provider: &CryptoProvider) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bytes = leaf.len() + intermediates.iter().map(|each| each.len()).sum::<usize>();
        match bytes {
            0..=MAX_CHAIN => Ok(ClientCertVerified::assertion()),
            bytes => Err(OtherError(Arc::new(ChainTooLong(bytes))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
