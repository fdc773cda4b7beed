//! A new root of an upstream CA: what it has certified is in the records, by an answer to a request or an
//! operator's import.

use super::Rotations;
use crate::clock::UnixTime;
use crate::digest::hex;
use crate::issuance::{Arrived, active_row, received};
use crate::ledger::{
    Actor, AuthorityRecord, CaRequestChange, CaRequestState, Change, IssuerState, LedgerError,
    RotationChange, RotationKind, RotationPhase, RotationRecord, Snapshot,
};
use crate::trust::rotation::Preparation;
use crate::x509::Certificate;

impl Rotations {
    /// Records what the upstream CA has certified, once its root is approved.
    pub(super) async fn take_answer(
        &self,
        rotation: &RotationRecord,
        records: &Snapshot,
    ) -> Result<(), LedgerError> {
        let authority = records.authority(&rotation.trust_domain);
        let Some((_, arrived)) = authority.and_then(received) else {
            return Ok(());
        };
        if objection(rotation, &arrived).is_some() {
            return Ok(());
        }
        tracing::info!(
            trust_domain = %rotation.trust_domain, rotation = %rotation.id,
            anchor = %arrived.anchor.subject(), "the upstream CA has certified what arrives"
        );
        let prepared = RotationChange::Prepared {
            rotation: rotation.id,
            new_anchor: arrived.anchor.fingerprint(),
            new_issuer: arrived.issuer,
        };
        let by = Actor::server(None);
        let changed = self
            .parts
            .ledger
            .apply(Change::Rotation(prepared), &by)
            .await;
        match changed {
            // Somebody else has moved it.
            Ok(_) | Err(LedgerError::RotationMoved { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether what the upstream CA has certified can be used.
    pub(super) fn upstream_preparation(
        &self,
        rotation: &RotationRecord,
        authority: &AuthorityRecord,
        now: UnixTime,
    ) -> Preparation {
        let arrived = received(authority);
        let Some(id) = &rotation.parts.new_issuer else {
            if let Some(why) = overtaken(rotation, authority) {
                return Preparation::Problem(why);
            }
            return match arrived {
                None => Preparation::WaitsForCertificate,
                Some((_, arrived)) => match objection(rotation, &arrived) {
                    Some(why) => Preparation::Problem(why),
                    None => Preparation::Running,
                },
            };
        };
        let mut issuers = authority.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.id == *id);
        let is_imported = issuer.is_some_and(|issuer| {
            let mut rows = issuer.certificates.iter();
            rows.any(|row| row.state == IssuerState::Pending)
        });
        let open = authority.open_request();
        let is_requested = open.is_some_and(|open| open.issuer.as_ref() == Some(id));
        let answer = arrived.filter(|(request, arrived)| {
            arrived.issuer == *id
                && Some(arrived.anchor.fingerprint()) == rotation.parts.new_anchor
                && request.certificates.iter().all(|der| lives(der, now))
        });
        if !is_imported && answer.is_none() {
            return match is_requested {
                // It had expired or cannot be used any more, and is asked for again.
                true => Preparation::WaitsForCertificate,
                false => Preparation::Problem(format!(
                    "the request of issuer {id} has ended without a certificate: {AGAIN}"
                )),
            };
        }
        let mut anchors = authority.anchors.iter();
        let anchor = anchors.find(|anchor| {
            Some(anchor.sha256) == rotation.parts.new_anchor && anchor.state != IssuerState::Retired
        });
        let anchor = anchor.and_then(|anchor| Certificate::parse(anchor.der.as_slice()).ok());
        let Some(anchor) = anchor else {
            return Preparation::Problem(format!("its root is not published any more: {AGAIN}"));
        };
        match rotation.phase {
            RotationPhase::Prepare => match self.check_room(Some(authority), &anchor) {
                Ok(()) => Preparation::Ready,
                Err(error) => Preparation::Problem(error.to_string()),
            },
            _ => Preparation::Ready,
        }
    }
}

const AGAIN: &str = "go back with `rootbridge rotate back`, and start another rotation";

/// Why an answer is not what the rotation waits for.
fn objection(rotation: &RotationRecord, arrived: &Arrived) -> Option<String> {
    let sha256 = hex(&arrived.anchor.fingerprint());
    if rotation.parts.old_issuer.as_ref() == Some(&arrived.issuer) {
        return Some(
            "the upstream CA has certified the key that signs already (`reuse_key`), and a new root \
             needs a new one: go back with `rootbridge rotate back`"
                .to_owned(),
        );
    }
    (!arrived.is_approved).then(|| {
        format!(
            "its root `{}` is not approved: compare its fingerprint with the CA's administrators, then \
             run `rootbridge anchors approve sha256:{sha256}`",
            arrived.anchor.subject()
        )
    })
}

/// A renewal below the old root was first.
fn overtaken(rotation: &RotationRecord, authority: &AuthorityRecord) -> Option<String> {
    let (signing, row) = active_row(authority)?;
    let is_other = rotation.parts.old_issuer.as_ref() != Some(&signing.id);
    is_other.then(|| {
        format!(
            "issuer {} signs since the rotation started, below the root sha256:{}: {AGAIN}",
            signing.id,
            hex(&row.anchor)
        )
    })
}

fn lives(der: &[u8], now: UnixTime) -> bool {
    Certificate::parse(der).is_ok_and(|certificate| certificate.not_after() > now)
}

/// Ends the request for what does not arrive.
pub(super) fn cancelled(rotation: &RotationRecord, authority: &AuthorityRecord) -> Option<Change> {
    let open = authority.open_request()?;
    let is_own = rotation.kind == RotationKind::UpstreamRoot
        && open.issuer.is_some()
        && open.issuer == rotation.parts.new_issuer;
    is_own.then(|| {
        Change::Request(CaRequestChange::End {
            request: open.id,
            state: CaRequestState::Cancelled,
            reason: format!("rotation {} went back", rotation.id),
        })
    })
}
