//! Whatever is asked in whatever order, I1 to I4 hold.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use rootbridge::clock::UnixTime;
use rootbridge::ledger::{
    Epoch, Filter, Intent, IntentId, LedgerError, OpenMode, Outcome, Record, State,
};
use rootbridge::x509::Serial;

use crate::sqlite::SqliteStore;
use crate::support::{Fixture, LEASE, NOW, block_on, failed, issued, unknown};

#[derive(Clone, Debug)]
enum Step {
    /// Which instance records, with which of a few serials and keys.
    Record {
        instance: usize,
        serial: usize,
        idempotency_key: Option<u8>,
    },
    Conclude {
        which: usize,
        outcome: u8,
    },
    Reopen {
        which: usize,
    },
    Restart {
        instance: usize,
    },
    Renew {
        instance: usize,
    },
    Reconcile {
        instance: usize,
    },
    Wait {
        secs: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let instance = 0..3_usize;
    prop_oneof![
        6 => (instance.clone(), 0..40_usize, proptest::option::weighted(0.3, 0..6_u8))
            .prop_map(|(instance, serial, idempotency_key)| Step::Record { instance, serial, idempotency_key }),
        5 => (0..60_usize, 0..3_u8).prop_map(|(which, outcome)| Step::Conclude { which, outcome }),
        1 => (0..60_usize).prop_map(|which| Step::Reopen { which }),
        1 => instance.clone().prop_map(|instance| Step::Restart { instance }),
        1 => instance.clone().prop_map(|instance| Step::Renew { instance }),
        1 => instance.prop_map(|instance| Step::Reconcile { instance }),
        1 => (0..40_u64).prop_map(|secs| Step::Wait { secs }),
    ]
}

/// What is known for certain about an intent.
#[derive(Debug)]
struct Expected {
    asked: Intent,
    outcome: Option<Outcome>,
}

struct Model {
    fixture: Fixture,
    serials: Vec<Serial>,
    now: UnixTime,
    epochs: Vec<Epoch>,
    leases: Vec<UnixTime>,
    intents: HashMap<IntentId, Expected>,
    order: Vec<IntentId>,
    keys: HashMap<String, IntentId>,
    used: HashSet<Serial>,
}

impl Model {
    async fn new(store: &SqliteStore) -> Self {
        let ledger = Arc::new(store.open(OpenMode::Server).await.unwrap());
        let fixture = Fixture::build(ledger).await;
        let mut epochs = Vec::new();
        for n in 0..3 {
            epochs.push(
                fixture
                    .ledger
                    .register(&format!("i{n}"), LEASE, NOW)
                    .await
                    .unwrap(),
            );
        }
        Self {
            fixture,
            serials: (0..40).map(|_| Serial::new(NOW)).collect(),
            now: NOW,
            epochs,
            leases: vec![NOW.plus(LEASE); 3],
            intents: HashMap::new(),
            order: Vec::new(),
            keys: HashMap::new(),
            used: HashSet::new(),
        }
    }

    fn intent(&self, instance: usize, serial: usize, idempotency_key: Option<u8>) -> Intent {
        Intent {
            serial: Some(self.serials[serial]),
            tbs: format!("tbs {serial} {idempotency_key:?} {instance}").into_bytes(),
            idempotency_key: idempotency_key
                .map(|idempotency_key| format!("wish {idempotency_key}")),
            epoch: self.epochs[instance].clone(),
            ..self.fixture.intent("bar")
        }
    }

    fn recorded(&mut self, asked: Intent, record: Result<Record, LedgerError>) {
        let serial = asked.serial.unwrap();
        let before = asked
            .idempotency_key
            .as_ref()
            .and_then(|idempotency_key| self.keys.get(idempotency_key));
        match (record, before) {
            (
                Ok(Record::Existing {
                    id, tbs, outcome, ..
                }),
                Some(before),
            ) => {
                assert_eq!(id, *before);
                let expected = &self.intents[&id];
                assert_eq!((&tbs, &outcome), (&expected.asked.tbs, &expected.outcome));
            }
            (Ok(Record::New(id)), None) => {
                assert!(self.used.insert(serial), "I2: {serial} was used before");
                if let Some(idempotency_key) = &asked.idempotency_key {
                    self.keys.insert(idempotency_key.clone(), id);
                }
                assert!(self.order.last().is_none_or(|last| *last < id));
                self.order.push(id);
                self.intents.insert(
                    id,
                    Expected {
                        asked,
                        outcome: None,
                    },
                );
            }
            // Asked all at once, one may overtake another with the same idempotency_key: what counts then is
            // that the serial was indeed used.
            (Err(LedgerError::DuplicateSerial { .. }), _) => assert!(self.used.contains(&serial)),
            (other, before) => panic!("{other:?} where {before:?} was before"),
        }
    }

    fn which(&self, which: usize) -> Option<IntentId> {
        (!self.order.is_empty()).then(|| self.order[which % self.order.len()])
    }

    async fn step(&mut self, step: Step) {
        let ledger = Arc::clone(&self.fixture.ledger);
        match step {
            Step::Record {
                instance,
                serial,
                idempotency_key,
            } => {
                let asked = self.intent(instance, serial, idempotency_key);
                let record = ledger.record(asked.clone()).await;
                self.recorded(asked, record);
            }
            Step::Conclude { which, outcome } => {
                let Some(id) = self.which(which) else { return };
                let outcome = match outcome {
                    0 => issued(format!("signature {which}").as_bytes()),
                    1 => failed("f"),
                    _ => unknown("u"),
                };
                let done = ledger.conclude(id, outcome.clone()).await;
                let expected = self.intents.get_mut(&id).unwrap();
                match &expected.outcome {
                    None => {
                        done.unwrap();
                        expected.outcome = Some(outcome);
                    }
                    Some(before) if *before == outcome => done.unwrap(),
                    Some(before) => {
                        let state = before.state();
                        assert_eq!(
                            done,
                            Err(LedgerError::AlreadyConcluded { intent: id, state })
                        );
                    }
                }
            }
            Step::Reopen { which } => {
                let Some(id) = self.which(which) else { return };
                let done = ledger.reopen(id, issued(b"again")).await;
                let expected = self.intents.get_mut(&id).unwrap();
                match &expected.outcome {
                    None => assert!(matches!(done, Err(LedgerError::Refused(_)))),
                    Some(Outcome::Issued { signature }) if signature != b"again" => {
                        assert!(matches!(done, Err(LedgerError::AlreadyConcluded { .. })));
                    }
                    Some(_) => {
                        done.unwrap();
                        expected.outcome = Some(issued(b"again"));
                    }
                }
            }
            Step::Restart { instance } => {
                let name = &self.epochs[instance].instance;
                self.epochs[instance] = ledger.register(name, LEASE, self.now).await.unwrap();
                self.leases[instance] = self.now.plus(LEASE);
            }
            Step::Renew { instance } => {
                ledger
                    .renew(&self.epochs[instance], self.now)
                    .await
                    .unwrap();
                self.leases[instance] = self.now.plus(LEASE);
            }
            Step::Reconcile { instance } => self.reconcile(instance).await,
            Step::Wait { secs } => self.now = self.now.plus(Duration::from_secs(secs)),
        }
    }

    /// Only abandoned intents are reconciled.
    async fn reconcile(&mut self, instance: usize) {
        let current = self.epochs[instance].clone();
        let count = self
            .fixture
            .ledger
            .reconcile(&current, self.now)
            .await
            .unwrap();
        let mut expected = 0;
        let rows = self.rows().await;
        for (id, intent) in &mut self.intents {
            let epoch = &intent.asked.epoch;
            let whose = self
                .epochs
                .iter()
                .position(|e| e.instance == epoch.instance)
                .unwrap();
            let abandoned = if whose == instance {
                epoch.boot < current.boot
            } else {
                self.leases[whose] <= self.now
            };
            if intent.outcome.is_none() && abandoned {
                expected += 1;
                let reason = rows[id].reason.clone().unwrap();
                intent.outcome = Some(Outcome::Unknown { reason });
            }
        }
        assert_eq!(count, expected);
    }

    async fn rows(&self) -> HashMap<IntentId, rootbridge::ledger::CertificateRow> {
        let all = Filter {
            limit: u32::MAX,
            ..Filter::default()
        };
        let rows = self.fixture.ledger.certificates(all).await.unwrap();
        rows.into_iter().map(|row| (row.id, row)).collect()
    }

    /// The store says exactly what is known: I1 and I3 by the bytes, I4 by the states.
    async fn verify(&self) {
        let rows = self.rows().await;
        assert_eq!(rows.len(), self.intents.len());
        for (id, expected) in &self.intents {
            let row = &rows[id];
            assert_eq!(
                (&row.tbs, row.serial),
                (&expected.asked.tbs, expected.asked.serial)
            );
            let state = expected
                .outcome
                .as_ref()
                .map_or(State::Pending, Outcome::state);
            assert_eq!(row.state, state);
            let signature = match &expected.outcome {
                Some(Outcome::Issued { signature }) => Some(signature.clone()),
                _ => None,
            };
            assert_eq!(row.signature, signature);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_one_by_one(steps in prop::collection::vec(step(), 1..80)) {
        block_on(async {
            let store = SqliteStore::new();
            let mut model = Model::new(&store).await;
            for step in steps {
                model.step(step).await;
            }
            model.verify().await;
        });
    }

    /// Many at once: who wins is open, but only one does, and the store agrees with the answers.
    #[test]
    fn the_invariants_hold_all_at_once(
        records in prop::collection::vec((0..3_usize, 0..12_usize, proptest::option::of(0..3_u8)), 1..60),
        conclusions in prop::collection::vec((0..30_usize, 0..3_u8), 1..90),
    ) {
        block_on(async {
            let store = SqliteStore::new();
            let mut model = Model::new(&store).await;
            let ledger = Arc::clone(&model.fixture.ledger);
            let asked: Vec<_> = records.iter().map(|(i, s, o)| model.intent(*i, *s, *o)).collect();
            let answers = futures_util::future::join_all(
                asked.iter().map(|asked| ledger.record(asked.clone())),
            ).await;
            // In one batch an idempotency_key may be met that only a later request brought in; what is new is
            // numbered in the order of the queue.
            let mut answers: Vec<_> = asked.into_iter().zip(answers).collect();
            answers.sort_by_key(|(_, answer)| !matches!(answer, Ok(Record::New(_))));
            for (asked, answer) in answers {
                model.recorded(asked, answer);
            }
            let current = ledger.register("i0", LEASE, NOW).await.unwrap();
            let asked: Vec<_> = conclusions.iter().map(|(which, outcome)| {
                let id = model.which(*which).unwrap();
                (id, if *outcome == 0 { failed("f") } else { issued(&[*outcome]) })
            }).collect();
            let concluding = futures_util::future::join_all(
                asked.iter().map(|(id, outcome)| ledger.conclude(*id, outcome.clone())),
            );
            let reconciling = async { ledger.reconcile(&current, NOW).await.unwrap() }.boxed();
            let (done, _) = tokio::join!(concluding, reconciling);
            let rows = model.rows().await;
            for ((id, outcome), done) in asked.iter().zip(done) {
                let row = &rows[id];
                let same = row.state == outcome.state() && match outcome {
                    Outcome::Issued { signature } => row.signature.as_ref() == Some(signature),
                    _ => row.signature.is_none(),
                };
                match done {
                    Ok(()) => assert!(same, "{row:?}"),
                    Err(LedgerError::AlreadyConcluded { state, .. }) => {
                        assert!(state == row.state && !same, "{row:?}");
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        });
    }
}
