//! A mesh during a rotation, small enough to be explored, and what the server knows of it. The moves
//! are those of `trust::rotation`, which the server runs.
//!
//! One authority, two roots: A, which signs at first, and B, which arrives. Workloads of two kinds hold
//! a certificate and a bundle: *sidecars* get their bundle with each certificate, *pods* read theirs from
//! the cluster's object, some time after it has changed. Servers follow the records with a delay.

use rootbridge::ledger::RotationPhase;
use rootbridge::trust::rotation::{Action, Verdict, back, forward};

use crate::rules::Rules;

/// A set of roots: bit 0 is A, bit 1 is B.
pub type Roots = u8;
pub const A: Roots = 1;
pub const B: Roots = 2;

/// A server's own view of the records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub signs: Roots,
    pub bundle: Roots,
    /// An issuance that is recorded, signed under that root and not answered: for a workload.
    pub in_flight: Option<(usize, Roots, Roots)>,
}

/// A workload with its certificates and its bundle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// The root above the certificate that it shows.
    pub shows: Roots,
    pub holds: Roots,
    /// Older certificates that are alive and on record, by root; a process may still show them.
    pub older: Roots,
    /// The ledger's newest certificate for it came with this bundle.
    pub recorded: Roots,
    /// Its newest answer was lost; it asks again before the time to settle is over.
    pub lost: bool,
    /// The newest was issued less than that ago.
    pub young: bool,
}

/// The objects of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub object: Roots,
    /// Pods have had the time to read it.
    pub settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mesh {
    pub phase: RotationPhase,
    pub backwards: bool,
    /// The recorded bundle, and what signs.
    pub bundle: Roots,
    pub signs: Roots,
    pub retired: Roots,
    pub servers: Vec<Server>,
    pub clusters: Vec<Cluster>,
    pub sidecars: Vec<Workload>,
    pub pods: Vec<Workload>,
    pub proxies: Vec<Workload>,
    pub watchers: Vec<Workload>,
    /// A CA of somebody else, certified below these roots, issues below them as long as it lives.
    pub subordinate: Roots,
    pub edits: u8,
    pub losses: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The next move, if nothing holds it back.
    Advance,
    Back,
    /// A server reads the records.
    Follow(usize),
    /// The publisher writes the recorded bundle.
    Publish(usize),
    /// Somebody writes an old bundle.
    Edit(usize),
    /// Pods have read the cluster's object, and the time for it is over.
    Settle(usize),
    Read(usize),
    /// A proxy starts again, with its cluster's object.
    Restart(usize),
    /// A watcher applies the bundle of a server.
    Apply(usize, usize),
    /// What a watcher has applied is on record.
    Acknowledge(usize),
    /// A watcher goes back to an old bundle, and says so before anybody meets it.
    GoBack(usize),
    /// A server records and signs a certificate for a workload.
    Sign(usize, usize),
    /// The answer arrives.
    Answer(usize),
    /// It does not.
    Lose(usize),
    /// The time in which a client asks again is over.
    Age(usize),
    /// A workload's older certificates expire.
    Expire(usize),
    Certify,
    SubordinateEnds,
    /// A server dies and starts again.
    Crash(usize),
}

impl Mesh {
    pub fn new(rules: &Rules) -> Self {
        let workload = || Workload {
            shows: A,
            holds: A,
            older: 0,
            recorded: A,
            lost: false,
            young: false,
        };
        let cluster = Cluster {
            object: A,
            settled: true,
        };
        let server = Server {
            signs: A,
            bundle: A,
            in_flight: None,
        };
        Self {
            phase: RotationPhase::Prepare,
            backwards: false,
            bundle: A,
            signs: A,
            retired: 0,
            servers: vec![server; rules.servers],
            clusters: vec![cluster; rules.clusters],
            sidecars: vec![workload(); rules.sidecars],
            pods: vec![workload(); rules.pods],
            proxies: vec![workload(); rules.proxies],
            watchers: vec![workload(); rules.watchers],
            subordinate: 0,
            edits: rules.edits,
            losses: rules.losses,
        }
    }

    /// Sidecars first, then pods, proxies, watchers.
    fn workload(&mut self, index: usize) -> &mut Workload {
        let (sidecars, pods) = (self.sidecars.len(), self.pods.len());
        if index < sidecars {
            &mut self.sidecars[index]
        } else if index < sidecars + pods {
            &mut self.pods[index - sidecars]
        } else if index < sidecars + pods + self.proxies.len() {
            &mut self.proxies[index - sidecars - pods]
        } else {
            let proxies = self.proxies.len();
            &mut self.watchers[index - sidecars - pods - proxies]
        }
    }

    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        let pods = self.pods.iter().chain(&self.proxies);
        self.sidecars.iter().chain(pods).chain(&self.watchers)
    }

    /// Every live certificate verifies with every live verifier's bundle.
    pub fn verifies(&self) -> bool {
        let shown = self.workloads().fold(self.subordinate, |shown, each| {
            shown | each.shows | each.older
        });
        self.workloads().all(|each| each.holds & shown == shown)
    }

    /// Every server that can sign does so under an issuing CA that is not retired.
    pub fn signs_on(&self) -> bool {
        self.servers
            .iter()
            .all(|server| server.signs & self.retired == 0)
    }

    fn next(&self, rules: &Rules) -> Option<Verdict> {
        let mut verdict = forward(&self.position(), &self.evidence())?;
        verdict
            .held
            .retain(|reason| Some(reason.condition) != rules.ignored);
        Some(verdict)
    }

    fn make(&mut self, verdict: &Verdict) {
        match verdict.action {
            Action::None => {}
            Action::Publish => self.bundle = A | B,
            Action::Activate => self.signs = B,
            Action::Revert => self.signs = A,
            Action::Retire => {
                self.retired = self.leaving();
                self.bundle = self.arriving();
            }
            Action::Discard => {
                self.retired = B;
                self.bundle = A;
            }
        }
        if self.clusters.iter().any(|each| each.object != self.bundle) {
            for cluster in &mut self.clusters {
                cluster.settled = false;
            }
        }
        self.phase = verdict.to;
        self.backwards = verdict.backwards;
    }

    /// What can happen now.
    pub fn events(&self, rules: &Rules) -> Vec<Event> {
        let mut events = Vec::new();
        if self
            .next(rules)
            .is_some_and(|verdict| verdict.held.is_empty())
        {
            events.push(Event::Advance);
        }
        if back(&self.position(), &self.evidence()).is_ok_and(|verdict| verdict.held.is_empty()) {
            events.push(Event::Back);
        }
        // What an edit does once certificates of both roots are used, no CA can prevent.
        let edits = self.phase <= RotationPhase::Converge && self.edits > 0;
        for (index, cluster) in self.clusters.iter().enumerate() {
            if cluster.object != self.bundle {
                events.push(Event::Publish(index));
            } else if !cluster.settled {
                events.push(Event::Settle(index));
            }
            if edits && cluster.object != A {
                events.push(Event::Edit(index));
            }
        }
        for (index, each) in self.watchers.iter().enumerate() {
            if each.recorded != each.holds {
                events.push(Event::Acknowledge(index));
            }
            for (server, serves) in self.servers.iter().enumerate() {
                // It never goes back to an older sequence of a server that lags.
                if serves.bundle != each.holds && serves.bundle == self.bundle {
                    events.push(Event::Apply(index, server));
                }
            }
            if edits && each.holds != A {
                events.push(Event::GoBack(index));
            }
        }
        let all = self.workloads().count();
        for (index, server) in self.servers.iter().enumerate() {
            if server.signs != self.signs || server.bundle != self.bundle {
                events.push(Event::Follow(index));
            }
            match server.in_flight {
                Some(_) => {
                    events.extend([Event::Answer(index), Event::Crash(index)]);
                    if self.losses > 0 {
                        events.push(Event::Lose(index));
                    }
                }
                // A retired issuer records nothing: the ledger refuses it.
                None if server.signs & self.retired == 0 => {
                    events.extend((0..all).map(|workload| Event::Sign(index, workload)));
                }
                None => {}
            }
        }
        for (index, each) in self.workloads().enumerate() {
            if each.older != 0 {
                events.push(Event::Expire(index));
            }
            // A client without its answer asks again before that time is over.
            if each.young && !each.lost {
                events.push(Event::Age(index));
            }
        }
        if !self.clusters.is_empty() {
            let object = self.clusters[0].object;
            let reads = |each: &Workload| each.holds != object;
            let (sidecars, pods) = (self.sidecars.len(), self.pods.len());
            for (index, each) in self.pods.iter().enumerate() {
                events.extend(reads(each).then_some(Event::Read(sidecars + index)));
            }
            for (index, each) in self.proxies.iter().enumerate() {
                events.extend(reads(each).then_some(Event::Restart(sidecars + pods + index)));
            }
        }
        if rules.subordinate && self.subordinate == 0 && self.retired == 0 {
            events.push(Event::Certify);
        }
        if self.subordinate != 0 {
            events.push(Event::SubordinateEnds);
        }
        events
    }

    /// Some time later.
    pub fn after(&self, event: &Event, rules: &Rules) -> Self {
        let mut next = self.clone();
        match *event {
            Event::Advance => next.make(&self.next(rules).unwrap()),
            Event::Back => next.make(&back(&self.position(), &self.evidence()).unwrap()),
            Event::Follow(index) => {
                next.servers[index].signs = self.signs;
                next.servers[index].bundle = self.bundle;
            }
            Event::Publish(index) => {
                next.clusters[index] = Cluster {
                    object: self.bundle,
                    settled: false,
                };
            }
            Event::Edit(index) => {
                next.edits -= 1;
                next.clusters[index] = Cluster {
                    object: A,
                    settled: false,
                };
            }
            Event::Settle(index) => {
                next.clusters[index].settled = true;
                if index == 0 {
                    for pod in &mut next.pods {
                        pod.holds = self.clusters[0].object;
                    }
                }
            }
            Event::Read(index) | Event::Restart(index) => {
                next.workload(index).holds = self.clusters[0].object;
            }
            Event::Apply(index, server) => {
                next.watchers[index].holds = self.servers[server].bundle;
            }
            Event::Acknowledge(index) => {
                next.watchers[index].recorded = self.watchers[index].holds;
            }
            Event::GoBack(index) => {
                next.edits -= 1;
                next.watchers[index].holds = A;
                next.watchers[index].recorded = A;
            }
            Event::Sign(index, workload) => {
                let server = &mut next.servers[index];
                server.in_flight = Some((workload, server.signs, server.bundle));
            }
            Event::Answer(index) => {
                let (workload, root, bundle) = next.servers[index].in_flight.take().unwrap();
                let is_sidecar = workload < self.sidecars.len();
                let holder = next.workload(workload);
                holder.older |= holder.shows & !root;
                holder.older &= !root;
                holder.shows = root;
                if is_sidecar {
                    holder.holds = bundle;
                    holder.recorded = bundle;
                    holder.young = true;
                    holder.lost = false;
                }
            }
            Event::Lose(index) => {
                let (workload, root, bundle) = next.servers[index].in_flight.take().unwrap();
                next.losses -= 1;
                let is_sidecar = workload < self.sidecars.len();
                let holder = next.workload(workload);
                // Nobody shows it, but the ledger does not know that.
                holder.older |= root & !holder.shows;
                if is_sidecar {
                    holder.recorded = bundle;
                    holder.young = true;
                    holder.lost = true;
                }
            }
            Event::Age(workload) => next.workload(workload).young = false,
            Event::Expire(workload) => next.workload(workload).older = 0,
            Event::Certify => next.subordinate = self.signs,
            Event::SubordinateEnds => next.subordinate = 0,
            Event::Crash(index) => {
                // What was in flight becomes unknown, and counts until it would have expired; the
                // server reads the records at its start.
                let (workload, root, _) = next.servers[index].in_flight.take().unwrap();
                let holder = next.workload(workload);
                holder.older |= root & !holder.shows;
                next.servers[index].signs = self.signs;
                next.servers[index].bundle = self.bundle;
            }
        }
        next
    }
}
