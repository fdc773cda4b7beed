//! What only the PostgreSQL store promises: several writers, and commits whose answer is lost.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use rootbridge::clock::FixedClock;
use rootbridge::ledger::{
    Change, Filter, Intent, IssuerState, Ledger, LedgerError, PasswordSource, Postgres,
    PostgresConfig, Record, State,
};
use rootbridge_test_support::postgres::PostgresServer;
use rootbridge_test_support::{PATIENCE, eventually};

use crate::postgres_proxy::Proxy;
use crate::support::{Fixture, NOW, Store, block_on, issued, new, operator};

/// A database of its own on the server that all tests share.
pub struct PostgresStore {
    pub server: &'static PostgresServer,
    pub database: String,
    pub clock: Arc<FixedClock>,
}

impl PostgresStore {
    pub fn new() -> Self {
        let server = PostgresServer::shared();
        Self {
            database: server.database(),
            server,
            clock: Arc::new(FixedClock::new(NOW)),
        }
    }

    pub async fn open(&self) -> Result<Postgres, LedgerError> {
        let url = self.server.socket_url(&self.database);
        open(&url, None, &self.clock).await
    }

    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.database, sql)
    }

    fn ledger(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        async move { Arc::new(self.open().await.unwrap()) as Arc<dyn Ledger> }.boxed()
    }
}

impl Store for PostgresStore {
    fn server(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        self.ledger()
    }

    fn other(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        self.ledger()
    }

    fn clock(&self) -> &FixedClock {
        &self.clock
    }
}

pub async fn open(
    url: &str,
    password: Option<PasswordSource>,
    clock: &Arc<FixedClock>,
) -> Result<Postgres, LedgerError> {
    let settings = PostgresConfig::parse(url, password).unwrap();
    Postgres::open(settings, clock.clone()).await
}

/// Two servers record at once, with a few idempotency keys and serials in common: each is used once,
/// and both see one truth.
#[test]
fn two_servers_share_one_ledger() {
    let store = PostgresStore::new();
    block_on(async {
        let one = Fixture::build(store.server().await).await;
        let two = store.server().await;
        let epoch = two
            .register("server-1", Duration::from_secs(30), NOW)
            .await
            .unwrap();
        let intents: Vec<Intent> = (0..40)
            .map(|n| Intent {
                idempotency_key: Some(format!("csr/{}", n % 20)),
                ..one.leaf(&format!("account-{n}"))
            })
            .collect();
        let records = join_all(intents.iter().enumerate().map(|(n, intent)| {
            let (ledger, epoch) = match n % 2 {
                0 => (&one.ledger, &one.epoch),
                _ => (&two, &epoch),
            };
            let intent = Intent {
                epoch: epoch.clone(),
                ..intent.clone()
            };
            ledger.record(intent)
        }))
        .await;
        let mut ids = Vec::new();
        let mut existing = 0;
        for record in records {
            match record.unwrap() {
                Record::New(id) => ids.push(id),
                Record::Existing { .. } => existing += 1,
            }
        }
        assert_eq!((ids.len(), existing), (20, 20));
        // Either concludes what the other has recorded; the second with another outcome is refused.
        for id in &ids {
            one.ledger
                .conclude(*id, issued(b"signature"))
                .await
                .unwrap();
            two.conclude(*id, issued(b"signature")).await.unwrap();
            let error = two.conclude(*id, issued(b"other")).await.unwrap_err();
            let state = State::Issued;
            assert_eq!(error, LedgerError::AlreadyConcluded { intent: *id, state });
        }
        let all = Filter::default();
        let (here, there) = (
            one.ledger.certificates(all.clone()).await.unwrap(),
            two.certificates(all).await.unwrap(),
        );
        assert_eq!(here, there);
        assert_eq!(here.len(), 20);
        // What one changes is what the other admits by, from its next batch on.
        let retire = Change::SetIssuerState {
            issuer: one.issuing.id(),
            state: IssuerState::Retired,
        };
        one.ledger.apply(retire, &operator()).await.unwrap();
        assert_eq!(
            one.ledger.revision().await.unwrap(),
            two.revision().await.unwrap()
        );
        let late = Intent {
            epoch,
            ..one.leaf("late")
        };
        let error = two.record(late).await.unwrap_err();
        assert!(
            matches!(error, LedgerError::IssuerNotActive { .. }),
            "{error}"
        );
    });
}

/// Each connection that is lost around a commit leaves a result that is true: what `record` says is on
/// record is, and what it refuses may be there only to be concluded as unknown.
#[test]
fn a_lost_answer_to_a_commit_is_asked_for() {
    let store = PostgresStore::new();
    block_on(async {
        let fixture = Fixture::build(store.server().await).await;
        // The server ends the connection itself, in the commit: a deferred trigger.
        store.psql(
            "CREATE TABLE ends (left_to_end bigint); INSERT INTO ends VALUES (0);
             CREATE FUNCTION end_connection() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                IF nextval('times') % 2 = 0 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
                RETURN NULL;
             END $$;
             CREATE SEQUENCE times;
             CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON intent DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION end_connection()",
        );
        for n in 0..6 {
            let intent = fixture.leaf(&format!("account-{n}"));
            let serial = intent.serial.unwrap();
            let id = new(fixture.ledger.record(intent).await.unwrap());
            let row = fixture.ledger.certificate(None, &serial).await.unwrap();
            assert_eq!(row.unwrap().id, id);
        }
        // Half of the commits were lost, and made again under new numbers; none was made twice.
        let times: u64 = store.psql("SELECT last_value FROM times").parse().unwrap();
        assert!(times >= 11, "{times} commits");
        let all = fixture
            .ledger
            .certificates(Filter::default())
            .await
            .unwrap();
        assert_eq!(all.len(), 6);
    });
}

/// The answer is lost after the commit: the proxy between passes everything on but the answer.
#[test]
fn a_commit_without_an_answer_counts() {
    let store = PostgresStore::new();
    block_on(async {
        let proxy = Proxy::start(store.server).await;
        let url = proxy.url(&store.database);
        let password = PasswordSource::File(proxy.password());
        let through = open(&url, Some(password), &store.clock).await.unwrap();
        let fixture = Fixture::build(Arc::new(through)).await;
        for n in 0..3 {
            let before = proxy.cut();
            proxy.swallow_after_commit();
            let intent = fixture.leaf(&format!("account-{n}"));
            let serial = intent.serial.unwrap();
            let id = new(fixture.ledger.record(intent).await.unwrap());
            assert_eq!(proxy.cut(), before + 1, "the answer came through");
            let row = fixture.ledger.certificate(None, &serial).await.unwrap();
            let row = row.unwrap();
            assert_eq!((row.id, row.state), (id, State::Pending));
        }
        let all = fixture
            .ledger
            .certificates(Filter::default())
            .await
            .unwrap();
        assert_eq!(all.len(), 3, "a batch was made twice");
        // Nothing but the first numbers was used: no batch was made again.
        assert_eq!(store.psql("SELECT last_value FROM intent_id"), "3");
    });
}

/// A server that is stopped within a transaction holds the lock that all need: the database ends the
/// transaction, and the others go on.
#[test]
fn a_transaction_of_a_stopped_server_ends() {
    let store = PostgresStore::new();
    block_on(async {
        let proxy = Proxy::start(store.server).await;
        let url = proxy.url(&store.database);
        let password = PasswordSource::File(proxy.password());
        let through = open(&url, Some(password), &store.clock).await.unwrap();
        let stopped = Fixture::build(Arc::new(through)).await;
        let other = store.server().await;
        proxy.stop_before_commit();
        let intent = stopped.leaf("stopped");
        let serial = intent.serial.unwrap();
        let ledger = Arc::clone(&stopped.ledger);
        let record = tokio::spawn(async move { ledger.record(intent).await });
        eventually(PATIENCE, "it is stopped", async || proxy.cut() == 1).await;
        // A change of the records needs the lock alone.
        let retire = Change::SetIssuerState {
            issuer: stopped.issuing.id(),
            state: IssuerState::Retired,
        };
        eventually(PATIENCE, "the other goes on", async || {
            other.apply(retire.clone(), &operator()).await.is_ok()
        })
        .await;
        // What it was about to record is not on record, and will not be.
        let error = record.await.unwrap().unwrap_err();
        assert!(
            error.is_outage() || matches!(error, LedgerError::IssuerNotActive { .. }),
            "{error}"
        );
        assert_eq!(other.certificate(None, &serial).await.unwrap(), None);
    });
}
