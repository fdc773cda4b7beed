//! Invalid names, and their form in messages.

/// Untrusted text for a message: escaped and truncated.
pub(in crate::x509) fn printable(text: &str) -> String {
    const SHOWN: usize = 120;
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// Why a name is invalid. Errors contain names in escaped form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the trust domain is empty; write one such as cluster.local")]
    TrustDomainEmpty,
    #[error("the trust domain has {length} bytes; SPIFFE allows 255")]
    TrustDomainTooLong { length: usize },
    #[error(
        "trust domain \"{name}\" contains {invalid:?}; only a-z, 0-9, '.', '-' and '_' are allowed \
         (no port, no user, no upper case, no percent-encoding)"
    )]
    TrustDomainCharacter { name: String, invalid: char },
    #[error("\"{name}\" is not a SPIFFE ID: it must start with spiffe:// in lower case")]
    Scheme { name: String },
    #[error("the SPIFFE ID has {length} bytes; SPIFFE allows 2048")]
    SpiffeIdTooLong { length: usize },
    #[error("\"{name}\" has an empty path segment; remove the trailing or doubled slash")]
    EmptySegment { name: String },
    #[error("\"{name}\" has a relative path segment; '.' and '..' are not allowed")]
    RelativeSegment { name: String },
    #[error(
        "\"{name}\" contains {invalid:?} in its path; only letters, digits, '.', '-' and '_' are \
         allowed (no query, no fragment, no percent-encoding)"
    )]
    PathCharacter { name: String, invalid: char },
    #[error("\"{name}\" names a trust domain, not a workload: a path must follow it")]
    NoPath { name: String },
    #[error("\"{name}\" is not a Kubernetes namespace (DNS-1123 label, up to 63 characters)")]
    Namespace { name: String },
    #[error(
        "\"{name}\" is not a service account's name (DNS-1123 subdomain, up to 253 characters)"
    )]
    Account { name: String },
    #[error(
        "\"{name}\" has no name in Linkerd: a service account's name must be a DNS-1123 label there, \
         up to 63 characters and without dots"
    )]
    LinkerdAccount { name: String },
    #[error("\"{name}\" is not a service account of the trust domain {trust_domain}")]
    NotInMesh { name: String, trust_domain: String },
    #[error(
        "\"{name}\" is not a DNS name: {why} (labels of letters, digits and '-', no wildcard, no \
         trailing dot)"
    )]
    Dns { name: String, why: &'static str },
    #[error(
        "\"{name}\" cannot be a CA's name: 1 to 64 characters, none of them a control character"
    )]
    CaName { name: String },
    #[error("\"{name}\" is not an IP address")]
    Ip { name: String },
    #[error("\"{name}\" is not a name of a known kind: write spiffe://…, dns:… or ip:…")]
    Kind { name: String },
}
