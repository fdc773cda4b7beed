//! Changes of the records: each in one transaction, with its author and the bundle versions that it
//! creates.

use super::bundles::{publish, raise_lowest_sequences};
use super::change_context::{ChangeContext, ChangeResult, revision};
use super::columns::Columns;
use super::connection::{Connection, query};
use super::high_water::high_water;
use super::issuers::NewCaCertificate;
use super::work_leases::require;
use crate::clock::UnixTime;
use crate::ledger::{Actor, Applied, BundleVersion, Change, HighWater, IssuerState, LedgerError};
use crate::x509::TrustDomain;

/// The caller holds the transaction.
pub(in crate::ledger) async fn apply(
    conn: &mut dyn Connection,
    change: Change,
    by: &Actor,
    now: UnixTime,
) -> Result<Applied, LedgerError> {
    if let Some(lease) = &by.lease {
        require(conn, lease).await?;
    }
    if let Change::RefreshBundles { now } = change {
        return refresh(conn, now, by).await;
    }
    if let Change::AcceptOlderLedger {
        instance,
        mark,
        reason,
    } = change
    {
        return accept_older(conn, &instance, &mark, &reason, by, now).await;
    }
    if let Change::All(changes) = change {
        let mut all = Applied {
            revision: revision(conn).await?,
            bundles: Vec::new(),
            certificate: None,
            added_anchors: Vec::new(),
            request: None,
        };
        for change in changes {
            let applied = Box::pin(apply(conn, change, by, now)).await?;
            all.revision = applied.revision;
            all.bundles.extend(applied.bundles);
            all.certificate = applied.certificate.or(all.certificate);
            all.added_anchors.extend(applied.added_anchors);
            all.request = applied.request.or(all.request);
        }
        return Ok(all);
    }
    let mut context = ChangeContext { conn, by, now };
    let result = context.change(change).await?;
    let mut bundles = Vec::new();
    if let Some((row, trust_domain)) = result.authority
        && let Some(sequence) = publish(context.conn, row, &trust_domain, now).await?
    {
        bundles.push(BundleVersion {
            trust_domain,
            sequence,
        });
    }
    let revision = match result.action {
        Some((action, target, detail)) => context.log_action(action, &target, &detail).await?,
        None => revision(context.conn).await?,
    };
    Ok(Applied {
        revision,
        bundles,
        certificate: result.certificate,
        added_anchors: result.added_anchors,
        request: result.request,
    })
}

async fn refresh(
    conn: &mut dyn Connection,
    now: UnixTime,
    by: &Actor,
) -> Result<Applied, LedgerError> {
    // Nothing but the end of an anchor changes a bundle by itself.
    let bundles = publish_all(conn, "SELECT id, trust_domain FROM authority WHERE id IN
        (SELECT authority FROM anchor WHERE expires_at IS NOT NULL AND state <> 'retired') ORDER BY id", now).await?;
    let mut context = ChangeContext { conn, by, now };
    let revision = match bundles.as_slice() {
        [] => revision(context.conn).await?,
        bundles => {
            let versions: Vec<_> = bundles
                .iter()
                .map(|bundle| format!("{} {}", bundle.trust_domain, bundle.sequence))
                .collect();
            context
                .log_action("refresh-bundles", "all", &versions.join(", "))
                .await?
        }
    };
    Ok(Applied {
        revision,
        bundles,
        certificate: None,
        added_anchors: Vec::new(),
        request: None,
    })
}

/// A ledger that lacks what a mark has goes on, with bundles above those that were lost.
async fn accept_older(
    conn: &mut dyn Connection,
    instance: &str,
    mark: &HighWater,
    reason: &str,
    by: &Actor,
    now: UnixTime,
) -> Result<Applied, LedgerError> {
    let found = high_water(conn).await?;
    raise_lowest_sequences(conn, &mark.bundles).await?;
    let bundles = publish_all(
        conn,
        "SELECT id, trust_domain FROM authority ORDER BY id",
        now,
    )
    .await?;
    let detail = format!("{reason} (this ledger: {found}; lost: up to {mark})");
    let mut context = ChangeContext { conn, by, now };
    let revision = context
        .log_action("accept-older-ledger", instance, &detail)
        .await?;
    Ok(Applied {
        revision,
        bundles,
        certificate: None,
        added_anchors: Vec::new(),
        request: None,
    })
}

/// Publishes what has changed in each of these authorities.
async fn publish_all(
    conn: &mut dyn Connection,
    authorities: &'static str,
    now: UnixTime,
) -> Result<Vec<BundleVersion>, LedgerError> {
    let mut bundles = Vec::new();
    let rows = query(authorities).fetch_all(&mut *conn).await?;
    for row in &rows {
        let row = Columns::of(row);
        let trust_domain: TrustDomain = row.parsed("trust_domain")?;
        if let Some(sequence) = publish(conn, row.get("id")?, &trust_domain, now).await? {
            bundles.push(BundleVersion {
                trust_domain,
                sequence,
            });
        }
    }
    Ok(bundles)
}

impl ChangeContext<'_> {
    async fn change(&mut self, change: Change) -> Result<ChangeResult, LedgerError> {
        match change {
            Change::CreateAuthority { trust_domain } => self.create_authority(trust_domain).await,
            Change::RemoveAuthority {
                trust_domain,
                reason,
            } => self.remove_authority(&trust_domain, &reason).await,
            Change::AddIssuer {
                trust_domain,
                role,
                public_key,
                location,
                path_len,
            } => {
                self.add_issuer(&trust_domain, role, &public_key, &location, path_len)
                    .await
            }
            Change::AddLocation { issuer, location } => self.add_location(&issuer, &location).await,
            Change::AddCaCertificate {
                issuer,
                der,
                path,
                anchor,
                origin,
                source,
                activate,
                retire,
            } => {
                let state = if activate {
                    IssuerState::Active
                } else {
                    IssuerState::Pending
                };
                let new = NewCaCertificate {
                    der,
                    path,
                    anchor,
                    origin,
                    source,
                    state,
                };
                self.add_ca_certificate(&issuer, new, retire).await
            }
            Change::SetPath { certificate, path } => self.set_path(certificate, &path).await,
            Change::RetireCaCertificate { certificate } => {
                self.retire_certificate(certificate).await
            }
            Change::SetIssuerState { issuer, state } => self.set_issuer_state(&issuer, state).await,
            Change::AddAnchors {
                trust_domain,
                ders,
                source,
                expires_at,
            } => {
                self.add_foreign_anchors(&trust_domain, &ders, &source, expires_at)
                    .await
            }
            Change::ApproveAnchor {
                trust_domain,
                der,
                source,
            } => self.approve_anchor(&trust_domain, &der, &source).await,
            Change::Request(change) => self.change_request(change).await,
            Change::PlannedKey(change) => self.change_planned_key(change).await,
            Change::Rotation(change) => self.change_rotation(change).await,
            Change::Presence(change) => self.change_presence(change).await,
            Change::RetireAnchor {
                trust_domain,
                sha256,
            } => self.retire_anchor(&trust_domain, &sha256).await,
            // `apply` handles them, because they concern every authority, or are several changes.
            Change::RefreshBundles { .. } | Change::AcceptOlderLedger { .. } | Change::All(_) => {
                Ok(ChangeResult::default())
            }
        }
    }
}
