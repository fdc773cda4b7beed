//! Trust bundles by gRPC, without a credential: get and watch.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::proto::rootbridge_v1::trust_bundle_service_server::TrustBundleService;
use super::proto::rootbridge_v1::{
    GetTrustBundleRequest, TrustBundle as Message, WatchTrustBundleRequest,
};
use crate::digest::hex;
use crate::trust::Bundles;
use crate::x509::{TrustBundle, TrustDomain};

/// The service on one listener.
#[derive(Debug, Clone)]
pub(super) struct TrustBundles {
    pub bundles: Arc<Bundles>,
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
