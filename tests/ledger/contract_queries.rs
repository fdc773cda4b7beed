//! Questions about certificates: what every ledger answers.

use std::time::Duration;

use rootbridge::ledger::{
    CallerMethod, CertificateRow, Filter, Intent, IntentId, Kind, Ledger, State,
};
use rootbridge::x509::Serial;

use crate::support::{DAY, House, NOW, Store, failed, issued, new, unknown};

async fn ids(ledger: &dyn Ledger, filter: Filter) -> Vec<IntentId> {
    ledger
        .certificates(filter)
        .await
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect()
}

pub async fn shows_all_that_was_recorded(store: &dyn Store) {
    let house = House::build(store.server().await).await;
    let ledger = &*house.ledger;
    let mut full = Intent {
        origin: Some("csr/1".into()),
        ..house.leaf("bar")
    };
    full.caller.method = CallerMethod::Certificate;
    let mut bare = house.intent("Request of mesh.example");
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
            origin: asked.origin,
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

pub async fn finds_by_subject(store: &dyn Store) {
    let house = House::build(store.server().await).await;
    let ledger = &*house.ledger;
    let subjects = [
        "spiffe://mesh.example/ns/foo/sa/bar",
        "spiffe://mesh.example/ns/foo/sa/bar dns:bar.foo.svc",
        "spiffe://mesh.example/ns/foo/sa/bar-2",
        "spiffe://mesh.example/ns/foo/sa/bar!",
        "spiffe://mesh.example/ns/foo/sa/bår",
        "spiffe://mesh.example/ns/fo/sa/bar",
        "dns:bar.foo.svc",
    ];
    let mut made = Vec::new();
    for subject in subjects {
        made.push(new(ledger.record(house.intent(subject)).await.unwrap()));
    }
    let ask = async |subject: &str| {
        let mut found = ids(
            ledger,
            Filter {
                subject: Some(subject.into()),
                ..Filter::default()
            },
        )
        .await;
        found.reverse();
        found
            .iter()
            .map(|id| made.iter().position(|m| m == id).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ask("spiffe://mesh.example/ns/foo/sa/bar").await, [0, 1]);
    assert_eq!(
        ask("spiffe://mesh.example/ns/foo/sa/bar dns:bar.foo.svc").await,
        [1]
    );
    assert_eq!(ask("spiffe://mesh.example/ns/foo/sa/bår").await, [4]);
    assert_eq!(ask("spiffe://mesh.example/ns/foo/*").await, [0, 1, 2, 3, 4]);
    assert_eq!(
        ask("spiffe://mesh.example/ns/foo/sa/b*").await,
        [0, 1, 2, 3, 4]
    );
    assert_eq!(ask("*").await, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(ask("dns:*").await, [6]);
    for nothing in [
        "spiffe://mesh.example/ns/foo/sa/ba",
        "",
        "zzz*",
        "%",
        "' OR 1 --",
    ] {
        assert_eq!(ask(nothing).await, [0; 0], "{nothing}");
    }
}

pub async fn finds_by_everything_else(store: &dyn Store) {
    let house = House::build(store.server().await).await;
    let other = House::build_for(store.other().await, "other.example").await;
    let ledger = &*house.ledger;
    let mut rows = Vec::new();
    for n in 0..24_u64 {
        let at = NOW.plus(Duration::from_secs(n * 60));
        let whose = if n % 3 == 0 { &other } else { &house };
        let asked = Intent {
            recorded_at: at,
            not_after: Some(at.plus(DAY * u32::try_from(1 + n % 4).unwrap())),
            kind: if n % 8 == 7 { Kind::Ca } else { Kind::Leaf },
            ..whose.intent(&format!("spiffe://x/{}", n % 2))
        };
        let id = new(ledger.record(asked.clone()).await.unwrap());
        let state = match n % 4 {
            0 => State::Pending,
            1 => State::Issued,
            2 => State::Failed,
            _ => State::Unknown,
        };
        match state {
            State::Pending => {}
            State::Issued => ledger.conclude(id, issued(b"s")).await.unwrap(),
            State::Failed => ledger.conclude(id, failed("f")).await.unwrap(),
            State::Unknown => ledger.conclude(id, unknown("u")).await.unwrap(),
        }
        rows.push((id, asked, state));
    }
    rows.reverse();
    let at = |n: u64| Some(NOW.plus(Duration::from_secs(n * 60)));
    let days = |n: u32| Some(NOW.plus(DAY * n));
    let base = Filter::default;
    let mut filters = vec![
        base(),
        Filter {
            issuer: Some(house.issuing.id()),
            ..base()
        },
        Filter {
            issuer: Some(house.root.id()),
            ..base()
        },
        Filter {
            trust_domain: Some(other.domain.clone()),
            ..base()
        },
        Filter {
            trust_domain: Some(other.domain.clone()),
            issuer: Some(house.issuing.id()),
            ..base()
        },
        Filter {
            serial: rows[5].1.serial,
            ..base()
        },
        Filter {
            serial: Some(Serial::new(NOW)),
            ..base()
        },
        Filter {
            recorded_after: at(7),
            ..base()
        },
        Filter {
            recorded_before: at(7),
            ..base()
        },
        Filter {
            recorded_after: at(7),
            recorded_before: at(8),
            ..base()
        },
        Filter {
            expires_after: days(3),
            ..base()
        },
        Filter {
            expires_before: days(2),
            ..base()
        },
        Filter {
            expires_after: days(2),
            expires_before: days(3),
            ..base()
        },
        Filter {
            kind: Some(Kind::Ca),
            ..base()
        },
        Filter {
            subject: Some("spiffe://x/1".into()),
            ..base()
        },
        Filter {
            before_id: Some(rows[9].0),
            ..base()
        },
        Filter {
            before_id: Some(rows[9].0),
            limit: 3,
            ..base()
        },
        Filter { limit: 0, ..base() },
    ];
    for state in [State::Pending, State::Issued, State::Failed, State::Unknown] {
        for filter in filters.clone() {
            filters.push(Filter {
                state: Some(state),
                ..filter
            });
        }
    }
    let issuer_of = |td: &rootbridge::x509::TrustDomain| {
        if *td == other.domain {
            other.issuing.id()
        } else {
            house.issuing.id()
        }
    };
    for filter in filters {
        let expected: Vec<_> = rows
            .iter()
            .filter(|(id, asked, state)| {
                filter
                    .issuer
                    .as_ref()
                    .is_none_or(|issuer| *issuer == asked.issuer)
                    && filter
                        .trust_domain
                        .as_ref()
                        .is_none_or(|td| issuer_of(td) == asked.issuer)
                    && filter
                        .serial
                        .is_none_or(|serial| Some(serial) == asked.serial)
                    && filter.kind.is_none_or(|kind| kind == asked.kind)
                    && filter.state.is_none_or(|wanted| wanted == *state)
                    && filter
                        .subject
                        .as_ref()
                        .is_none_or(|subject| *subject == asked.subject)
                    && filter
                        .recorded_after
                        .is_none_or(|time| asked.recorded_at >= time)
                    && filter
                        .recorded_before
                        .is_none_or(|time| asked.recorded_at < time)
                    && filter
                        .expires_after
                        .is_none_or(|time| asked.not_after >= Some(time))
                    && filter
                        .expires_before
                        .is_none_or(|time| asked.not_after < Some(time))
                    && filter.before_id.is_none_or(|before| *id < before)
            })
            .take(filter.limit as usize)
            .map(|(id, ..)| *id)
            .collect();
        assert_eq!(ids(ledger, filter.clone()).await, expected, "{filter:?}");
    }
    let (id, asked, _) = &rows[4];
    let serial = asked.serial.unwrap();
    for issuer in [None, Some(asked.issuer.clone())] {
        assert_eq!(
            ledger
                .certificate(issuer, &serial)
                .await
                .unwrap()
                .unwrap()
                .id,
            *id
        );
    }
    let root = Some(house.root.id());
    assert!(ledger.certificate(root, &serial).await.unwrap().is_none());
}

pub async fn pages_through_thousands(store: &dyn Store) {
    let house = House::build(store.server().await).await;
    let ledger = &*house.ledger;
    let records = (0..9000).map(|n| {
        // Every 2,000th is what the narrow questions below are about.
        let special = n % 2000 == 0;
        let subject = if special {
            "spiffe://mesh.example/rare"
        } else {
            "spiffe://mesh.example/common"
        };
        let mut asked = house.intent(subject);
        if special {
            asked.issuer = house.root.id();
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
    assert_eq!(ledger.reconcile(&house.epoch, NOW).await.unwrap(), 0);
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
                issuer: Some(house.root.id()),
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

pub async fn examines_itself(store: &dyn Store) {
    let house = House::build(store.server().await).await;
    for n in 0..20 {
        house.issue(house.leaf(&format!("bar-{n}"))).await;
    }
    let report = house.ledger.check().await.unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(
        (report.intents, report.conclusions, report.authorities),
        (20, 20, 1)
    );
    assert_eq!((report.schema, report.revision), (1, 5));
    // I6: a row that says something else than the certificate it became.
    let lie = Intent {
        not_after: Some(NOW),
        ..house.leaf("liar")
    };
    house.issue(lie).await;
    let late = Intent {
        not_after: Some(NOW.plus(DAY * 9999)),
        ..house.leaf("late")
    };
    new(house.ledger.record(late).await.unwrap());
    let problems = house.ledger.check().await.unwrap().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
}
