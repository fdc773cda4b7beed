//! How PostgreSQL searches: by an index, however many rows there are.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rootbridge::clock::FixedClock;
use rootbridge::ledger::{Filter, State};
use rootbridge_test_support::postgres::PostgresServer;

use crate::postgres::open;
use crate::support::{Fixture, NOW, block_on};

/// How many certificates there are; a table of this size is read whole only where no index helps.
const ROWS: u32 = 20_000;

/// The plans that the database really used, from its log.
#[test]
fn every_search_uses_an_index() {
    let server = PostgresServer::with_settings(
        "session_preload_libraries = 'auto_explain'\nauto_explain.log_min_duration = 0",
    );
    let database = server.database();
    let clock = Arc::new(FixedClock::new(NOW));
    block_on(async {
        let ledger = open(&server.socket_url(&database), None, &clock).await;
        let fixture = Fixture::build(Arc::new(ledger.unwrap())).await;
        let first = fixture.leaf("first");
        let serial = first.serial.unwrap();
        fixture.issue(first).await;
        server.psql(
            &database,
            &format!(
                "CREATE TEMP TABLE more AS SELECT intent.* FROM intent, generate_series(1, {ROWS})
                    WHERE kind = 1;
                 UPDATE more SET id = nextval('intent_id'), origin = NULL;
                 UPDATE more SET serial = '\\x77'::bytea || int8send(id),
                    subject = 'spiffe://cluster.local/ns/n/sa/a' || id % 1000,
                    recorded_at = recorded_at + id, not_after = not_after + id;
                 INSERT INTO intent SELECT * FROM more ORDER BY id;
                 INSERT INTO conclusion SELECT id, 1, '\\x00', NULL, recorded_at FROM more ORDER BY id"
            ),
        );
        server.psql(&database, "VACUUM ANALYZE");
        let from = NOW.plus(Duration::from_secs(u64::from(ROWS) / 2));
        let to = from.plus(Duration::from_secs(100));
        let all = Filter::default;
        let subject = |subject: &str| Filter {
            subject: Some(subject.to_owned()),
            ..all()
        };
        let state = |state: State| Filter {
            state: Some(state),
            ..all()
        };
        let searches = [
            ("newest", all()),
            ("subject", subject("spiffe://cluster.local/ns/n/sa/a77")),
            ("prefix", subject("spiffe://cluster.local/ns/n/sa/a77*")),
            (
                "serial",
                Filter {
                    serial: Some(serial),
                    ..all()
                },
            ),
            (
                "recorded",
                Filter {
                    recorded_after: Some(from),
                    recorded_before: Some(to),
                    ..all()
                },
            ),
            ("pending", state(State::Pending)),
            ("unknown", state(State::Unknown)),
            ("issued", state(State::Issued)),
        ];
        let mut seen = fs::read_to_string(server.log()).unwrap().len();
        for (name, filter) in searches {
            fixture.ledger.certificates(filter).await.unwrap();
            let log = fs::read_to_string(server.log()).unwrap();
            let plans = &log[seen..];
            seen = log.len();
            assert!(plans.contains("LIMIT $"), "{name}: no plan:\n{plans}");
            assert!(!plans.contains("Seq Scan on intent"), "{name}:\n{plans}");
            // Outcomes of rows that were found may be joined either way, so few are here.
            if name == "unknown" {
                assert!(!plans.contains("Seq Scan on conclusion"), "{plans}");
            }
        }
        fixture.ledger.close().await;
    });
}
