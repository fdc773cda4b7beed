//! `[listeners.*]` and `[istio]`: where the APIs are spoken, by whom, and under which name.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::limits::{Limits, RawLimits};
use crate::authn;
use crate::x509::{DnsName, TrustDomain};

/// An API that a listener may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `istio.v1.auth.IstioCertificateService`.
    Istio,
    /// `rootbridge.v1.CertificateService`.
    Certificates,
    /// `rootbridge.v1.TrustBundleService` and `/v1/trust-bundles/`; both without a credential.
    Bundles,
}

/// `[listeners.NAME]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawListener {
    /// IP address and port, such as `0.0.0.0:8443`.
    pub address: String,
    /// The APIs served here.
    pub apis: Vec<Api>,
    /// The `[jwt.*]` verifiers that may vouch for callers here.
    #[serde(default)]
    pub jwt: Vec<String>,
    /// The `[operators.*]` whose credentials count here.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Whether, and for which trust domains, a client certificate authenticates. Default: not.
    pub client_certificates: Option<authn::RawClientCertificates>,
    /// The server's own certificate.
    pub tls: RawTls,
    /// What the listener takes on at most.
    #[serde(default)]
    pub limits: RawLimits,
}

/// `[listeners.NAME.tls]` as it is written: `trust_domain`, or both files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    /// The trust domain whose authority of this server certifies the listener.
    pub trust_domain: Option<String>,
    /// DNS names by which clients call the listener.
    pub dns: Vec<String>,
    /// IP addresses by which clients call the listener.
    pub ip: Vec<IpAddr>,
    /// A chain in PEM, leaf first, reloaded when it changes.
    pub certificate_file: Option<PathBuf>,
    /// Its private key in PEM.
    pub key_file: Option<PathBuf>,
}

/// `[istio]` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawIstio {
    /// The profile of a request that names none. Default: `policy.default_profile`.
    pub profile: Option<String>,
}

/// A value of a listener that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value of the listener's own.
    #[error("listeners.{listener}.{key}: {why}")]
    Value {
        /// The listener's name.
        listener: String,
        /// The key in it.
        key: &'static str,
        /// What is wrong and what to write.
        why: String,
    },
    /// A name that is not plain.
    #[error("listeners.{listener}: a listener's name is 1 to 63 letters, digits, - and _")]
    Name {
        /// The name, escaped.
        listener: String,
    },
    /// Who may vouch there.
    #[error(transparent)]
    Callers(#[from] authn::ConfigError),
}

/// A checked listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    name: String,
    address: SocketAddr,
    apis: BTreeSet<Api>,
    callers: authn::Callers,
    tls: TlsConfig,
    limits: Limits,
}

/// Where a listener's own certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsConfig {
    /// From this server's authority of a trust domain, for these names (at least one).
    Own {
        /// The authority's trust domain.
        trust_domain: TrustDomain,
        /// DNS names of the certificate.
        dns: Vec<DnsName>,
        /// IP addresses of the certificate.
        ip: Vec<IpAddr>,
    },
    /// From files, reloaded when they change.
    Files {
        /// A chain in PEM, leaf first.
        certificate: PathBuf,
        /// The private key in PEM.
        key: PathBuf,
    },
}

impl TlsConfig {
    /// The certificate and key files, where it comes from files.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        match self {
            Self::Own { .. } => None,
            Self::Files { certificate, key } => Some((certificate, key)),
        }
    }
}

impl ListenerConfig {
    /// Checks what is written under `[listeners.NAME]`, with the callers that `authn` knows.
    ///
    /// # Errors
    /// The first key whose value cannot be used, and what to write.
    pub fn new(name: &str, raw: RawListener, authn: &authn::Config) -> Result<Self, ConfigError> {
        let wrong = |key, why: String| ConfigError::Value {
            listener: name.to_owned(),
            key,
            why,
        };
        // Logs and metrics show it.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(ConfigError::Name {
                listener: name.escape_default().to_string(),
            });
        }
        let address = raw.address.parse().map_err(|_| {
            let why = format!(
                "`{}` is not an IP address and port; write 0.0.0.0:8443",
                raw.address
            );
            wrong("address", why)
        })?;
        let apis: BTreeSet<Api> = raw.apis.iter().copied().collect();
        if apis.is_empty() {
            return Err(wrong(
                "apis",
                "name at least one of istio, certificates, bundles".into(),
            ));
        }
        let nobody = raw.jwt.is_empty() && raw.operators.is_empty();
        if nobody
            && raw.client_certificates.is_none()
            && apis.iter().any(|api| *api != Api::Bundles)
        {
            let why = "nobody can call `istio` or `certificates` here: name a verifier of [jwt.*] \
                       in `jwt`, an operator in `operators`, or turn on `client_certificates`";
            return Err(wrong("jwt", why.into()));
        }
        let callers = authn::RawCallers {
            jwt: raw.jwt,
            operators: raw.operators,
            client_certificates: raw.client_certificates,
        };
        Ok(Self {
            name: name.to_owned(),
            address,
            apis,
            callers: authn.callers(&format!("listeners.{name}"), callers)?,
            tls: tls(raw.tls).map_err(|(key, why)| wrong(key, why))?,
            limits: Limits::try_from(raw.limits).map_err(|(key, why)| wrong(key, why))?,
        })
    }

    /// The name in `[listeners.NAME]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it serves `api`.
    pub fn serves(&self, api: Api) -> bool {
        self.apis.contains(&api)
    }

    /// Who may vouch here.
    pub fn callers(&self) -> &authn::Callers {
        &self.callers
    }

    /// The server's own certificate.
    pub fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    /// What it takes on at most.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

type Wrong = (&'static str, String);

fn tls(raw: RawTls) -> Result<TlsConfig, Wrong> {
    match (raw.trust_domain, raw.certificate_file, raw.key_file) {
        (Some(trust_domain), None, None) => {
            let trust_domain = TrustDomain::parse(&trust_domain)
                .map_err(|e| ("tls.trust_domain", format!("`{trust_domain}`: {e}")))?;
            let dns: Vec<_> = raw
                .dns
                .iter()
                .map(|name| DnsName::parse(name).map_err(|e| ("tls.dns", format!("`{name}`: {e}"))))
                .collect::<Result<_, _>>()?;
            if dns.is_empty() && raw.ip.is_empty() {
                let why = "give the names by which clients call this listener in `dns` or `ip`";
                return Err(("tls.dns", why.into()));
            }
            Ok(TlsConfig::Own {
                trust_domain,
                dns,
                ip: raw.ip,
            })
        }
        (None, Some(certificate), Some(key))
            if certificate.as_os_str().is_empty() || key.as_os_str().is_empty() =>
        {
            Err((
                "tls",
                "`certificate_file` and `key_file` must each name a file".into(),
            ))
        }
        (None, Some(certificate), Some(key)) if raw.dns.is_empty() && raw.ip.is_empty() => {
            Ok(TlsConfig::Files { certificate, key })
        }
        (None, Some(_), Some(_)) => Err((
            "tls.dns",
            "leave `dns` and `ip` out: the certificate file has its names".into(),
        )),
        _ => Err((
            "tls",
            "write `trust_domain` with `dns` or `ip`, or else `certificate_file` and `key_file`"
                .into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "address = '127.0.0.1:8443'\napis = ['istio']\n\
                        client_certificates = { trust_domains = ['td.example'] }\n";
    const TLS: &str = "[tls]\ntrust_domain = 'td.example'\ndns = ['localhost']\n";

    fn parse(text: &str) -> Result<ListenerConfig, String> {
        let raw: RawListener = toml::from_str(text).map_err(|error| error.to_string())?;
        let authn = authn::Config::try_from(authn::RawConfig::default()).unwrap();
        ListenerConfig::new("mesh", raw, &authn).map_err(|error| error.to_string())
    }

    #[test]
    fn a_listener_of_its_own_authority() {
        let listener = parse(&format!("{GOOD}{TLS}")).unwrap();
        assert!(listener.serves(Api::Istio) && !listener.serves(Api::Bundles));
        assert!(listener.callers().client_certificates().is_some());
        assert_eq!(listener.tls().files(), None);
    }

    #[test]
    fn each_bad_value_is_named() {
        let nobody = "address = '127.0.0.1:8443'\napis = ['certificates']\n";
        for (text, says) in [
            (
                format!("{}{TLS}", GOOD.replace("127.0.0.1:8443", "localhost")),
                "mesh.address: `lo",
            ),
            (
                format!("{}{TLS}", GOOD.replace("'istio'", "")),
                "mesh.apis: name at least one",
            ),
            (format!("{nobody}{TLS}"), "mesh.jwt: nobody can call"),
            (format!("{nobody}jwt = ['x']\n{TLS}"), "mesh.jwt"),
            (
                format!("{GOOD}[tls]\ntrust_domain = 'td.example'"),
                "mesh.tls.dns: give the names",
            ),
            (
                format!("{GOOD}[tls]\ntrust_domain = 'TD'\nip = ['::1']"),
                "mesh.tls.trust_domain: `TD`",
            ),
            (
                format!("{GOOD}[tls]\ncertificate_file = '/c'"),
                "mesh.tls: write `trust_domain`",
            ),
            (
                format!("{GOOD}[limits]\nmax_streams = 0\n{TLS}"),
                "limits.max_streams",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
