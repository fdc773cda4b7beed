//! Filters: what every ledger answers.

use std::time::Duration;

use rootbridge::ledger::{Filter, Intent, Kind, State};
use rootbridge::x509::Serial;

use crate::contract_queries::ids;
use crate::support::{DAY, Fixture, NOW, Store, failed, issued, new, unknown};

pub async fn finds_by_subject(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
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
        made.push(new(ledger.record(fixture.intent(subject)).await.unwrap()));
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
    let fixture = Fixture::build(store.server().await).await;
    let other = Fixture::build_for(store.other().await, "other.example").await;
    let ledger = &*fixture.ledger;
    let mut rows = Vec::new();
    for n in 0..24_u64 {
        let at = NOW.plus(Duration::from_secs(n * 60));
        let whose = if n % 3 == 0 { &other } else { &fixture };
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
            issuer: Some(fixture.issuing.id()),
            ..base()
        },
        Filter {
            issuer: Some(fixture.root.id()),
            ..base()
        },
        Filter {
            trust_domain: Some(other.domain.clone()),
            ..base()
        },
        Filter {
            trust_domain: Some(other.domain.clone()),
            issuer: Some(fixture.issuing.id()),
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
            fixture.issuing.id()
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
    let root = Some(fixture.root.id());
    assert!(ledger.certificate(root, &serial).await.unwrap().is_none());
}
