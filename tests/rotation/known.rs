//! What the server knows of a mesh.

use std::time::Duration;

use rootbridge::clock::UnixTime;
use rootbridge::ledger::{LiveCertificates, LiveHolder, RotationKind};
use rootbridge::trust::rotation::{
    Evidence, Position, Preparation, ProxyEvidence, ServerEvidence, TargetEvidence, TargetState,
    WatcherEvidence, WatcherState,
};

use crate::mesh::{A, B, Mesh, Roots};

const NOW: UnixTime = UnixTime::from_secs(1_000_000);
const SETTLE: Duration = Duration::from_secs(120);

impl Mesh {
    pub fn arriving(&self) -> Roots {
        if self.backwards { A } else { B }
    }

    pub fn leaving(&self) -> Roots {
        (A | B) & !self.arriving()
    }

    pub fn position(&self) -> Position {
        Position {
            kind: RotationKind::NewRoot,
            phase: self.phase,
            backwards: self.backwards,
            changes_roots: true,
        }
    }

    /// What the server knows: the records, and what the API servers hold.
    pub fn evidence(&self) -> Evidence {
        let leaving = self.leaving();
        let mut without_root = LiveCertificates::default();
        let mut alive = LiveCertificates::default();
        let count = |live: &mut LiveCertificates, is_ca: bool| {
            live.total += 1;
            live.holders.push(LiveHolder {
                is_ca,
                subject: "workload".to_owned(),
                cluster: None,
                pod: None,
                spki_sha256: [0; 32],
                certificates: 1,
                until: NOW,
                newest: NOW,
            });
        };
        for each in &self.sidecars {
            if each.recorded & B == 0 || each.young {
                count(&mut without_root, false);
            }
        }
        for each in self.workloads() {
            if (each.shows | each.older) & leaving != 0 {
                count(&mut alive, false);
            }
        }
        for server in &self.servers {
            if server
                .in_flight
                .is_some_and(|(_, root, _)| root & leaving != 0)
            {
                count(&mut alive, false);
            }
        }
        for server in &self.servers {
            let is_older = |(workload, _, bundle): (usize, Roots, Roots)| {
                workload < self.sidecars.len() && bundle & B == 0
            };
            if server.in_flight.is_some_and(is_older) {
                count(&mut without_root, false);
            }
        }
        if self.subordinate & leaving != 0 {
            count(&mut alive, true);
        }
        let targets = self.clusters.iter().map(|cluster| TargetEvidence {
            cluster: "cluster".to_owned(),
            target: "target".to_owned(),
            edit: None,
            state: match (cluster.object == self.bundle, cluster.settled) {
                (false, _) => TargetState::Behind {
                    objects: 1,
                    why: None,
                },
                (true, false) => TargetState::Holds { since: NOW },
                (true, true) => TargetState::Holds {
                    since: NOW.minus(SETTLE),
                },
            },
        });
        let outdated = self.proxies.iter().filter(|each| each.holds != self.bundle);
        let outdated = outdated.count();
        let proxies = (!self.proxies.is_empty()).then(|| ProxyEvidence {
            cluster: "cluster".to_owned(),
            outdated: Some(outdated),
            examples: Vec::new(),
        });
        let servers = self.servers.iter().map(|server| ServerEvidence {
            instance: "server".to_owned(),
            is_silent: false,
            lease_until: None,
            has_bundle: server.bundle == self.bundle,
            has_issuer: server.signs == self.signs,
        });
        let watchers = self.watchers.iter().map(|watcher| WatcherEvidence {
            name: "watcher".to_owned(),
            state: match watcher.recorded == self.bundle {
                true => WatcherState::Applied,
                false => WatcherState::Other {
                    sequence: 1,
                    newest: 2,
                },
            },
        });
        Evidence {
            now: NOW,
            preparation: Preparation::Ready,
            no_return: None,
            servers: servers.collect(),
            targets: targets.collect(),
            watchers: watchers.collect(),
            proxies: proxies.into_iter().collect(),
            without_root,
            alive,
            settle: SETTLE,
        }
    }
}
