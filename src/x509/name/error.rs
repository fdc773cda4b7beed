//! What may be wrong with a name, and how a hostile one is printable.

/// A name as an error shows it: escaped, because it came from outside, and cut short.
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

/// Why a text is not the name that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No trust domain at all.
    #[error("the trust domain is empty; write one such as cluster.local")]
    TrustDomainEmpty,
    /// A trust domain past 255 bytes.
    #[error("the trust domain has {length} bytes; SPIFFE allows 255")]
    TrustDomainTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A trust domain with another character: a port, a user, an upper-case letter, `%`.
    #[error(
        "trust domain \"{name}\" holds {invalid:?}; only a-z, 0-9, '.', '-' and '_' may stand there \
         (no port, no user, no upper case, no percent-encoding)"
    )]
    TrustDomainCharacter {
        /// The name, escaped.
        name: String,
        /// The first character that may not stand there.
        invalid: char,
    },
    /// Not `spiffe://`.
    #[error("\"{name}\" is not a SPIFFE ID: it must begin with spiffe:// in lower case")]
    Scheme {
        /// The name, escaped.
        name: String,
    },
    /// A SPIFFE ID past 2,048 bytes.
    #[error("the SPIFFE ID has {length} bytes; SPIFFE allows 2048")]
    SpiffeIdTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A path that ends in a slash or has two in a row.
    #[error("\"{name}\" has an empty path segment; remove the trailing or doubled slash")]
    EmptySegment {
        /// The name, escaped.
        name: String,
    },
    /// A path with `.` or `..`.
    #[error("\"{name}\" has a relative path segment; '.' and '..' are not allowed")]
    RelativeSegment {
        /// The name, escaped.
        name: String,
    },
    /// A path with another character: a query, a fragment, `%`, NUL.
    #[error(
        "\"{name}\" holds {invalid:?} in its path; only letters, digits, '.', '-' and '_' may stand \
         there (no query, no fragment, no percent-encoding)"
    )]
    PathCharacter {
        /// The name, escaped.
        name: String,
        /// The first character that may not stand there.
        invalid: char,
    },
    /// A SPIFFE ID that names no workload.
    #[error("\"{name}\" names a trust domain, not a workload: a path must follow it")]
    NoPath {
        /// The name.
        name: String,
    },
    /// Not a Kubernetes namespace.
    #[error("\"{name}\" is not a Kubernetes namespace (DNS-1123 label, up to 63 characters)")]
    Namespace {
        /// The name, escaped.
        name: String,
    },
    /// Not a Kubernetes service account.
    #[error(
        "\"{name}\" is not a service account's name (DNS-1123 subdomain, up to 253 characters)"
    )]
    Account {
        /// The name, escaped.
        name: String,
    },
    /// Not an account that has a name in a Linkerd mesh.
    #[error(
        "\"{name}\" has no name in Linkerd: a service account's name must be a DNS-1123 label there, \
         up to 63 characters and without dots"
    )]
    LinkerdAccount {
        /// The name, escaped.
        name: String,
    },
    /// A SPIFFE ID that is no workload of a Linkerd mesh.
    #[error("\"{name}\" is no service account of the trust domain {trust_domain}")]
    NotInMesh {
        /// The ID.
        name: String,
        /// The mesh's trust domain.
        trust_domain: String,
    },
    /// Not a DNS name that may be certified.
    #[error(
        "\"{name}\" is not a DNS name: {why} (labels of letters, digits and '-', no wildcard, no \
         trailing dot)"
    )]
    Dns {
        /// The name, escaped.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    #[error(
        "\"{name}\" cannot be a CA's name: 1 to 64 characters, none of them a control character"
    )]
    CaName { name: String },
    /// Not an IP address.
    #[error("\"{name}\" is not an IP address")]
    Ip {
        /// The name, escaped.
        name: String,
    },
    /// No kind of name that is known.
    #[error("\"{name}\" is no name of a known kind: write spiffe://…, dns:… or ip:…")]
    Kind {
        /// The name, escaped.
        name: String,
    },
}
