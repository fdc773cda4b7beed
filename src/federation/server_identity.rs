//! `https_spiffe`: the endpoint's server proves its SPIFFE ID below the roots of its trust domain, and
//! its host's name does not matter (SPIFFE Federation §5.2.2).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::x509::{Certificate, San, SpiffeId};

/// Why a certificate is not that of the endpoint.
#[derive(Debug, thiserror::Error)]
enum NotTheEndpoint {
    #[error("the server's certificate cannot be read: {0}")]
    Unreadable(String),
    #[error("the server is not {expected}: its certificate has {found}")]
    OtherId { expected: SpiffeId, found: String },
}

#[derive(Debug)]
struct Endpoint {
    id: SpiffeId,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

/// TLS to the server with this ID, below these roots.
pub(super) fn client_config(
    id: &SpiffeId,
    roots: &[Vec<u8>],
) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.clone()))?;
    }
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let endpoint = Endpoint {
        id: id.clone(),
        roots: store,
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(endpoint))
        .with_no_client_auth();
    Ok(config)
}

impl ServerCertVerifier for Endpoint {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let (roots, algorithms) = (&self.roots, self.algorithms.all);
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        // The text of other kinds of rustls's errors is in Rust's own notation.
        let other = |why: NotTheEndpoint| rustls::Error::General(why.to_string());
        let leaf = Certificate::parse(leaf.to_vec())
            .map_err(|error| other(NotTheEndpoint::Unreadable(error.to_string())))?;
        let ids = leaf.names().iter().filter_map(|name| match name {
            San::Spiffe(id) => Some(id),
            _ => None,
        });
        let ids: Vec<_> = ids.collect();
        // An SVID has one ID, and is no CA (X.509-SVID §2, §4.1).
        match ids.as_slice() {
            [id] if **id == self.id && !leaf.is_ca() => Ok(ServerCertVerified::assertion()),
            ids => {
                let found: Vec<String> = ids.iter().map(ToString::to_string).collect();
                Err(other(NotTheEndpoint::OtherId {
                    expected: self.id.clone(),
                    found: match found.is_empty() {
                        true => "no SPIFFE ID".to_owned(),
                        false => found.join(", "),
                    },
                }))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
