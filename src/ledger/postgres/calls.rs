//! The calls of the ledger.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::pool::Excludes;
use super::writer::Job;
use super::{Postgres, check, epochs, query};
use crate::clock::UnixTime;
use crate::ledger::sql::{self, Found};
use crate::ledger::{
    Actor, Applied, AuthorityRecord, BundleRecord, BundleRollout, CertificateRow, Change,
    CheckReport, Claim, ClaimFrom, Epoch, Filter, GoneCluster, HighWater, Intent, IntentId,
    IssuerId, Ledger, LedgerFuture, LiveCertificates, LiveFilter, LiveServer, Outcome, Record,
    RotationRecord, ServerReport, Snapshot, Wakeup, WatcherReport, WorkLease, WorkLeaseRecord,
};
use crate::x509::{Serial, TrustDomain};

impl Ledger for Postgres {
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
        self.transact(Excludes::Writers, move |session| {
            async move { sql::reopen(session, intent, &outcome, now).await }.boxed()
        })
        .boxed()
    }

    fn certificates(&self, filter: Filter) -> LedgerFuture<'_, Vec<CertificateRow>> {
        async move {
            self.pool
                .read(|session| async move { query::certificates(session, &filter).await }.boxed())
                .await
        }
        .boxed()
    }

    fn certificate<'a>(
        &'a self,
        issuer: Option<IssuerId>,
        serial: &'a Serial,
    ) -> LedgerFuture<'a, Option<CertificateRow>> {
        let serial = *serial;
        async move {
            self.pool
                .read(|session| {
                    async move { query::by_serial(session, issuer.as_ref(), &serial).await }.boxed()
                })
                .await
        }
        .boxed()
    }

    fn snapshot(&self) -> LedgerFuture<'_, Snapshot> {
        self.pool
            .read(|session| sql::snapshot(session).boxed())
            .boxed()
    }

    fn authority<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
    ) -> LedgerFuture<'a, Option<AuthorityRecord>> {
        let trust_domain = trust_domain.clone();
        let work = self.pool.read(|session| {
            async move { sql::authority_record(session, &trust_domain).await }.boxed()
        });
        work.boxed()
    }

    fn revision(&self) -> LedgerFuture<'_, u64> {
        self.pool
            .with(|session| sql::revision(session).boxed())
            .boxed()
    }

    fn wait_for_change(&self) -> BoxFuture<'_, Wakeup> {
        self.listen();
        self.changes.wait().boxed()
    }

    fn bundle<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        sequence: Option<u64>,
    ) -> LedgerFuture<'a, Option<BundleRecord>> {
        let trust_domain = trust_domain.clone();
        async move {
            self.pool
                .read(|session| {
                    async move {
                        let authority = sql::authority(session, &trust_domain).await?;
                        sql::bundle(session, authority, sequence).await
                    }
                    .boxed()
                })
                .await
        }
        .boxed()
    }

    fn apply<'a>(&'a self, change: Change, by: &'a Actor) -> LedgerFuture<'a, Applied> {
        let (by, now) = (by.clone(), self.clock.now());
        self.transact(Excludes::Writers, move |session| {
            async move { sql::apply(session, change, &by, now).await }.boxed()
        })
        .boxed()
    }

    fn record_rollout<'a>(
        &'a self,
        rollout: BundleRollout,
        lease: Option<&'a WorkLease>,
    ) -> LedgerFuture<'a, UnixTime> {
        let lease = lease.cloned();
        // A lease must not change hands meanwhile.
        let excludes = match lease.is_some() {
            true => Excludes::Writers,
            false => Excludes::Nobody,
        };
        self.transact(excludes, move |session| {
            async move { sql::record_rollout(session, &rollout, lease.as_ref()).await }.boxed()
        })
        .boxed()
    }

    fn rollouts(&self) -> LedgerFuture<'_, Vec<BundleRollout>> {
        self.pool
            .read(|session| sql::newest_rollouts(session).boxed())
            .boxed()
    }

    fn report_server(&self, report: ServerReport) -> LedgerFuture<'_, ()> {
        self.transact(Excludes::Nobody, move |session| {
            async move { sql::report_server(session, &report).await }.boxed()
        })
        .boxed()
    }

    fn live_servers(&self, now: UnixTime) -> LedgerFuture<'_, Vec<LiveServer>> {
        self.pool
            .read(move |session| sql::live_servers(session, now).boxed())
            .boxed()
    }

    fn report_watchers(&self, reports: Vec<WatcherReport>) -> LedgerFuture<'_, ()> {
        self.transact(Excludes::Nobody, move |session| {
            async move { sql::report_watchers(session, &reports).await }.boxed()
        })
        .boxed()
    }

    fn watchers(&self) -> LedgerFuture<'_, Vec<WatcherReport>> {
        self.pool
            .read(|session| sql::watchers(session).boxed())
            .boxed()
    }

    fn gone_clusters(&self) -> LedgerFuture<'_, Vec<GoneCluster>> {
        self.pool
            .read(|session| sql::gone_clusters(session).boxed())
            .boxed()
    }

    fn rotations(&self) -> LedgerFuture<'_, Vec<RotationRecord>> {
        self.pool
            .read(|session| sql::rotations(session).boxed())
            .boxed()
    }

    fn live_certificates(&self, filter: LiveFilter) -> LedgerFuture<'_, LiveCertificates> {
        async move {
            self.pool
                .read(|session| {
                    async move { sql::live_certificates(session, &filter).await }.boxed()
                })
                .await
        }
        .boxed()
    }

    fn register<'a>(
        &'a self,
        instance: &'a str,
        lease: Duration,
        now: UnixTime,
    ) -> LedgerFuture<'a, Epoch> {
        let instance = instance.to_owned();
        self.transact(Excludes::Nobody, move |session| {
            async move { sql::register(session, &instance, lease, now).await }.boxed()
        })
        .boxed()
    }

    fn renew<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, ()> {
        let epoch = epoch.clone();
        self.transact(Excludes::Nobody, move |session| {
            async move { sql::renew(session, &epoch, now).await }.boxed()
        })
        .boxed()
    }

    fn reconcile<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, u64> {
        let (epoch, concluded_at) = (epoch.clone(), self.clock.now());
        async move {
            let reader_epoch = epoch.clone();
            let open = self
                .pool
                .read(|session| {
                    async move { epochs::open_intents(session, &reader_epoch, now).await }.boxed()
                })
                .await?;
            self.transact(Excludes::Writers, move |session| {
                async move {
                    let concluded =
                        sql::reconcile(session, &epoch, &open, now, concluded_at).await?;
                    epochs::settle(session).await?;
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
        async move {
            let reader = (work.to_owned(), epoch.clone());
            let found = self
                .pool
                .read(|session| {
                    async move { sql::look(session, (&reader.0, from), &reader.1, now).await }
                        .boxed()
                })
                .await?;
            if let Found::Answer(claim) = found {
                return Ok(claim);
            }
            self.transact(Excludes::Writers, move |session| {
                async move { sql::claim(session, (&name, from), &own, now).await }.boxed()
            })
            .await
        }
        .boxed()
    }

    fn give_up<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()> {
        let lease = lease.clone();
        self.transact(Excludes::Writers, move |session| {
            async move { sql::give_up(session, &lease).await }.boxed()
        })
        .boxed()
    }

    fn require<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()> {
        let lease = lease.clone();
        async move {
            self.pool
                .read(|session| async move { sql::require(session, &lease).await }.boxed())
                .await
        }
        .boxed()
    }

    fn work_leases(&self) -> LedgerFuture<'_, Vec<WorkLeaseRecord>> {
        self.pool
            .read(|session| sql::work_leases(session).boxed())
            .boxed()
    }

    fn identity(&self) -> LedgerFuture<'_, Option<String>> {
        self.pool
            .read(|session| sql::identity(session).boxed())
            .boxed()
    }

    fn high_water(&self) -> LedgerFuture<'_, HighWater> {
        self.pool
            .read(|session| sql::high_water(session).boxed())
            .boxed()
    }

    fn behind<'a>(&'a self, mark: &'a HighWater) -> LedgerFuture<'a, Option<String>> {
        let mark = mark.clone();
        async move {
            self.pool
                .read(|session| async move { sql::behind(session, &mark).await }.boxed())
                .await
        }
        .boxed()
    }

    fn time(&self) -> LedgerFuture<'_, Option<UnixTime>> {
        // In a transaction, which finds another connection where an idle one has ended.
        self.pool
            .read(|session| epochs::time(session).boxed())
            .boxed()
    }

    fn check(&self) -> LedgerFuture<'_, CheckReport> {
        self.pool
            .read(|session| check::check(session).boxed())
            .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.pool.close();
            self.stop_listening();
            let (done, closed) = oneshot::channel();
            if self.jobs.send(Job::Close(done)).await.is_ok() {
                // A writer that has ended is closed.
                let _ = closed.await;
            }
        }
        .boxed()
    }
}
