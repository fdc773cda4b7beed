//! Trust bundles by gRPC: get and watch without a credential, and reports of what is applied.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::authentication::CallerAuthenticator;
use super::proto::rootbridge_v1::trust_bundle_service_server::TrustBundleService;
use super::proto::rootbridge_v1::{
    GetTrustBundleRequest, ReportTrustBundleRequest, ReportTrustBundleResponse, TargetReport,
    TrustBundle as Message, WatchTrustBundleRequest,
};
use super::request_id::RequestId;
use super::status::CallError;
use crate::authn::Api;
use crate::digest::{from_hex, hex};
use crate::net::Peer;
use crate::rotation::{Reported, ReportedState, ReportedTarget, WatcherError, Watchers};
use crate::trust::Bundles;
use crate::x509::{TrustBundle, TrustDomain};

/// The service on one listener.
#[derive(Debug, Clone)]
pub(super) struct TrustBundles {
    pub bundles: Arc<Bundles>,
    pub watchers: Arc<Watchers>,
    pub authenticator: CallerAuthenticator,
    /// Ends the watches: a shutdown would wait for them.
    pub stop: CancellationToken,
}

impl TrustBundles {
    // The error is as large as tonic made it.
    #[allow(clippy::result_large_err)]
    fn domain(&self, requested: &str) -> Result<TrustDomain, Status> {
        if requested.is_empty() {
            let several = "trust_domain: this server has none or several; name one";
            return self
                .bundles
                .only_trust_domain()
                .ok_or_else(|| Status::invalid_argument(several));
        }
        TrustDomain::parse(requested)
            .map_err(|error| Status::invalid_argument(format!("trust_domain: {error}")))
    }
}

#[tonic::async_trait]
impl TrustBundleService for TrustBundles {
    async fn get_trust_bundle(
        &self,
        request: Request<GetTrustBundleRequest>,
    ) -> Result<Response<Message>, Status> {
        let domain = self.domain(&request.get_ref().trust_domain)?;
        match self.bundles.current(&domain) {
            Some(published) => Ok(Response::new(message(&published.bundle))),
            None => Err(Status::not_found(
                "no bundle is published for this trust domain",
            )),
        }
    }

    type WatchTrustBundleStream = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

    async fn watch_trust_bundle(
        &self,
        request: Request<WatchTrustBundleRequest>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        let domain = self.domain(&request.get_ref().trust_domain)?;
        if self.bundles.current(&domain).is_none() {
            return Err(Status::not_found(
                "no bundle is published for this trust domain",
            ));
        }
        let follower = self.bundles.subscribe(domain);
        let stop = self.stop.clone();
        let stream = futures_util::stream::unfold((follower, stop), |(mut follower, stop)| async {
            let next = tokio::select! {
                () = stop.cancelled() => None,
                next = follower.next() => next,
            };
            next.map(|published| (Ok(message(&published.bundle)), (follower, stop)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn report_trust_bundle(
        &self,
        request: Request<ReportTrustBundleRequest>,
    ) -> Result<Response<ReportTrustBundleResponse>, Status> {
        let (metadata, extensions, body) = request.into_parts();
        let domain = self.domain(&body.trust_domain)?;
        let headers = metadata.into_headers();
        let request_id = RequestId::new(&headers);
        let peer = extensions.get::<Peer>();
        let authenticated = self
            .authenticator
            .authenticate(&headers, peer, Api::Certificates);
        let refused = |error: CallError| {
            let log = &self.authenticator;
            log.log_refusal("ReportTrustBundle", &request_id, peer, &error);
            error.status(&request_id)
        };
        let caller = authenticated.await.map_err(|error| refused(error.into()))?;
        let reported = reported(domain.clone(), body).map_err(&refused)?;
        let identity = caller.identity.to_string();
        let gone = match self.watchers.report(&identity, reported).await {
            Ok(gone) => gone,
            Err(WatcherError::Ledger(error)) => {
                return Err(refused(CallError::Issue(error.into())));
            }
            Err(error @ WatcherError::NotConfigured(..)) => {
                tracing::info!(%error, "a report of a trust bundle is refused");
                return Err(refused(CallError::Mismatch {
                    field: "the caller",
                    why: "is no watcher of this trust domain: see [watchers]",
                }));
            }
            Err(error) => {
                return Err(refused(CallError::Field {
                    field: "report",
                    why: error.to_string(),
                }));
            }
        };
        let newest = self.bundles.current(&domain);
        let note = gone.map(|gone| {
            format!(
                "the cluster was declared gone at {} by {}: {}",
                gone.at, gone.by, gone.reason
            )
        });
        Ok(Response::new(ReportTrustBundleResponse {
            sequence: newest.map_or(0, |newest| newest.bundle.sequence()),
            note: note.unwrap_or_default(),
        }))
    }
}

/// The most targets of a report.
const MAX_TARGETS: usize = 256;

fn reported(
    trust_domain: TrustDomain,
    body: ReportTrustBundleRequest,
) -> Result<Reported, CallError> {
    let field = |field, why: &str| CallError::Field {
        field,
        why: why.to_owned(),
    };
    let digest = from_hex(&body.digest).and_then(|bytes| bytes.try_into().ok());
    let digest = digest.ok_or_else(|| field("digest", "64 hexadecimal digits"))?;
    if body.targets.len() > MAX_TARGETS {
        return Err(field("targets", "too many"));
    }
    Ok(Reported {
        trust_domain,
        instance: body.instance,
        sequence: body.sequence,
        digest,
        targets: body.targets.into_iter().map(reported_target).collect(),
    })
}

/// The longest text of a report that is kept, in characters.
const MAX_TEXT: usize = 256;

/// A text as logs and terminals can show it.
fn shown(text: String) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(MAX_TEXT).collect()
}

fn reported_target(target: TargetReport) -> ReportedTarget {
    use super::proto::rootbridge_v1::target_report::State;
    let state = target.state();
    let [name, why, edit] = [target.target, target.why, target.last_edit].map(shown);
    let objects = usize::try_from(target.objects).unwrap_or(usize::MAX);
    ReportedTarget {
        target: name,
        state: match state {
            State::Holds => ReportedState::Holds {
                held_for: target
                    .held_for
                    .and_then(|held| Duration::try_from(held).ok())
                    .unwrap_or_default(),
            },
            State::Behind => ReportedState::Behind {
                objects: objects.max(1),
                why: (!why.is_empty()).then_some(why),
            },
            State::Contested => ReportedState::Contested { objects },
            State::Unknown => ReportedState::Unknown { why },
        },
        last_edit: (!edit.is_empty()).then_some(edit),
    }
}

pub(super) fn message(bundle: &TrustBundle) -> Message {
    Message {
        trust_domain: bundle.trust_domain().to_string(),
        sequence: bundle.sequence(),
        anchors: bundle
            .anchors()
            .iter()
            .map(|anchor| anchor.der().to_vec())
            .collect(),
        digest: hex(&bundle.digest()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_watchers_are_short_and_plain() {
        let report = TargetReport {
            target: "istio\x1b[31m\n".to_owned(),
            why: "é".repeat(10_000),
            last_edit: "kubectl\tedit".to_owned(),
            ..TargetReport::default()
        };
        let target = reported_target(report);
        assert_eq!(target.target, "istio [31m ");
        assert_eq!(target.last_edit.as_deref(), Some("kubectl edit"));
        let why = ReportedState::Unknown {
            why: "é".repeat(MAX_TEXT),
        };
        assert_eq!(target.state, why);
    }
}
