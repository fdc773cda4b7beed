//! Keys that Linkerd's proxies take and `linkerd check` does not know.
//!
//! Proxies verify paths of P-256, P-384, P-521, Ed25519 and RSA keys of 2048 to 4096 bits: every
//! kind that an authority here may have. Linkerd's own check is narrower.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::issuance::Authorities;
use crate::x509::{Certificate, KeyKind, TrustDomain};

/// What `linkerd check` will find fault with although proxies do not: a sentence for each.
pub fn what_linkerd_check_says(issuer: &Certificate, anchors: &[Certificate]) -> Vec<String> {
    let issuer = issuer.public_key().kind();
    let mut said = Vec::new();
    if issuer != KeyKind::EcdsaP256 {
        said.push(format!(
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
            said.push(format!(
                "the key of the trust anchor {} is {kind}: `linkerd check` wants ECDSA P-256, RSA \
                 2048 or RSA 4096",
                anchor.subject()
            ));
        }
    }
    said
}

/// Says so in the log, whenever an authority that Linkerd's proxies get certificates from changes.
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
            let said = what_linkerd_check_says(issuer.certificate(), bundle.anchors());
            if said != last {
                for each in &said {
                    tracing::warn!(%trust_domain, "{each}; proxies take it");
                }
                last = said;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = refreshed.changed() => if changed.is_err() { return },
        }
    }
}
