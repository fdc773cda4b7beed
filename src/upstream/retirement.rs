//! When an issuing CA that no longer signs may be retired.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::issuance::active_row;
use crate::ledger::{
    AuthorityRecord, Filter, IssuerId, IssuerRecord, IssuerState, Ledger, LedgerError, Role,
};

/// How long after another issuing CA took over requests may still be in flight.
const GRACE: Duration = Duration::from_secs(60);

/// The end of one certificate of the issuer that has not expired; `None` once all have.
///
/// # Errors
/// The ledger's.
pub async fn unexpired(
    ledger: &dyn Ledger,
    issuer: &IssuerId,
    now: UnixTime,
) -> Result<Option<UnixTime>, LedgerError> {
    let filter = Filter {
        issuer: Some(issuer.clone()),
        expires_after: Some(now),
        limit: 1,
        ..Filter::default()
    };
    let rows = ledger.certificates(filter).await?;
    Ok(rows.first().and_then(|row| row.not_after))
}

/// Whether a rotation that is open replaces the issuer: it retires it, or goes back to it.
pub(super) async fn rotates(ledger: &dyn Ledger, issuer: &IssuerId) -> Result<bool, LedgerError> {
    let rotations = ledger.rotations().await?;
    let mut open = rotations.iter().filter(|rotation| rotation.phase.is_open());
    Ok(open.any(|rotation| rotation.parts.old_issuer.as_ref() == Some(issuer)))
}

/// The issuing CAs that another one has replaced, and that requests no longer meet.
pub(super) fn replaced(record: &AuthorityRecord, now: UnixTime) -> Vec<&IssuerRecord> {
    let Some((signing, _)) = active_row(record) else {
        return Vec::new();
    };
    let since = signing.certificates.last().map(|row| row.added_at);
    if since.is_none_or(|since| now.since(since) < GRACE) {
        return Vec::new();
    }
    let issuers = record.issuers.iter().filter(|issuer| {
        issuer.role == Role::Issuing
            && issuer.state == IssuerState::Active
            && issuer.id != signing.id
    });
    issuers.collect()
}
