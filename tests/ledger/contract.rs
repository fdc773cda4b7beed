//! Intents, conclusions, epochs: what every ledger promises.

use std::time::Duration;

use rootbridge::ledger::{
    CaCertificateId, Change, Epoch, Filter, Intent, IntentId, IssuerState, Kind, Ledger,
    LedgerError, Outcome, Record, Role, State,
};
use rootbridge::x509::Serial;

use crate::support::{
    Fixture, Key, NOW, Store, add_issuer, failed, intent, issued, new, operator, unknown,
};

/// The row of an intent with a serial.
async fn row(ledger: &dyn Ledger, serial: &Serial) -> rootbridge::ledger::CertificateRow {
    ledger.certificate(None, serial).await.unwrap().unwrap()
}

pub async fn records_and_concludes(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let intent = fixture.leaf("bar");
    let serial = intent.serial.unwrap();
    let id = new(ledger.record(intent.clone()).await.unwrap());
    let pending = row(ledger, &serial).await;
    assert_eq!(
        (pending.id, pending.state, pending.der().unwrap()),
        (id, State::Pending, None)
    );
    assert_eq!((pending.concluded_at, &pending.tbs), (None, &intent.tbs));

    let signature = fixture.issuing.sign(&intent.tbs);
    store.clock().set(NOW.plus(Duration::from_secs(2)));
    ledger.conclude(id, issued(&signature)).await.unwrap();
    // Another process sees it.
    let seen = row(&*store.other().await, &serial).await;
    assert_eq!(seen.state, State::Issued);
    assert_eq!(seen.concluded_at, Some(NOW.plus(Duration::from_secs(2))));
    let der = seen.der().unwrap().unwrap();
    let certificate = rootbridge::x509::Certificate::parse(der).unwrap();
    certificate
        .verify_signed_by(&fixture.issuing.public)
        .unwrap();
    assert_eq!(certificate.serial(), &serial);

    for (outcome, state) in [
        (failed("token gone"), State::Failed),
        (unknown("no answer"), State::Unknown),
    ] {
        let intent = fixture.leaf("bar");
        let serial = intent.serial.unwrap();
        let id = new(ledger.record(intent).await.unwrap());
        ledger.conclude(id, outcome).await.unwrap();
        let row = row(ledger, &serial).await;
        assert_eq!((row.state, row.der().unwrap()), (state, None));
        assert!(row.reason.is_some());
    }
}

pub async fn reopens_what_failed(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    for outcome in [failed("token gone"), unknown("no answer")] {
        let intent = fixture.intent("spiffe://mesh.example/ns/foo/sa/bar");
        let serial = intent.serial.unwrap();
        let id = new(ledger.record(intent).await.unwrap());
        let early = ledger.reopen(id, issued(b"s")).await.unwrap_err();
        assert!(matches!(early, LedgerError::Refused(_)), "{early}");
        ledger.conclude(id, outcome.clone()).await.unwrap();
        let wrong = ledger.reopen(id, failed("again")).await.unwrap_err();
        assert!(matches!(wrong, LedgerError::Refused(_)), "{wrong}");
        // Before the bytes are signed again nobody may think that no signature exists.
        for _ in 0..2 {
            ledger.reopen(id, unknown("signed again")).await.unwrap();
            let row = row(ledger, &serial).await;
            assert_eq!(row.state, State::Unknown);
            let reason = row.reason.unwrap();
            let Outcome::Failed { reason: first } = &outcome else {
                continue;
            };
            assert_eq!(reason, format!("{first}; signed again"));
        }
        ledger.reopen(id, issued(b"signature")).await.unwrap();
        // Saying it again is no error, another signature is.
        ledger.reopen(id, issued(b"signature")).await.unwrap();
        let other = ledger.reopen(id, issued(b"another")).await.unwrap_err();
        assert_eq!(
            other,
            LedgerError::AlreadyConcluded {
                intent: id,
                state: State::Issued
            }
        );
        let row = row(ledger, &serial).await;
        assert_eq!(row.signature.as_deref(), Some(b"signature".as_slice()));
        assert_eq!(row.state, State::Issued);
        assert!(row.reason.is_some(), "why it had failed stays on record");
        let back = ledger.reopen(id, unknown("no")).await.unwrap_err();
        assert!(
            matches!(back, LedgerError::AlreadyConcluded { .. }),
            "{back}"
        );
    }
    let nobody = IntentId::new(77);
    let missing = ledger.reopen(nobody, issued(b"s")).await.unwrap_err();
    assert_eq!(missing, LedgerError::UnknownIntent(nobody));
}

pub async fn an_origin_is_recorded_once(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let repeated = |key: &str| Intent {
        idempotency_key: Some(key.into()),
        ca_certificate: Some(fixture.certificate),
        ..fixture.intent("spiffe://mesh.example/ns/foo/sa/bar")
    };
    let first = repeated("csr/foo/1");
    let id = new(ledger.record(first.clone()).await.unwrap());
    let existing = |outcome| Record::Existing {
        id,
        tbs: first.tbs.clone(),
        issuer_id: fixture.issuing.id(),
        algorithm: first.algorithm,
        ca_certificate: Some(fixture.certificate),
        outcome,
    };
    // Another serial, even other bytes: what counts is what was recorded.
    let again = Intent {
        tbs: vec![0x30; 20],
        ..repeated("csr/foo/1")
    };
    assert_eq!(ledger.record(again).await.unwrap(), existing(None));
    ledger.conclude(id, unknown("crash")).await.unwrap();
    let seen = ledger.record(repeated("csr/foo/1")).await.unwrap();
    assert_eq!(seen, existing(Some(unknown("crash"))));
    ledger.reopen(id, issued(b"s")).await.unwrap();
    // The issuer's retirement does not take the answer away.
    let retire = Change::SetIssuerState {
        issuer: fixture.issuing.id(),
        state: IssuerState::Retired,
    };
    ledger.apply(retire, &operator()).await.unwrap();
    let seen = ledger.record(repeated("csr/foo/1")).await.unwrap();
    assert_eq!(seen, existing(Some(issued(b"s"))));
    let refused = ledger.record(repeated("csr/foo/2")).await.unwrap_err();
    assert!(
        matches!(refused, LedgerError::IssuerNotActive { .. }),
        "{refused}"
    );
}

pub async fn only_an_active_issuer_signs(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let by = operator();
    let pending = Key::new();
    ledger
        .apply(add_issuer(&fixture.domain, &pending, Role::Issuing), &by)
        .await
        .unwrap();
    let stranger = Key::new();
    let ask = |key: &Key, kind| {
        let mut asked = intent(&key.id(), &fixture.domain, &fixture.epoch, "bar");
        asked.kind = kind;
        if kind == Kind::Request {
            (asked.serial, asked.not_before, asked.not_after) = (None, None, None);
        }
        ledger.record(asked)
    };
    let refused = |key: &Key, state| LedgerError::IssuerNotActive {
        issuer: key.id(),
        state,
    };
    for kind in [Kind::Leaf, Kind::Ca, Kind::Request] {
        new(ask(&fixture.issuing, kind).await.unwrap());
        let unknown = LedgerError::UnknownIssuer(stranger.id());
        assert_eq!(ask(&stranger, kind).await.unwrap_err(), unknown);
    }
    let leaf = ask(&pending, Kind::Leaf).await.unwrap_err();
    assert_eq!(leaf, refused(&pending, IssuerState::Pending));
    new(ask(&pending, Kind::Ca).await.unwrap());
    new(ask(&pending, Kind::Request).await.unwrap());
    // A change by another process is seen by the very next intent.
    let retire = Change::SetIssuerState {
        issuer: fixture.issuing.id(),
        state: IssuerState::Retired,
    };
    store.other().await.apply(retire, &by).await.unwrap();
    for kind in [Kind::Leaf, Kind::Ca, Kind::Request] {
        let error = ask(&fixture.issuing, kind).await.unwrap_err();
        assert_eq!(error, refused(&fixture.issuing, IssuerState::Retired));
    }
    let strange = Intent {
        epoch: Epoch {
            instance: "nobody".into(),
            boot: 1,
        },
        issuer: fixture.root.id(),
        ..fixture.intent("bar")
    };
    let error = ledger.record(strange).await.unwrap_err();
    assert_eq!(
        error,
        LedgerError::UnknownEpoch {
            instance: "nobody".into(),
            boot: 1
        }
    );
}

pub async fn a_serial_is_used_once(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let first = fixture.intent("bar");
    let serial = first.serial.unwrap();
    let id = new(ledger.record(first.clone()).await.unwrap());
    let taken = LedgerError::DuplicateSerial {
        issuer: fixture.issuing.id(),
        serial,
    };
    assert_eq!(ledger.record(first.clone()).await.unwrap_err(), taken);
    ledger.conclude(id, failed("never signed")).await.unwrap();
    assert_eq!(ledger.record(first.clone()).await.unwrap_err(), taken);
    // Another issuer counts for itself.
    let root = Intent {
        issuer: fixture.root.id(),
        ..first
    };
    new(ledger.record(root).await.unwrap());
}

pub async fn an_outcome_is_final(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let outcomes = [issued(b"s"), failed("f"), unknown("u")];
    for first in &outcomes {
        let id = new(ledger.record(fixture.intent("bar")).await.unwrap());
        ledger.conclude(id, first.clone()).await.unwrap();
        for second in &outcomes {
            let message = ledger.conclude(id, second.clone()).await;
            if first == second {
                message.unwrap();
            } else {
                let state = first.state();
                assert_eq!(
                    message,
                    Err(LedgerError::AlreadyConcluded { intent: id, state })
                );
            }
        }
    }
    for nobody in [IntentId::new(0), IntentId::new(-3), IntentId::new(1 << 40)] {
        let error = ledger.conclude(nobody, issued(b"s")).await.unwrap_err();
        assert_eq!(error, LedgerError::UnknownIntent(nobody));
    }
}

pub async fn one_failure_does_not_spread(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let taken = fixture.intent("bar");
    new(ledger.record(taken.clone()).await.unwrap());
    let seen = Intent {
        idempotency_key: Some("once".into()),
        ..fixture.intent("bar")
    };
    let seen_id = new(ledger.record(seen.clone()).await.unwrap());
    let concluded = new(ledger.record(fixture.intent("bar")).await.unwrap());
    ledger.conclude(concluded, failed("f")).await.unwrap();
    for round in 0..20 {
        // All of these wait while the writer works on the first: they are one batch or two.
        let bad_record = |n: usize| match n % 6 {
            0 => taken.clone(),
            1 => Intent {
                serial: Some(Serial::new(NOW)),
                ..seen.clone()
            },
            2 => Intent {
                issuer: Key::new().id(),
                ..fixture.intent("bar")
            },
            // Only the schema knows about this one.
            3 => Intent {
                ca_certificate: Some(CaCertificateId::new(99)),
                ..fixture.intent("bar")
            },
            4 => Intent {
                idempotency_key: Some(format!("pair {round}")),
                ..fixture.intent("bar")
            },
            _ => fixture.intent("bar"),
        };
        let records = futures_util::future::join_all((0..48).map(|n| ledger.record(bad_record(n))));
        let conclusions = [
            ledger.conclude(concluded, issued(b"s")),
            ledger.conclude(IntentId::new(1 << 40), issued(b"s")),
        ];
        let (records, conclusions) =
            tokio::join!(records, futures_util::future::join_all(conclusions));
        let mut good = Vec::new();
        let mut of_pair = Vec::new();
        for (n, record) in records.into_iter().enumerate() {
            match (n % 6, record) {
                (0, Err(LedgerError::DuplicateSerial { .. }))
                | (2, Err(LedgerError::UnknownIssuer(_)))
                | (3, Err(LedgerError::Refused(_))) => {}
                (1, Ok(Record::Existing { id, .. })) => assert_eq!(id, seen_id),
                (4, Ok(Record::New(id) | Record::Existing { id, .. })) => of_pair.push(id),
                (5, Ok(Record::New(id))) => good.push(id),
                (n, other) => panic!("{n}: {other:?}"),
            }
        }
        of_pair.dedup();
        assert_eq!((good.len(), of_pair.len()), (8, 1));
        let state = State::Failed;
        assert_eq!(
            conclusions[0],
            Err(LedgerError::AlreadyConcluded {
                intent: concluded,
                state
            })
        );
        assert!(matches!(conclusions[1], Err(LedgerError::UnknownIntent(_))));
        good.push(of_pair[0]);
        let done = good.iter().map(|id| ledger.conclude(*id, issued(b"s")));
        for done in futures_util::future::join_all(done).await {
            done.unwrap();
        }
    }
    let all = Filter {
        state: Some(State::Issued),
        limit: 1000,
        ..Filter::default()
    };
    assert_eq!(ledger.certificates(all).await.unwrap().len(), 20 * 9);
}
