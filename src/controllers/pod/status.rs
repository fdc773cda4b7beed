//! The `status` of a PodCertificateRequest, which is written once.

use std::time::Duration;

use serde_json::{Value, json};

use super::validate::{NEAR, SHORTEST, ValidRequest, apart};
use crate::clock::UnixTime;
use crate::controllers::signing_error::{Refusal, SigningError};
use crate::issuance::Issued;

/// The earliest part of the lifetime, in thousandths, at which renewal starts, and how far renewals are
/// spread. The kubelet renews within minutes of the given time, so pods that started together are
/// spread here.
const FROM: u64 = 600;
const SPREAD: u64 = 150;

/// The status with the certificate, if the API server still accepts it.
pub(super) fn issued(
    issued: &Issued,
    valid: &ValidRequest,
    server: UnixTime,
) -> Result<Value, SigningError> {
    let leaf = issued.certificate();
    let (begins, ends) = (leaf.not_before(), leaf.not_after());
    let life = ends.since(begins);
    // The ledger may return the certificate of an earlier attempt.
    if apart(begins, server) > NEAR || life < SHORTEST || life > valid.longest() {
        return Err(Refusal::failed(
            "Superseded",
            "the certificate that was made for this object is too old to be accepted; make a new \
             request",
        )
        .into());
    }
    Ok(json!({
        "conditions": [condition("Issued", "Issued", "signed by rootbridge", server)],
        "certificateChain": issued.chain_pem(),
        "notBefore": begins.to_string(),
        "notAfter": ends.to_string(),
        "beginRefreshAt": refresh(begins, life, valid.uid()).to_string(),
    }))
}

/// The condition Denied or Failed, and nothing else.
pub(super) fn refused(refusal: &Refusal, server: UnixTime) -> Value {
    let kind = if refusal.denied { "Denied" } else { "Failed" };
    json!({ "conditions": [condition(kind, refusal.reason, &refusal.message, server)] })
}

fn condition(kind: &str, reason: &str, message: &str, at: UnixTime) -> Value {
    json!({
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": at.to_string(),
    })
}

/// From 60 to 75 % of the lifetime, by the object's UID: the same at each attempt. In the shortest
/// lifetime, an hour, that is more than ten minutes from both ends.
fn refresh(begins: UnixTime, life: Duration, uid: &str) -> UnixTime {
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let part = FROM + (hash >> 16) % SPREAD;
    begins.plus(Duration::from_secs(
        life.as_secs().saturating_mul(part) / 1000,
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn renewal_is_spread_within_the_rules() {
        let begins = UnixTime::from_secs(1_000_000);
        let ten = Duration::from_secs(600);
        for hours in [1, 24, 24 * 91] {
            let life = Duration::from_secs(3600 * hours);
            let mut seen = BTreeSet::new();
            for n in 0..500 {
                let uid = format!("6f1c2d1e-0000-4000-8000-{n:012}");
                let at = refresh(begins, life, &uid);
                assert_eq!(at, refresh(begins, life, &uid));
                assert!(at.since(begins) >= life * 6 / 10 && at.since(begins) >= ten);
                let left = begins.plus(life).since(at);
                assert!(left >= life * 25 / 100 && left >= ten);
                seen.insert(at.secs());
            }
            assert!(seen.len() > 50, "{hours} h: {} moments", seen.len());
        }
    }

    #[test]
    fn a_refusal_sets_nothing_else() {
        let at = UnixTime::from_secs(0);
        let status = refused(&Refusal::denied("UnsupportedKeyType", "no"), at);
        let fields: Vec<_> = status.as_object().into_iter().flatten().collect();
        assert_eq!(fields.len(), 1);
        let kind = status.pointer("/conditions/0/type");
        assert_eq!(kind.and_then(Value::as_str), Some("Denied"));
    }
}
