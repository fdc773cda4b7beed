//! Keys that Linkerd's proxies accept and `linkerd check` does not.
//!
//! Proxies verify paths of P-256, P-384, P-521, Ed25519 and RSA keys of 2048 to 4096 bits: every
//! kind that an authority here may have. Linkerd's own check is narrower.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::issuance::Authorities;
use crate::x509::{Certificate, KeyKind, TrustDomain};

/// A sentence for each key that `linkerd check` reports although proxies accept it.
pub fn linkerd_check_problems(issuer: &Certificate, anchors: &[Certificate]) -> Vec<String> {
    let issuer = issuer.public_key().kind();
    let mut problems = Vec::new();
    if issuer != KeyKind::EcdsaP256 {
        problems.push(format!(
            "the issuing CA's key is {issuer}: `linkerd check` wants ECDSA P-256"
        ));
    }
    for anchor in anchors {
        let kind = anchor.public_key().kind();
        let known = matches!(
            kind,
            KeyKind::EcdsaP256 | KeyKind::Rsa { bits: 2048 } | KeyKind::Rsa { bits: 4096 }
        );
        if !known {
            problems.push(format!(
                "the key of the trust anchor {} is {kind}: `linkerd check` wants ECDSA P-256, RSA \
                 2048 or RSA 4096",
                anchor.subject()
            ));
        }
    }
    problems
}

/// Logs them whenever the authority of `trust_domain` changes, until `stop`.
pub async fn warn(
    authorities: Arc<Authorities>,
    trust_domain: TrustDomain,
    stop: CancellationToken,
) {
    let mut refreshed = authorities.watch();
    let mut last = Vec::new();
    loop {
        refreshed.mark_unchanged();
        if let Some((issuer, bundle)) = authorities.active_issuer(&trust_domain) {
            let problems = linkerd_check_problems(issuer.certificate(), bundle.anchors());
            if problems != last {
                for problem in &problems {
                    tracing::warn!(%trust_domain, "{problem}; proxies accept it");
                }
                last = problems;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = refreshed.changed() => if changed.is_err() { return },
        }
    }
}
