//! One step of one authority: it is recorded before the next one can follow.

use std::sync::Arc;
use std::time::Duration;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable};
use super::config::{AuthorityConfig, UpstreamConfig};
use super::metrics::Metrics;
use super::retirement::{rotates, unexpired};
use super::waiting::Waiting;
use crate::backoff;
use crate::clock::{Clock, UnixTime};
use crate::issuance::{Ceremony, CeremonyError, UpstreamOutcome};
use crate::ledger::{
    Actor, CaRequestChange, CaRequestRecord, CaRequestState, Change, IssuerId, IssuerState, Ledger,
    LedgerError, WorkLease,
};
use crate::x509::{Certificate, read_certificates};

/// How much longer than its call an attempt may take before another server makes it.
const MARGIN: Duration = Duration::from_secs(30);
/// The longest pause that a CA can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// An authority, and the CA that certifies its issuing key.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) config: AuthorityConfig,
    pub(super) upstream: UpstreamConfig,
    pub(super) ca: Arc<dyn UpstreamCa>,
}

#[derive(Debug)]
pub(super) enum Step {
    Begin,
    Continue(Box<CaRequestRecord>),
    /// Of an issuing CA that another one has replaced.
    Retire(IssuerId),
}

/// Does the steps of all authorities.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) instance: String,
    pub(super) ceremony: Ceremony,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    /// On the renewals of the authority whose step is done.
    pub(super) lease: Option<WorkLease>,
}

impl Worker {
    /// The same while this server holds a lease.
    pub(super) fn under(&self, lease: WorkLease) -> Self {
        let mut worker = self.clone();
        worker.ceremony = self.ceremony.under(lease.clone());
        worker.lease = Some(lease);
        worker
    }

    /// Returns false when the step failed and no record says when it is tried again.
    pub(super) async fn run(&self, authority: &Authority, step: Step) -> bool {
        let domain = authority.config.trust_domain();
        let upstream = authority.upstream.name();
        let result = match step {
            Step::Begin => self.begin(authority).await,
            Step::Continue(request) => self.proceed(authority, &request).await,
            Step::Retire(issuer) => self.retire(authority, &issuer).await,
        };
        match result {
            Ok(()) => true,
            // Somebody else was first, or has cancelled the request.
            Err(CeremonyError::Ledger(
                error @ (LedgerError::RequestMoved { .. }
                | LedgerError::RequestInFlight(_)
                | LedgerError::LeaseLost { .. }),
            )) => {
                tracing::info!(event = "upstream.overtaken", %domain, upstream, %error, "the records have moved on");
                true
            }
            Err(error) => {
                tracing::warn!(event = "upstream.failed", %domain, upstream, %error, "a step of a renewal failed");
                false
            }
        }
    }

    async fn begin(&self, authority: &Authority) -> Result<(), CeremonyError> {
        let options = authority.config.options();
        self.ceremony.begin_upstream(options).await?;
        let (domain, upstream) = (&options.trust_domain, &options.upstream);
        tracing::info!(event = "upstream.begun", %domain, upstream, "the issuing CA is renewed: a request is on record");
        Ok(())
    }

    async fn proceed(
        &self,
        authority: &Authority,
        request: &CaRequestRecord,
    ) -> Result<(), CeremonyError> {
        let until = authority.upstream.timeout + MARGIN;
        let claim = CaRequestChange::Attempt {
            request: request.id,
            attempts: request.attempts,
            by: self.instance.clone(),
            until: self.clock.now().plus(until),
        };
        self.change(claim).await?;
        let options = authority.config.options();
        match request.state {
            CaRequestState::Prepared => {
                let prepared = self.ceremony.prepare_upstream(options, request).await;
                match prepared {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        let (domain, upstream, id) =
                            (&options.trust_domain, &options.upstream, request.id);
                        tracing::warn!(event = "upstream.failed", %domain, upstream, request = %id, %error, "the key or the CSR of a request was not made");
                        self.retry(authority, request, None, Some(error.to_string()))
                            .await
                    }
                }
            }
            CaRequestState::Submitted => {
                let submission = submission(authority, request);
                let (domain, upstream, id) = (&options.trust_domain, &options.upstream, request.id);
                tracing::info!(event = "upstream.submitted", %domain, upstream, request = %id, "the request is sent");
                let answer = authority.ca.submit(&submission).await;
                self.answered(authority, request, answer).await
            }
            CaRequestState::Pending => {
                let submission = submission(authority, request);
                let reference = request.reference.as_deref().unwrap_or_default();
                let answer = authority.ca.poll(&submission, reference).await;
                self.answered(authority, request, answer).await
            }
            CaRequestState::Received => self.look_again(authority, request).await,
            CaRequestState::Activated | CaRequestState::Refused | CaRequestState::Cancelled => {
                Ok(())
            }
        }
    }

    async fn answered(
        &self,
        authority: &Authority,
        request: &CaRequestRecord,
        answer: Result<Answer, Unreachable>,
    ) -> Result<(), CeremonyError> {
        let upstream = authority.upstream.name();
        let domain = authority.config.trust_domain();
        let id = request.id;
        let word = answer.as_ref().map_or("unreachable", Answer::word);
        self.metrics.answered(upstream, word);
        match answer {
            Ok(Answer::Issued(bytes)) => match read_certificates(&bytes) {
                Ok(certificates) => self.accept(authority, request, &certificates).await,
                Err(error) => {
                    let why = format!("the answer cannot be read: {error}");
                    self.unusable(authority, request, why).await
                }
            },
            Ok(Answer::Pending {
                reference,
                retry_after,
            }) => {
                let is_new = request.state != CaRequestState::Pending
                    || request.reference.as_ref() != Some(&reference);
                if is_new {
                    let wait = CaRequestChange::Wait {
                        request: id,
                        reference: reference.clone(),
                    };
                    self.change(wait).await?;
                    tracing::info!(event = "upstream.pending", %domain, upstream, request = %id, reference, "the upstream CA decides later");
                }
                self.retry(authority, request, retry_after, None).await
            }
            Ok(Answer::Refused(reason)) => {
                tracing::warn!(event = "upstream.refused", %domain, upstream, request = %id, reason, "the upstream CA refused the request");
                let end = CaRequestChange::End {
                    request: id,
                    state: CaRequestState::Refused,
                    reason,
                };
                self.change(end).await
            }
            Ok(Answer::Forgotten) if request.state == CaRequestState::Pending => {
                tracing::warn!(event = "upstream.forgotten", %domain, upstream, request = %id, "the upstream CA no longer knows the request: it is sent again");
                self.change(CaRequestChange::Resubmit { request: id }).await
            }
            Ok(Answer::Forgotten) => {
                let why = "the upstream CA does not know a request that was just sent".to_owned();
                self.unusable(authority, request, why).await
            }
            Err(Unreachable {
                reason,
                retry_after,
            }) => {
                tracing::warn!(event = "upstream.unreachable", %domain, upstream, request = %id, reason, "the upstream CA gave no answer");
                self.retry(authority, request, retry_after, Some(reason))
                    .await
            }
        }
    }

    /// An answer with certificates.
    async fn accept(
        &self,
        authority: &Authority,
        request: &CaRequestRecord,
        certificates: &[Certificate],
    ) -> Result<(), CeremonyError> {
        let options = authority.config.options();
        let outcome = self
            .ceremony
            .accept_upstream(options, request, certificates);
        match outcome.await {
            Ok(outcome) => self.outcome(authority, request, outcome).await,
            // The ledger's own trouble says nothing about the certificates.
            Err(error @ CeremonyError::Ledger(_)) => Err(error),
            Err(error) => self.unusable(authority, request, error.to_string()).await,
        }
    }

    async fn outcome(
        &self,
        authority: &Authority,
        request: &CaRequestRecord,
        outcome: UpstreamOutcome,
    ) -> Result<(), CeremonyError> {
        let upstream = authority.upstream.name();
        let domain = authority.config.trust_domain();
        let id = request.id;
        let waiting = match Waiting::of(outcome) {
            Ok(report) => {
                let subject = report.certificate.subject();
                let end = report.certificate.not_after();
                for unused in &report.unused {
                    let left_out = unused.subject();
                    tracing::info!(event = "upstream.left_out", %domain, upstream, request = %id, left_out, "a certificate of the answer is not in the path");
                }
                for warning in &report.warnings {
                    tracing::warn!(event = "upstream.warning", %domain, upstream, request = %id, warning, "strict verifiers refuse a certificate of the path");
                }
                tracing::info!(
                    event = "upstream.activated", %domain, upstream, request = %id, issuer = %report.issuer, subject,
                    not_after = %end, "the new issuing CA signs"
                );
                return Ok(());
            }
            Err(waiting) => waiting,
        };
        let Waiting {
            root,
            sha256,
            problem,
            until,
        } = waiting;
        let later = || self.clock.now().plus(authority.upstream.longest_poll);
        let at = until.unwrap_or_else(later);
        if request.problem.as_ref() != Some(&problem) {
            tracing::warn!(event = "upstream.waits", %domain, upstream, request = %id, root, sha256, problem, "a certificate waits for its root");
        }
        let retry = CaRequestChange::Retry {
            request: id,
            at,
            problem: Some(problem),
        };
        self.change(retry).await
    }

    /// An answer that is on record waits for its root.
    async fn look_again(
        &self,
        authority: &Authority,
        request: &CaRequestRecord,
    ) -> Result<(), CeremonyError> {
        let certificates = request.certificates.iter();
        let certificates = certificates
            .map(|der| Certificate::parse(der.as_slice()))
            .collect::<Result<Vec<_>, _>>()?;
        let options = authority.config.options();
        let outcome = self
            .ceremony
            .accept_upstream(options, request, &certificates);
        match outcome.await {
            Ok(outcome) => self.outcome(authority, request, outcome).await,
            Err(error @ CeremonyError::Ledger(_)) => Err(error),
            Err(error) => {
                let (domain, upstream) = (&options.trust_domain, &options.upstream);
                tracing::warn!(event = "upstream.outdated", %domain, upstream, request = %request.id, %error, "the certificate that waited cannot be used any more: the request is sent again");
                let again = CaRequestChange::Resubmit {
                    request: request.id,
                };
                self.change(again).await
            }
        }
    }

    async fn unusable(
        &self,
        authority: &Authority,
        request: &CaRequestRecord,
        why: String,
    ) -> Result<(), CeremonyError> {
        let upstream = authority.upstream.name();
        let domain = authority.config.trust_domain();
        self.metrics.answered(upstream, "unusable");
        tracing::warn!(event = "upstream.unusable", %domain, upstream, request = %request.id, reason = why, "the answer of the upstream CA is not used");
        self.retry(authority, request, None, Some(why)).await
    }

    async fn retry(
        &self,
        authority: &Authority,
        request: &CaRequestRecord,
        after: Option<Duration>,
        problem: Option<String>,
    ) -> Result<(), CeremonyError> {
        let upstream = &authority.upstream;
        let attempts = request.attempts.saturating_add(1);
        let pause = backoff::delay(attempts, upstream.poll, upstream.longest_poll);
        let pause = after.map_or(pause, |after| after.min(LONGEST_RETRY_AFTER).max(pause));
        let retry = CaRequestChange::Retry {
            request: request.id,
            at: self.ceiled(pause),
            problem,
        };
        self.change(retry).await
    }

    /// In whole seconds, at least one from now.
    fn ceiled(&self, pause: Duration) -> UnixTime {
        self.clock.now().plus(pause.max(Duration::from_secs(1)))
    }

    async fn retire(&self, authority: &Authority, issuer: &IssuerId) -> Result<(), CeremonyError> {
        let now = self.clock.now();
        let ledger = self.ledger.as_ref();
        if unexpired(ledger, issuer, now).await?.is_some() || rotates(ledger, issuer).await? {
            return Ok(());
        }
        let change = Change::SetIssuerState {
            issuer: issuer.clone(),
            state: IssuerState::Retired,
        };
        let by = Actor::server(self.lease.clone());
        self.ledger.apply(change, &by).await?;
        let domain = authority.config.trust_domain();
        tracing::info!(event = "upstream.retired", %domain, %issuer, "an issuing CA was retired: its last certificate has expired");
        Ok(())
    }

    async fn change(&self, change: CaRequestChange) -> Result<(), CeremonyError> {
        let change = Change::Request(change);
        let by = Actor::server(self.lease.clone());
        Ok(self.ledger.apply(change, &by).await.map(drop)?)
    }
}

fn submission(authority: &Authority, request: &CaRequestRecord) -> Submission {
    let domain = authority.config.trust_domain();
    Submission {
        id: format!("{domain}-{}", request.id),
        trust_domain: domain.clone(),
        common_name: authority.config.options().common_name.clone(),
        csr: request.csr.clone().unwrap_or_default(),
        ttl: authority.config.ttl,
        path_len: request.path_len.unwrap_or_default(),
    }
}
