//! When an issuing CA that no longer signs may be retired, and who does it without an upstream CA.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, UnixTime};
use crate::issuance::active_row;
use crate::ledger::{
    Actor, AuthorityRecord, Change, Filter, IssuerId, IssuerRecord, IssuerState, Ledger,
    LedgerError, Role,
};
use crate::x509::TrustDomain;

/// How long after another issuing CA took over requests may still be in flight.
const GRACE: Duration = Duration::from_secs(60);
/// How often it is looked whether something can be retired.
const INTERVAL: Duration = Duration::from_secs(10);

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

/// The active issuing CAs in whose place another one signs.
pub fn replaced(record: &AuthorityRecord) -> Vec<&IssuerRecord> {
    let Some((signing, _)) = active_row(record) else {
        return Vec::new();
    };
    let issuers = record.issuers.iter().filter(|issuer| {
        issuer.role == Role::Issuing
            && issuer.state == IssuerState::Active
            && issuer.id != signing.id
    });
    issuers.collect()
}

/// The replaced ones that requests no longer meet.
pub(super) fn retirable(record: &AuthorityRecord, now: UnixTime) -> Vec<&IssuerRecord> {
    let since = active_row(record)
        .and_then(|(signing, _)| signing.certificates.last())
        .map(|row| row.added_at);
    match since {
        Some(since) if now.since(since) >= GRACE => replaced(record),
        _ => Vec::new(),
    }
}

/// Retires what operators have replaced by `ca import`, once its last certificate has expired.
#[derive(Debug)]
pub struct Retirement {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    /// Those with an upstream CA, whose renewals do it.
    others: HashSet<TrustDomain>,
}

impl Retirement {
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        others: HashSet<TrustDomain>,
    ) -> Self {
        Self {
            ledger,
            clock,
            others,
        }
    }

    /// Follows the records until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The revision without anything to be retired, at its time or later.
        let mut nothing_at = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            match self.look(nothing_at).await {
                Ok(found) => nothing_at = found,
                Err(error) => tracing::debug!(%error, "no issuing CA was retired"),
            }
        }
    }

    /// Returns the revision if nothing in it is replaced.
    async fn look(&self, nothing_at: Option<u64>) -> Result<Option<u64>, LedgerError> {
        if nothing_at == Some(self.ledger.revision().await?) {
            return Ok(nothing_at);
        }
        let records = self.ledger.snapshot().await?;
        let mut waiting = Vec::new();
        for record in &records.authorities {
            if !self.others.contains(&record.trust_domain) && !replaced(record).is_empty() {
                waiting.push(record);
            }
        }
        if waiting.is_empty() {
            return Ok(Some(records.revision));
        }
        let rotations = self.ledger.rotations().await?;
        let now = self.clock.now();
        for record in waiting {
            let domain = &record.trust_domain;
            // It has its own rules for the old issuing CA.
            let rotates = rotations
                .iter()
                .any(|each| each.trust_domain == *domain && each.phase.is_open());
            if rotates {
                continue;
            }
            for issuer in retirable(record, now) {
                if unexpired(&*self.ledger, &issuer.id, now).await?.is_some() {
                    continue;
                }
                let change = Change::SetIssuerState {
                    issuer: issuer.id.clone(),
                    state: IssuerState::Retired,
                };
                match self.ledger.apply(change, &Actor::server(None)).await {
                    Ok(_) => {
                        let issuer = &issuer.id;
                        tracing::info!(event = "issuer.retired", trust_domain = %domain, %issuer, "an issuing CA was retired: another one signs, and its last certificate has expired");
                    }
                    // Another server was first.
                    Err(LedgerError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}
