//! `[listeners.*.tls]`: the source of a listener's server certificates.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::{DnsName, San, SpiffeId, TrustDomain};

/// `[listeners.NAME.tls]`: `trust_domain`, or both files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    /// The trust domain whose authority of this server certifies the listener.
    pub trust_domain: Option<String>,
    /// DNS names by which clients call the listener.
    pub dns: Vec<String>,
    /// IP addresses by which clients call the listener.
    pub ip: Vec<IpAddr>,
    /// The SPIFFE ID of the listener, for clients that verify one: of a bundle endpoint (`https_spiffe`).
    pub spiffe_id: Option<String>,
    /// Further certificates, for clients that name one of their `dns` (SNI). Default: none.
    pub sni: Vec<RawSni>,
    /// A chain in PEM, leaf first, reloaded when it changes.
    pub certificate_file: Option<PathBuf>,
    /// Its private key in PEM.
    pub key_file: Option<PathBuf>,
}

/// `[[listeners.NAME.tls.sni]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSni {
    /// The trust domain whose authority of this server certifies these names.
    pub trust_domain: String,
    /// A client that asks for one of these DNS names gets this certificate.
    #[serde(default)]
    pub dns: Vec<String>,
}

/// The source of a listener's server certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsConfig {
    /// From this server's authorities; the first is for clients whose SNI matches none.
    Own(Vec<OwnCertificate>),
    /// From files, reloaded when they change.
    Files {
        /// A chain in PEM, leaf first.
        certificate: PathBuf,
        /// The private key in PEM.
        key: PathBuf,
    },
    /// Without TLS, for callers on this host only.
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

impl OwnCertificate {
    /// The names that a client's SNI can have.
    pub fn dns_names(&self) -> Vec<String> {
        let dns = |name: &San| match name {
            San::Dns(name) => Some(name.as_str().to_owned()),
            _ => None,
        };
        self.names.iter().filter_map(dns).collect()
    }
}

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

    /// Checks `[listeners.NAME.tls]`; the keys of the issues start with `tls`.
    pub(super) fn new(raw: RawTls) -> Result<Self, ConfigIssues> {
        match (raw.trust_domain, raw.certificate_file, raw.key_file) {
            (Some(trust_domain), None, None) => {
                let mut issues = ConfigIssues::default();
                let mut seen = BTreeSet::new();
                let mut own = Vec::with_capacity(1 + raw.sni.len());
                let first = OwnCertificate::new("tls", &trust_domain, &raw.dns, &raw.ip, &mut seen);
                let mut first = issues.collect(first);
                if let (Some(first), Some(id)) = (&mut first, &raw.spiffe_id) {
                    let id = spiffe_id(id, &first.trust_domain);
                    first.names.extend(issues.collect(id).map(San::Spiffe));
                }
                own.extend(first);
                for (index, sni) in raw.sni.iter().enumerate() {
                    let table = format!("tls.sni[{index}]");
                    let next =
                        OwnCertificate::new(&table, &sni.trust_domain, &sni.dns, &[], &mut seen);
                    own.extend(issues.collect(next));
                }
                issues.into_result(Some(Self::Own(own)))
            }
            (None, Some(certificate), Some(key)) => {
                let mut issues = ConfigIssues::default();
                if !raw.sni.is_empty() {
                    let problem = "is for certificates of this server's authorities";
                    issues
                        .push(ConfigIssue::new("tls.sni", problem).with_fix("leave the files out"));
                }
                issues.require(
                    !certificate.as_os_str().is_empty() && !key.as_os_str().is_empty(),
                    "tls",
                    "`certificate_file` and `key_file` must each name a file",
                );
                issues.require(
                    raw.dns.is_empty() && raw.ip.is_empty() && raw.spiffe_id.is_none(),
                    "tls.dns",
                    "leave `dns`, `ip` and `spiffe_id` out: the certificate file has its names",
                );
                issues.into_result(Some(Self::Files { certificate, key }))
            }
            _ => Err(Self::incomplete().into()),
        }
    }

    pub(super) fn incomplete() -> ConfigIssue {
        let problem =
            "write `trust_domain` with `dns` or `ip`, or else `certificate_file` and `key_file`";
        ConfigIssue::new("tls", problem)
    }
}

fn spiffe_id(text: &str, trust_domain: &TrustDomain) -> Result<SpiffeId, ConfigIssue> {
    let issue = |problem: &dyn Display| {
        let problem = format_args!("`{}`{problem}", text.escape_default());
        ConfigIssue::new("tls.spiffe_id", problem)
            .with_fix(format_args!("write spiffe://{trust_domain}/rootbridge"))
    };
    let id = SpiffeId::parse(text).map_err(|error| issue(&format_args!(": {error}")))?;
    match id.in_domain(trust_domain) {
        true => Ok(id),
        false => Err(issue(&" is not in the trust domain of the certificate")),
    }
}

impl OwnCertificate {
    /// `table` is the path of the table below the listener's; `seen` are the DNS names of its
    /// other certificates.
    fn new(
        table: &str,
        trust_domain: &str,
        dns: &[String],
        ip: &[IpAddr],
        seen: &mut BTreeSet<String>,
    ) -> Result<Self, ConfigIssues> {
        let issue = |key: &str, text: &str, problem: &dyn Display| {
            ConfigIssue::new(format!("{table}.{key}"), format_args!("`{text}`{problem}"))
        };
        let mut issues = ConfigIssues::default();
        let domain = TrustDomain::parse(trust_domain)
            .map_err(|e| issue("trust_domain", trust_domain, &format_args!(": {e}")));
        let domain = issues.collect(domain);
        let mut names = Vec::with_capacity(dns.len() + ip.len());
        for text in dns {
            let name = DnsName::parse(text).map_err(|e| issue("dns", text, &format_args!(": {e}")));
            if let Some(name) = issues.collect(name) {
                if !seen.insert(name.as_str().to_owned()) {
                    issues.push(issue("dns", name.as_str(), &" is listed twice"));
                }
                names.push(San::Dns(name));
            }
        }
        names.extend(ip.iter().copied().map(San::Ip));
        issues.require(
            !dns.is_empty() || !ip.is_empty(),
            format!("{table}.dns"),
            "give the names by which clients call this listener in `dns` or `ip`",
        );
        issues.into_result(domain.map(|trust_domain| Self {
            trust_domain,
            names,
        }))
    }
}
