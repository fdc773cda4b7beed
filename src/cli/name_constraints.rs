//! Configured names for which no certificate of an authority would verify.

use crate::config::Config;
use crate::x509::{Certificate, DnsName, San, TrustDomain, name_ruled_out};

/// The names of listeners, and one of Linkerd's proxies, that the nameConstraints of `path` (with its
/// anchor) rule out, each with the reason.
pub(super) fn ruled_out<'a>(
    config: &Config,
    trust_domain: &TrustDomain,
    path: impl IntoIterator<Item = &'a Certificate> + Clone,
) -> Vec<(String, String)> {
    let mut names: Vec<San> = Vec::new();
    for listener in config.listeners() {
        let own = listener.tls().own().iter();
        let own = own.filter(|certificate| certificate.trust_domain == *trust_domain);
        names.extend(own.flat_map(|certificate| certificate.names.iter().cloned()));
        if let Some(linkerd) = listener.linkerd()
            && linkerd
                .trust_domain()
                .is_none_or(|domain| domain == trust_domain)
            && let Ok(mesh) = linkerd.mesh(trust_domain)
            && let Ok(name) = mesh.workload("default", "default")
            && let Ok(name) = DnsName::parse(name.as_str())
        {
            names.push(San::Dns(name));
        }
    }
    let ruled_out = names.into_iter().filter_map(|name| {
        let why = name_ruled_out(&name, path.clone())?;
        Some((name.to_string(), why))
    });
    ruled_out.collect()
}
