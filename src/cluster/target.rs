//! Where an API server is, how it is verified, and the credential for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Uri};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;

use super::exec::Plugin;

/// Everything that a client for an API server is made from.
#[derive(Clone)]
pub struct Target {
    /// `https`, with the prefix of every path.
    pub(super) server: Uri,
    /// Verified in its certificate, and sent as SNI.
    pub(super) server_name: ServerName<'static>,
    /// `None`: those of the system.
    pub(super) authorities: Option<Vec<CertificateDer<'static>>>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) proxy: Option<Proxy>,
    pub(super) access: Access,
    /// Impersonation.
    pub(super) headers: HeaderMap,
    /// SHA-256 of everything that it was read from, except a token file.
    pub(super) digest: [u8; 32],
}

/// What a request presents beside a client certificate.
#[derive(Clone, Debug)]
pub(super) enum Access {
    None,
    Fixed(HeaderValue),
    /// The file is read every few seconds; `token` is for the time when it cannot be.
    TokenFile {
        path: PathBuf,
        token: Option<HeaderValue>,
    },
    Exec(Arc<Plugin>),
}

/// A proxy to the API server.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) kind: ProxyKind,
    /// Without user and password.
    pub(super) address: Uri,
    pub(super) user: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyKind {
    Http,
    Https,
    Socks5,
}

impl Target {
    pub fn server(&self) -> &Uri {
        &self.server
    }

    /// The name that the API server's certificate must have.
    pub fn server_name(&self) -> String {
        self.server_name.to_str().into_owned()
    }

    /// The certificates that its certificate must lead to; `None`: those of the system.
    pub fn authorities(&self) -> Option<&[CertificateDer<'static>]> {
        self.authorities.as_deref()
    }

    /// The chain of the client certificate.
    pub fn client_chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.identity
            .as_deref()
            .map(|identity| identity.cert.as_slice())
    }

    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Whether a program gives the credential.
    pub fn runs_a_program(&self) -> bool {
        matches!(self.access, Access::Exec(_))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.server)
    }
}

/// Without its password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Https => "https",
            ProxyKind::Socks5 => "socks5",
        };
        let authority = self
            .address
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}")
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}
