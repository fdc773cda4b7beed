//! Envoy's secret discovery service (SDS): the published roots as validation contexts, never a key.

mod delta;
mod metrics;
mod secrets;
mod state_of_the_world;
mod stream;
mod subscriber;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status, Streaming};

use self::delta::Delta;
use self::secrets::Secrets;
use self::state_of_the_world::StateOfTheWorld;
use self::stream::Protocol;
use self::subscriber::Subscriber;
use super::authentication::CallerAuthenticator;
use super::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use super::proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use super::request_id::RequestId;
use super::status::CallError;
use crate::authn::{Api, Caller};
use crate::net::{Peer, RequestStream};
use crate::trust::PublishedBundles;

pub use metrics::SdsMetrics;

/// The most bytes of a message: Envoy lists its extensions in each first one.
pub(super) const MESSAGE: usize = 256 * 1024;
/// The calls whose body is a stream of messages.
pub(super) const STREAMS: [&str; 2] = [
    "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
];

/// The service on one listener.
#[derive(Debug, Clone)]
pub(super) struct Sds {
    pub authenticator: CallerAuthenticator,
    pub bundles: Arc<PublishedBundles>,
    pub metrics: SdsMetrics,
    /// Ends the streams: a shutdown would wait for them.
    pub stop: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Sds {
    async fn caller(
        &self,
        call: &'static str,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, Status> {
        let authenticated = self.authenticator.authenticate(headers, peer, Api::Sds);
        authenticated.await.map_err(|error| {
            let (error, request_id) = (CallError::from(error), RequestId::new(headers));
            let log = &self.authenticator;
            log.log_refusal(call, &request_id, peer, &error);
            error.status(&request_id)
        })
    }

    async fn stream<P: Protocol + Send + 'static>(
        &self,
        call: &'static str,
        request: Request<Streaming<P::Request>>,
        protocol: impl FnOnce(Secrets, Subscriber) -> P,
    ) -> Result<Response<Answers<P::Response>>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let headers = metadata.into_headers();
        let peer = extensions.get::<Peer>();
        let caller = self.caller(call, &headers, peer).await?;
        let listener = self.authenticator.listener();
        let subscriber = Subscriber::new(listener, &caller, peer, &self.metrics);
        let secrets = Secrets::new(&self.bundles, caller.trust_domain);
        let body = body(&extensions)?;
        let stop = self.stop.clone();
        let protocol = protocol(secrets, subscriber);
        let answers = stream::answers(protocol, messages, body, self.bundles.changes(), stop);
        Ok(Response::new(Box::pin(answers)))
    }
}

// The error is as large as tonic made it.
#[allow(clippy::result_large_err)]
fn body(extensions: &Extensions) -> Result<RequestStream, Status> {
    let body = extensions.get::<RequestStream>().cloned();
    body.ok_or_else(|| Status::internal("the listener hands on no stream"))
}

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        self.stream("DeltaSecrets", request, Delta::new).await
    }

    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        self.stream("StreamSecrets", request, StateOfTheWorld::new)
            .await
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let (metadata, extensions, body) = request.into_parts();
        let headers = metadata.into_headers();
        let peer = extensions.get::<Peer>();
        let caller = self.caller("FetchSecrets", &headers, peer).await?;
        let secrets = Secrets::new(&self.bundles, caller.trust_domain);
        state_of_the_world::once(&secrets, &body).map(Response::new)
    }
}
