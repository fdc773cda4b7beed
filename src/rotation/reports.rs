//! What servers on one ledger tell each other while a rotation is open: each records what it serves,
//! and what it sees of its clusters.

use std::time::Duration;

use super::Rotations;
use super::merge::Source;
use super::reported::{Details, Proxies, Target};
use crate::clock::UnixTime;
use crate::digest::from_hex;
use crate::ledger::{LedgerError, LiveServer, RotationRecord, ServerReport, Snapshot};

/// How often an unchanged report is recorded again, on a ledger that others read.
const AGAIN: Duration = Duration::from_secs(5);
/// What a server says of objects and pods counts for so long: they change without it.
const FRESH: Duration = Duration::from_secs(30);

/// Another server, as the ledger shows it.
#[derive(Debug)]
pub(super) struct Other {
    pub instance: String,
    /// When its lease ends.
    pub until: UnixTime,
    /// Its report of the rotation's authority, if it has made one since it started.
    pub report: Option<ServerReport>,
    details: Details,
    is_fresh: bool,
}

impl Other {
    fn new(server: LiveServer, rotation: &RotationRecord, now: UnixTime) -> Self {
        let mut reports = server.reports.into_iter();
        let report = reports.find(|each| each.trust_domain == rotation.trust_domain);
        // One from before the rotation names targets that may not be configured any more.
        let report = report.filter(|report| report.at >= rotation.started_at);
        // Written by another version of the program: as if it had not been said.
        let details = report
            .as_ref()
            .and_then(|report| serde_json::from_str(&report.details).ok());
        let is_fresh = report
            .as_ref()
            .is_some_and(|report| now.since(report.at) < FRESH);
        Self {
            instance: server.instance,
            until: server.until,
            details: details.unwrap_or_default(),
            report,
            is_fresh,
        }
    }

    pub(super) fn is_alive(&self, now: UnixTime) -> bool {
        self.until > now
    }

    /// What it says of clusters.
    pub(super) fn source(&self, now: UnixTime) -> Source<'_> {
        let lost = match &self.report {
            _ if !self.is_alive(now) => Some(format!("is gone since {}", self.until)),
            Some(report) if !self.is_fresh => {
                Some(format!("has reported nothing since {}", report.at))
            }
            _ => None,
        };
        Source {
            lost: lost.map(|why| {
                format!(
                    "the server {}, which was to write to it, {why}",
                    self.instance
                )
            }),
            details: &self.details,
        }
    }
}

impl Rotations {
    /// The other servers that have been alive since the rotation started.
    pub(super) async fn others(
        &self,
        rotation: &RotationRecord,
        now: UnixTime,
    ) -> Result<Vec<Other>, LedgerError> {
        let servers = self.parts.ledger.live_servers(rotation.started_at).await?;
        let others = servers
            .into_iter()
            .filter(|server| server.instance != self.parts.instance)
            .map(|server| Other::new(server, rotation, now));
        Ok(others.collect())
    }

    /// Records what this server has of the rotation's authority, if it is new or was said a while ago.
    pub(super) async fn report(
        &self,
        rotation: &RotationRecord,
        records: &Snapshot,
    ) -> Result<(), LedgerError> {
        let now = self.parts.clock.now();
        let domain = &rotation.trust_domain;
        let (Some(authority), Some(published)) = (
            records.authority(domain),
            self.parts.bundles.current(domain),
        ) else {
            return Ok(());
        };
        let details = Details {
            newest: newest(records, rotation),
            targets: self
                .targets(rotation, authority, now)
                .into_iter()
                .map(Target::from)
                .collect(),
            proxies: self
                .proxies(rotation)
                .into_iter()
                .map(Proxies::from)
                .collect(),
        };
        let statuses = self.parts.authorities.status();
        let own = statuses
            .iter()
            .find(|each| each.trust_domain == domain.as_str());
        // What it answers with is the older of the two until both are replaced.
        let sequence = published.bundle.sequence();
        let answered = own.and_then(|own| own.bundle_sequence).unwrap_or(sequence);
        let digest = from_hex(&published.digest).and_then(|bytes| bytes.try_into().ok());
        let report = ServerReport {
            instance: self.parts.instance.clone(),
            trust_domain: domain.clone(),
            sequence: sequence.min(answered),
            digest: digest.unwrap_or_default(),
            issuer: own.and_then(|own| own.issuer.clone()),
            details: serde_json::to_string(&details).unwrap_or_default(),
            at: now,
        };
        let is_shared = self.parts.ledger.time().await?.is_some();
        let last = self.reported().get(domain).cloned();
        let is_due = last.is_none_or(|last| {
            let same = ServerReport {
                at: now,
                ..last.clone()
            };
            same != report || (is_shared && now.since(last.at) >= AGAIN)
        });
        if is_due {
            self.parts.ledger.report_server(report.clone()).await?;
            self.reported().insert(domain.clone(), report);
        }
        Ok(())
    }
}

fn newest(records: &Snapshot, rotation: &RotationRecord) -> u64 {
    let authority = records.authority(&rotation.trust_domain);
    let bundle = authority.and_then(|authority| authority.bundle.as_ref());
    bundle.map_or(0, |bundle| bundle.sequence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ledger::{RotationId, RotationKind, RotationParts, RotationPhase};
    use crate::x509::{KeyKind, TrustDomain};

    /// What it said counts while its lease lasts and the report is new, and was made in this rotation.
    #[test]
    fn what_another_server_said_counts_for_a_while() {
        let domain = TrustDomain::parse("td").unwrap();
        let at = |secs| UnixTime::from_secs(1_000_000 + secs);
        let rotation = RotationRecord {
            id: RotationId::new(1),
            trust_domain: domain.clone(),
            kind: RotationKind::NewRoot,
            phase: RotationPhase::Converge,
            backwards: false,
            parts: RotationParts::default(),
            key: KeyKind::EcdsaP256,
            token: String::new(),
            started_at: at(0),
            started_by: String::new(),
            changed_at: at(0),
            ended_at: None,
            steps: Vec::new(),
        };
        let other = |reported: i64, until: i64, now: i64| {
            let report = ServerReport {
                instance: "b".to_owned(),
                trust_domain: domain.clone(),
                sequence: 1,
                digest: [0; 32],
                issuer: None,
                details: String::new(),
                at: at(reported),
            };
            let server = LiveServer {
                instance: "b".to_owned(),
                until: at(until),
                reports: vec![report],
            };
            Other::new(server, &rotation, at(now))
        };
        let lost = |reported, until, now| other(reported, until, now).source(at(now)).lost;
        assert_eq!(lost(10, 60, 39), None);
        let silent = lost(10, 60, 40).unwrap();
        assert!(silent.contains("has reported nothing since"), "{silent}");
        assert_eq!(lost(10, 20, 19), None);
        let gone = lost(10, 20, 20).unwrap();
        assert!(gone.contains("is gone since"), "{gone}");
        assert!(other(0, 60, 1).report.is_some());
        assert!(other(-1, 60, 1).report.is_none(), "of an earlier rotation");
    }
}
