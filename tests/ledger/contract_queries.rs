//! Questions about certificates: what every ledger answers.

use rootbridge::ledger::{
    CallerMethod, CertificateRow, Filter, Intent, IntentId, Kind, Ledger, State,
};

use crate::support::{DAY, Fixture, NOW, Store, issued, new};

pub async fn ids(ledger: &dyn Ledger, filter: Filter) -> Vec<IntentId> {
    ledger
        .certificates(filter)
        .await
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect()
}

pub async fn shows_all_that_was_recorded(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let mut full = Intent {
        idempotency_key: Some("csr/1".into()),
        ..fixture.leaf("bar")
    };
    full.caller.method = CallerMethod::Certificate;
    let mut bare = fixture.intent("Request of mesh.example");
    (bare.kind, bare.serial, bare.not_before, bare.not_after) = (Kind::Request, None, None, None);
    bare.bundle_digest = None;
    let caller = &mut bare.caller;
    (caller.cluster, caller.pod, caller.node) = (None, None, None);
    (caller.token_authenticated_at, caller.method) = (None, CallerMethod::Local);
    for asked in [full, bare] {
        let id = new(ledger.record(asked.clone()).await.unwrap());
        let rows = ledger
            .certificates(Filter {
                limit: 1,
                ..Filter::default()
            })
            .await
            .unwrap();
        let expected = CertificateRow {
            id,
            kind: asked.kind,
            issuer: asked.issuer,
            ca_certificate: asked.ca_certificate,
            serial: asked.serial,
            subject: asked.subject,
            profile: asked.profile,
            spki_sha256: asked.spki_sha256,
            bundle_digest: asked.bundle_digest,
            caller: asked.caller,
            not_before: asked.not_before,
            not_after: asked.not_after,
            recorded_at: asked.recorded_at,
            epoch: asked.epoch,
            request_id: asked.request_id,
            idempotency_key: asked.idempotency_key,
            state: State::Pending,
            reason: None,
            concluded_at: None,
            tbs: asked.tbs,
            algorithm: asked.algorithm,
            signature: None,
        };
        assert_eq!(rows, [expected]);
    }
}

pub async fn pages_through_thousands(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let records = (0..9000).map(|n| {
        // Every 2,000th is what the narrow questions below are about.
        let special = n % 2000 == 0;
        let subject = if special {
            "spiffe://mesh.example/rare"
        } else {
            "spiffe://mesh.example/common"
        };
        let mut asked = fixture.intent(subject);
        if special {
            asked.issuer = fixture.root.id();
            asked.not_after = Some(NOW.plus(DAY * 300));
        }
        ledger.record(asked)
    });
    let mut made = Vec::new();
    for record in futures_util::future::join_all(records).await {
        made.push(new(record.unwrap()));
    }
    // All but nine are concluded, and the ledger has looked what is open.
    let conclusions = made.iter().enumerate().filter(|(n, _)| n % 1000 != 0);
    let conclusions = conclusions.map(|(_, id)| ledger.conclude(*id, issued(b"s")));
    for done in futures_util::future::join_all(conclusions).await {
        done.unwrap();
    }
    assert_eq!(ledger.reconcile(&fixture.epoch, NOW).await.unwrap(), 0);
    let page = |filter: Filter| async move {
        let (mut seen, mut before_id) = (Vec::new(), None);
        loop {
            let found = ids(
                ledger,
                Filter {
                    before_id,
                    ..filter.clone()
                },
            )
            .await;
            let Some(last) = found.last() else {
                return seen;
            };
            before_id = Some(*last);
            seen.extend(found);
        }
    };
    let base = || Filter {
        limit: 170,
        ..Filter::default()
    };
    for (filter, count) in [
        (base(), 9000),
        (
            Filter {
                subject: Some("spiffe://mesh.example/common".into()),
                ..base()
            },
            8995,
        ),
        (
            Filter {
                subject: Some("spiffe://mesh.example/*".into()),
                ..base()
            },
            9000,
        ),
        (
            Filter {
                subject: Some("spiffe://mesh.example/rare".into()),
                limit: 2,
                ..base()
            },
            5,
        ),
        (
            Filter {
                issuer: Some(fixture.root.id()),
                ..base()
            },
            5,
        ),
        (
            Filter {
                expires_after: Some(NOW.plus(DAY * 2)),
                ..base()
            },
            5,
        ),
        (
            Filter {
                expires_after: Some(NOW.plus(DAY * 301)),
                ..base()
            },
            0,
        ),
        (
            Filter {
                state: Some(State::Pending),
                limit: 1000,
                ..base()
            },
            9,
        ),
    ] {
        let seen = page(filter.clone()).await;
        assert_eq!(seen.len(), count, "{filter:?}");
        assert!(
            seen.windows(2).all(|pair| pair[0] > pair[1]),
            "newest first, none twice"
        );
    }
}

pub async fn checks_itself(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    for n in 0..20 {
        fixture.issue(fixture.leaf(&format!("bar-{n}"))).await;
    }
    let report = fixture.ledger.check().await.unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(
        (report.intents, report.conclusions, report.authorities),
        (20, 20, 1)
    );
    assert_eq!(report.revision, 5);
    // I6: a row that says something else than the certificate it became.
    let lie = Intent {
        not_after: Some(NOW),
        ..fixture.leaf("liar")
    };
    fixture.issue(lie).await;
    let late = Intent {
        not_after: Some(NOW.plus(DAY * 9999)),
        ..fixture.leaf("late")
    };
    new(fixture.ledger.record(late).await.unwrap());
    let problems = fixture.ledger.check().await.unwrap().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
}
