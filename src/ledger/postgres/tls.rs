//! TLS to the database server: its certificate is verified with its name, always.

use std::fs;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Stream;

use super::settings::TlsFiles;
use crate::file_access::denied;
use crate::ledger::LedgerError;

/// Makes TLS connections; the files are read when it is made.
#[derive(Clone)]
pub(super) struct MakeTls(TlsConnector);

impl MakeTls {
    /// # Errors
    /// [`LedgerError::Unavailable`], with the file that cannot be used.
    pub(super) fn new(files: &TlsFiles) -> Result<Self, LedgerError> {
        let failed = |error: rustls::Error| {
            LedgerError::unavailable(format!("TLS to the database cannot be used: {error}"))
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let builder = match &files.roots {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(failed)?;
                }
                builder.with_root_certificates(roots)
            }
            None => {
                let verifier: Arc<dyn ServerCertVerifier> =
                    Arc::new(Verifier::new(Arc::new(default_provider())).map_err(failed)?);
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            }
        };
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|error| unusable(key, &error))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key_der)
                    .map_err(|error| unusable(certificate, &error))?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LedgerError> {
    fs::read(path).map_err(|error| {
        LedgerError::unavailable(format!(
            "a file for TLS to the database cannot be read: {}: {error}{}",
            path.display(),
            denied(path, &error)
        ))
    })
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::unavailable(format!(
        "a file for TLS to the database cannot be used: {}: {error}",
        path.display()
    ))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LedgerError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(path, &"it holds no certificate (PEM)")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, &error)),
    }
}

impl<S> MakeTlsConnect<S> for MakeTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Tls<S>;
    type TlsConnect = TlsTo;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<TlsTo, InvalidDnsNameError> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsTo {
            connector: self.0.clone(),
            name,
        })
    }
}

/// TLS to one host.
pub(super) struct TlsTo {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for TlsTo
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Tls<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Tls<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        async move { Ok(Tls(self.connector.connect(self.name, stream).await?)) }.boxed()
    }
}

pub(super) struct Tls<S>(Stream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Tls<S> {
    /// The server's certificate and name are verified, which SCRAM's binding would add nothing to.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tls<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tls<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
