//! The calls of the ledger.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::writer::Job;
use super::{Sqlite, block_range_index, check, open_intents, query};
use crate::clock::UnixTime;
use crate::ledger::sql::{self, Found};
use crate::ledger::{
    Actor, Applied, AuthorityRecord, BundleRecord, BundleRollout, CertificateRow, Change,
    CheckReport, Claim, ClaimFrom, Epoch, Filter, GoneCluster, HighWater, Intent, IntentId,
    IssuerId, Ledger, LedgerFuture, LiveCertificates, LiveFilter, LiveServer, Outcome, Record,
    RotationRecord, ServerReport, Snapshot, Wakeup, WatcherReport, WorkLease, WorkLeaseRecord,
};
use crate::x509::{Serial, TrustDomain};

/// The interval of reading the revision: one row, in memory.
const POLL: Duration = Duration::from_millis(100);

impl Ledger for Sqlite {
    fn record(&self, intent: Intent) -> LedgerFuture<'_, Record> {
        self.send(|reply| Job::Record(Box::new(intent), reply))
            .boxed()
    }

    fn conclude(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()> {
        self.send(move |reply| Job::Conclude(intent, outcome, reply))
            .boxed()
    }

    fn reopen(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()> {
        let now = self.clock.now();
        self.transact(move |conn| {
            async move { sql::reopen(conn, intent, &outcome, now).await }.boxed()
        })
        .boxed()
    }

    fn certificates(&self, filter: Filter) -> LedgerFuture<'_, Vec<CertificateRow>> {
        self.read(move |conn| async move { query::certificates(conn, &filter).await }.boxed())
            .boxed()
    }

    fn certificate<'a>(
        &'a self,
        issuer: Option<IssuerId>,
        serial: &'a Serial,
    ) -> LedgerFuture<'a, Option<CertificateRow>> {
        let serial = *serial;
        self.read(move |conn| {
            async move { query::by_serial(conn, issuer.as_ref(), &serial).await }.boxed()
        })
        .boxed()
    }

    fn snapshot(&self) -> LedgerFuture<'_, Snapshot> {
        self.read(|conn| sql::snapshot(conn).boxed()).boxed()
    }

    fn authority<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
    ) -> LedgerFuture<'a, Option<AuthorityRecord>> {
        let trust_domain = trust_domain.clone();
        self.read(move |conn| {
            async move { sql::authority_record(conn, &trust_domain).await }.boxed()
        })
        .boxed()
    }

    fn revision(&self) -> LedgerFuture<'_, u64> {
        self.read(|conn| sql::revision(conn).boxed()).boxed()
    }

    fn wait_for_change(&self) -> BoxFuture<'_, Wakeup> {
        async {
            tokio::time::sleep(POLL).await;
            Wakeup::Due
        }
        .boxed()
    }

    fn bundle<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        sequence: Option<u64>,
    ) -> LedgerFuture<'a, Option<BundleRecord>> {
        let trust_domain = trust_domain.clone();
        self.read(move |conn| {
            async move {
                let authority = sql::authority(conn, &trust_domain).await?;
                sql::bundle(conn, authority, sequence).await
            }
            .boxed()
        })
        .boxed()
    }

    fn apply<'a>(&'a self, change: Change, by: &'a Actor) -> LedgerFuture<'a, Applied> {
        let (by, now) = (by.clone(), self.clock.now());
        self.transact(move |conn| async move { sql::apply(conn, change, &by, now).await }.boxed())
            .boxed()
    }

    fn record_rollout<'a>(
        &'a self,
        rollout: BundleRollout,
        lease: Option<&'a WorkLease>,
    ) -> LedgerFuture<'a, UnixTime> {
        let lease = lease.cloned();
        self.transact(move |conn| {
            async move { sql::record_rollout(conn, &rollout, lease.as_ref()).await }.boxed()
        })
        .boxed()
    }

    fn rollouts(&self) -> LedgerFuture<'_, Vec<BundleRollout>> {
        self.read(|conn| sql::newest_rollouts(conn).boxed()).boxed()
    }

    fn report_server(&self, report: ServerReport) -> LedgerFuture<'_, ()> {
        self.transact(move |conn| async move { sql::report_server(conn, &report).await }.boxed())
            .boxed()
    }

    fn live_servers(&self, now: UnixTime) -> LedgerFuture<'_, Vec<LiveServer>> {
        self.read(move |conn| sql::live_servers(conn, now).boxed())
            .boxed()
    }

    fn report_watchers(&self, reports: Vec<WatcherReport>) -> LedgerFuture<'_, ()> {
        self.transact(move |conn| async move { sql::report_watchers(conn, &reports).await }.boxed())
            .boxed()
    }

    fn watchers(&self) -> LedgerFuture<'_, Vec<WatcherReport>> {
        self.read(|conn| sql::watchers(conn).boxed()).boxed()
    }

    fn gone_clusters(&self) -> LedgerFuture<'_, Vec<GoneCluster>> {
        self.read(|conn| sql::gone_clusters(conn).boxed()).boxed()
    }

    fn rotations(&self) -> LedgerFuture<'_, Vec<RotationRecord>> {
        self.read(|conn| sql::rotations(conn).boxed()).boxed()
    }

    fn live_certificates(&self, filter: LiveFilter) -> LedgerFuture<'_, LiveCertificates> {
        self.read(move |conn| async move { sql::live_certificates(conn, &filter).await }.boxed())
            .boxed()
    }

    fn register<'a>(
        &'a self,
        instance: &'a str,
        lease: Duration,
        now: UnixTime,
    ) -> LedgerFuture<'a, Epoch> {
        if let Some(lock) = self.lock.upgrade() {
            lock.set_instance(instance);
        }
        let instance = instance.to_owned();
        self.transact(move |conn| {
            async move { sql::register(conn, &instance, lease, now).await }.boxed()
        })
        .boxed()
    }

    fn renew<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, ()> {
        let epoch = epoch.clone();
        self.transact(move |conn| async move { sql::renew(conn, &epoch, now).await }.boxed())
            .boxed()
    }

    fn reconcile<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, u64> {
        let (epoch, concluded_at) = (epoch.clone(), self.clock.now());
        async move {
            let reader_epoch = epoch.clone();
            let open = self
                .read(move |conn| {
                    async move { open_intents::open_intents(conn, &reader_epoch, now).await }
                        .boxed()
                })
                .await?;
            self.transact(move |conn| {
                async move {
                    let concluded = sql::reconcile(conn, &epoch, &open, now, concluded_at).await?;
                    block_range_index::mark_settled(conn).await?;
                    Ok(concluded)
                }
                .boxed()
            })
            .await
        }
        .boxed()
    }

    fn claim<'a>(
        &'a self,
        work: &'a str,
        from: ClaimFrom,
        epoch: &'a Epoch,
        now: UnixTime,
    ) -> LedgerFuture<'a, Claim> {
        let (name, own) = (work.to_owned(), epoch.clone());
        // The file's lock says that no other server is alive.
        let from = match self.lock.upgrade().is_some() {
            true => ClaimFrom::Anyone,
            false => from,
        };
        async move {
            let reader = (work.to_owned(), epoch.clone());
            let found = self
                .read(move |conn| {
                    async move { sql::look(conn, (&reader.0, from), &reader.1, now).await }.boxed()
                })
                .await?;
            if let Found::Answer(claim) = found {
                return Ok(claim);
            }
            self.transact(move |conn| {
                async move { sql::claim(conn, (&name, from), &own, now).await }.boxed()
            })
            .await
        }
        .boxed()
    }

    fn give_up<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()> {
        let lease = lease.clone();
        self.transact(move |conn| async move { sql::give_up(conn, &lease).await }.boxed())
            .boxed()
    }

    fn require<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()> {
        let lease = lease.clone();
        self.read(move |conn| async move { sql::require(conn, &lease).await }.boxed())
            .boxed()
    }

    fn work_leases(&self) -> LedgerFuture<'_, Vec<WorkLeaseRecord>> {
        self.read(|conn| sql::work_leases(conn).boxed()).boxed()
    }

    fn identity(&self) -> LedgerFuture<'_, Option<String>> {
        self.read(|conn| sql::identity(conn).boxed()).boxed()
    }

    fn high_water(&self) -> LedgerFuture<'_, HighWater> {
        self.read(|conn| sql::high_water(conn).boxed()).boxed()
    }

    fn behind<'a>(&'a self, mark: &'a HighWater) -> LedgerFuture<'a, Option<String>> {
        let mark = mark.clone();
        self.read(move |conn| async move { sql::behind(conn, &mark).await }.boxed())
            .boxed()
    }

    fn time(&self) -> LedgerFuture<'_, Option<UnixTime>> {
        async { Ok(None) }.boxed()
    }

    fn check(&self) -> LedgerFuture<'_, CheckReport> {
        self.read(|conn| check::check(conn).boxed()).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.readers.close().await;
            let (done, closed) = oneshot::channel();
            if self.jobs.send(Job::Close(done)).await.is_ok() {
                // A writer that has ended is closed.
                let _ = closed.await;
            }
        }
        .boxed()
    }
}
