//! `[listeners.*.tls]`: where a listener's own certificates come from.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::x509::{DnsName, San, TrustDomain};

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
    /// Further certificates, for clients that name one of their `dns` (SNI). Default: none.
    pub sni: Vec<RawSni>,
    /// A chain in PEM, leaf first, reloaded when it changes.
    pub certificate_file: Option<PathBuf>,
    /// Its private key in PEM.
    pub key_file: Option<PathBuf>,
}

/// `[[listeners.NAME.tls.sni]]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSni {
    /// The trust domain whose authority of this server certifies these names.
    pub trust_domain: String,
    /// DNS names; a client that asks for one of them is shown this certificate.
    #[serde(default)]
    pub dns: Vec<String>,
}

/// Where a listener's own certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsConfig {
    /// From this server's own authorities; the first answers clients that name none of the others.
    Own(Vec<OwnCertificate>),
    /// From files, reloaded when they change.
    Files {
        /// A chain in PEM, leaf first.
        certificate: PathBuf,
        /// The private key in PEM.
        key: PathBuf,
    },
    /// None: plaintext, for callers on this host alone.
    Plaintext,
}

/// A certificate that a listener gets from one of this server's authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The authority's trust domain.
    pub trust_domain: TrustDomain,
    /// Its names, at least one.
    pub names: Vec<San>,
}

type Wrong = (String, String);

impl TlsConfig {
    /// The certificate and key files, where it comes from files.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        match self {
            Self::Own(_) | Self::Plaintext => None,
            Self::Files { certificate, key } => Some((certificate, key)),
        }
    }

    /// The certificates of this server's own authorities.
    pub fn own(&self) -> &[OwnCertificate] {
        match self {
            Self::Own(certificates) => certificates,
            Self::Files { .. } | Self::Plaintext => &[],
        }
    }

    pub(super) fn new(raw: RawTls) -> Result<Self, Wrong> {
        match (raw.trust_domain, raw.certificate_file, raw.key_file) {
            (Some(trust_domain), None, None) => {
                let mut seen = BTreeSet::new();
                let mut own = vec![own("tls", &trust_domain, &raw.dns, &raw.ip, &mut seen)?];
                for (at, sni) in raw.sni.iter().enumerate() {
                    let key = format!("tls.sni[{at}]");
                    own.push(self::own(&key, &sni.trust_domain, &sni.dns, &[], &mut seen)?);
                }
                Ok(Self::Own(own))
            }
            (None, Some(_), Some(_)) if !raw.sni.is_empty() => {
                let why = "is for certificates of this server's authorities: leave the files out";
                Err(("tls.sni".into(), why.into()))
            }
            (None, Some(certificate), Some(key))
                if certificate.as_os_str().is_empty() || key.as_os_str().is_empty() =>
            {
                let why = "`certificate_file` and `key_file` must each name a file";
                Err(("tls".into(), why.into()))
            }
            (None, Some(certificate), Some(key)) if raw.dns.is_empty() && raw.ip.is_empty() => {
                Ok(Self::Files { certificate, key })
            }
            (None, Some(_), Some(_)) => Err((
                "tls.dns".into(),
                "leave `dns` and `ip` out: the certificate file has its names".into(),
            )),
            _ => Err((
                "tls".into(),
                "write `trust_domain` with `dns` or `ip`, or else `certificate_file` and `key_file`"
                    .into(),
            )),
        }
    }
}

fn own(
    key: &str,
    trust_domain: &str,
    dns: &[String],
    ip: &[IpAddr],
    seen: &mut BTreeSet<String>,
) -> Result<OwnCertificate, Wrong> {
    let parsed = TrustDomain::parse(trust_domain)
        .map_err(|e| wrong(key, "trust_domain", &format!("`{trust_domain}`: {e}")))?;
    let mut names = Vec::with_capacity(dns.len() + ip.len());
    for text in dns {
        let name =
            DnsName::parse(text).map_err(|e| wrong(key, "dns", &format!("`{text}`: {e}")))?;
        if !seen.insert(name.as_str().to_owned()) {
            return Err(wrong(
                key,
                "dns",
                &format!("`{}` stands twice", name.as_str()),
            ));
        }
        names.push(San::Dns(name));
    }
    names.extend(ip.iter().copied().map(San::Ip));
    if names.is_empty() {
        let why = "give the names by which clients call this listener in `dns` or `ip`";
        return Err(wrong(key, "dns", why));
    }
    Ok(OwnCertificate {
        trust_domain: parsed,
        names,
    })
}

fn wrong(table: &str, key: &str, why: &str) -> Wrong {
    (format!("{table}.{key}"), why.to_owned())
}
