//! Since when targets hold what they hold, without a break.

use std::collections::BTreeMap;

use super::ConfiguredTarget;
use crate::clock::UnixTime;
use crate::trust::rotation::TargetState;
use crate::trust::{TargetStatus, TargetWriter};

/// What was seen of each target last.
#[derive(Debug, Default)]
pub struct Holding(BTreeMap<ConfiguredTarget, Seen>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    sequence: u64,
    /// A write since then means that an object did not hold the bundle for a time.
    writes: u64,
    since: UnixTime,
}

impl Holding {
    /// Reads the status of a target: whether it holds the bundle with this sequence, and since when.
    pub fn see(
        &mut self,
        target: &ConfiguredTarget,
        status: Option<&TargetStatus>,
        newest: u64,
        now: UnixTime,
    ) -> TargetState {
        let state = self.state(target, status, newest, now);
        if !matches!(state, TargetState::Holds { .. }) {
            self.0.remove(target);
        }
        state
    }

    fn state(
        &mut self,
        target: &ConfiguredTarget,
        status: Option<&TargetStatus>,
        newest: u64,
        now: UnixTime,
    ) -> TargetState {
        let unknown = |why: String| TargetState::Unknown { why };
        let Some(status) = status else {
            return unknown("its cluster has not been read yet".to_owned());
        };
        match &status.writer {
            TargetWriter::This => {}
            TargetWriter::Unknown => {
                return unknown("its cluster has not been read yet".to_owned());
            }
            TargetWriter::Other { holder } => {
                return unknown(format!("the server {holder} writes to it"));
            }
            TargetWriter::Unreachable { why } => {
                return unknown(format!("its API server is not reachable: {why}"));
            }
        }
        let sequence = |version: &Option<crate::trust::Version>| {
            version.as_ref().map(|version| version.sequence)
        };
        if status.contested > 0 {
            return TargetState::Contested {
                objects: status.contested,
            };
        }
        let is_newest = [&status.wanted, &status.applied]
            .into_iter()
            .all(|version| sequence(version) == Some(newest));
        if status.behind > 0 || status.error.is_some() || !is_newest {
            return TargetState::Behind {
                objects: status.behind.max(1),
                why: status.error.clone(),
            };
        }
        let seen = Seen {
            sequence: newest,
            writes: status.writes,
            since: now,
        };
        let last = self.0.entry(target.clone()).or_insert(seen);
        if last.sequence != newest || last.writes != status.writes {
            *last = seen;
        }
        TargetState::Holds { since: last.since }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::trust::Version;
    use crate::x509::TrustDomain;

    fn status() -> TargetStatus {
        let version = Version {
            sequence: 2,
            digest: "00".to_owned(),
        };
        TargetStatus {
            writer: TargetWriter::This,
            wanted: Some(version.clone()),
            applied: Some(version),
            in_step: 3,
            writes: 3,
            ..TargetStatus::default()
        }
    }

    #[test]
    fn a_break_starts_the_time_again() {
        let target = ConfiguredTarget {
            cluster: "east".to_owned(),
            target: "istio".to_owned(),
            trust_domain: TrustDomain::parse("td").unwrap(),
        };
        let at = UnixTime::from_secs;
        let mut holding = Holding::default();
        let mut see =
            |status: Option<TargetStatus>, now| holding.see(&target, status.as_ref(), 2, at(now));
        let holds = |since| TargetState::Holds { since: at(since) };
        assert!(matches!(see(None, 1), TargetState::Unknown { .. }));
        assert_eq!(see(Some(status()), 2), holds(2));
        assert_eq!(see(Some(status()), 5), holds(2));
        // It was repaired between two looks.
        let repaired = TargetStatus {
            writes: 4,
            ..status()
        };
        assert_eq!(see(Some(repaired.clone()), 6), holds(6));
        let broken = [
            TargetStatus {
                behind: 1,
                ..repaired.clone()
            },
            TargetStatus {
                contested: 1,
                ..repaired.clone()
            },
            TargetStatus {
                error: Some("denied".to_owned()),
                ..repaired.clone()
            },
            TargetStatus {
                wanted: None,
                ..repaired.clone()
            },
            TargetStatus {
                applied: None,
                ..repaired.clone()
            },
            TargetStatus {
                writer: TargetWriter::Unreachable {
                    why: "down".to_owned(),
                },
                ..repaired.clone()
            },
            TargetStatus {
                writer: TargetWriter::Other {
                    holder: "b".to_owned(),
                },
                ..repaired.clone()
            },
        ];
        for (now, status) in (10..).step_by(2).zip(broken) {
            let state = see(Some(status.clone()), now);
            assert!(
                !matches!(state, TargetState::Holds { .. }),
                "{status:?}: {state:?}"
            );
            assert_eq!(see(Some(repaired.clone()), now + 1), holds(now + 1));
        }
        // Another version than the newest.
        assert!(matches!(
            holding.see(&target, Some(&repaired), 3, at(30)),
            TargetState::Behind { objects: 1, .. }
        ));
    }
}
