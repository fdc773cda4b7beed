//! TLS to the API server and to a proxy.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

/// TLS to an API server.
pub(super) fn to_server(
    authorities: Option<&[CertificateDer<'static>]>,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<TlsConnector, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(text)?;
    let builder = match authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            // As client-go does: a certificate that cannot be an authority does not hide the others.
            let (added, _) = roots.add_parsable_certificates(authorities.iter().cloned());
            if added == 0 {
                return Err("no certificate of its certificate-authority can be used".to_owned());
            }
            builder.with_root_certificates(roots)
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(of_system([])?),
    };
    Ok(TlsConnector::from(Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let identity = SingleCertAndKey::from(identity);
            builder.with_client_cert_resolver(Arc::new(identity))
        }
    })))
}

/// TLS to a proxy, which gets no client certificate: it carries TLS to the API server. Its own
/// certificate may come from the kubeconfig's authorities, as client-go wants it, or from the system's.
pub(super) fn to_proxy(
    authorities: Option<&[CertificateDer<'static>]>,
) -> Result<TlsConnector, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(text)?;
    let more = authorities.unwrap_or_default().iter().cloned();
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(of_system(more)?);
    Ok(TlsConnector::from(Arc::new(builder.with_no_client_auth())))
}

fn of_system(
    more: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let verifier = Verifier::new_with_extra_roots(more, Arc::new(default_provider()));
    let verifier = verifier.map_err(|error| {
        format!("the system's certificate authorities cannot be read ({error}); give certificate-authority")
    })?;
    Ok(Arc::new(verifier))
}

fn text(error: rustls::Error) -> String {
    error.to_string()
}
