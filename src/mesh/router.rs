//! The APIs of one listener on one port: gRPC and HTTPS.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{map_request, map_response};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::RoutesBuilder;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::authentication::CallerAuthenticator;
use super::bodies::{SMALL, bounded};
use super::bundles::TrustBundles;
use super::certificates::Certificates;
use super::config::{Api, ListenerConfig};
use super::download;
use super::istio::Istio;
use super::linkerd::{self, Linkerd};
use super::proto::DESCRIPTORS;
use super::proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use super::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer;
use super::proto::linkerd::identity_server::IdentityServer;
use super::proto::rootbridge_v1::certificate_service_server::CertificateServiceServer;
use super::proto::rootbridge_v1::trust_bundle_service_server::TrustBundleServiceServer;
use super::sds::{self, Sds, SdsMetrics};
use super::vault::{self, VaultApi, VaultState};
use crate::clock::Clock;
use crate::cluster::Notices;
use crate::issuance::Authorities;
use crate::rotation::Watchers;
use crate::trust::{Bundles, PublishedBundles};

/// The components behind the APIs.
#[derive(Debug, Clone)]
pub struct Services {
    pub authorities: Arc<Authorities>,
    pub bundles: Arc<Bundles>,
    /// The same, and those of other trust domains.
    pub published: Arc<PublishedBundles>,
    /// Take what followers of bundles report.
    pub watchers: Arc<Watchers>,
    /// Of requests that name no profile.
    pub istio_profile: String,
    pub clock: Arc<dyn Clock>,
    /// Events about Linkerd's certificates.
    pub notices: Notices,
    /// Of Envoys that take their roots by SDS.
    pub sds: SdsMetrics,
    /// The mounts and sessions of Vault's API.
    pub vault: Arc<VaultState>,
    /// Ends streams at shutdown.
    pub stop: CancellationToken,
}

/// The router of one listener: the APIs that its configuration names, with gRPC health and
/// reflection.
pub fn router<H: Health>(
    services: &Services,
    listener: &ListenerConfig,
    authenticator: &CallerAuthenticator,
    health: HealthServer<H>,
) -> Router {
    let limit = listener.limits().max_message_bytes;
    if listener.serves(Api::Vault) {
        let api = VaultApi {
            authenticator: authenticator.clone(),
            authorities: Arc::clone(&services.authorities),
            clock: Arc::clone(&services.clock),
            state: Arc::clone(&services.vault),
        };
        let router = vault::router(api);
        return router.layer(map_request(move |request| bounded(limit, request)));
    }
    let mut routes = RoutesBuilder::default();
    routes.add_service(health.max_decoding_message_size(SMALL));
    if listener.serves(Api::Istio) {
        let istio = Istio {
            authenticator: authenticator.clone(),
            authorities: Arc::clone(&services.authorities),
            profile: services.istio_profile.clone(),
        };
        let istio = IstioCertificateServiceServer::new(istio);
        routes.add_service(istio.max_decoding_message_size(limit));
    }
    if let Some(config) = listener.linkerd() {
        let linkerd = Linkerd {
            authenticator: authenticator.clone(),
            authorities: Arc::clone(&services.authorities),
            clock: Arc::clone(&services.clock),
            config: config.clone(),
            notices: services.notices.clone(),
        };
        let linkerd = IdentityServer::new(linkerd);
        routes.add_service(linkerd.max_decoding_message_size(limit));
    }
    if listener.serves(Api::Certificates) {
        let certificates = Certificates {
            authenticator: authenticator.clone(),
            authorities: Arc::clone(&services.authorities),
        };
        let certificates = CertificateServiceServer::new(certificates);
        routes.add_service(certificates.max_decoding_message_size(limit));
    }
    if listener.serves(Api::Bundles) {
        let bundles = TrustBundles {
            bundles: Arc::clone(&services.bundles),
            watchers: Arc::clone(&services.watchers),
            authenticator: authenticator.clone(),
            stop: services.stop.clone(),
        };
        let bundles = TrustBundleServiceServer::new(bundles);
        routes.add_service(bundles.max_decoding_message_size(limit));
    }
    if listener.serves(Api::Sds) {
        services.sds.begin(listener.name());
        let sds = Sds {
            authenticator: authenticator.clone(),
            bundles: Arc::clone(&services.published),
            metrics: services.sds.clone(),
            stop: services.stop.clone(),
        };
        let sds = SecretDiscoveryServiceServer::new(sds);
        routes.add_service(sds.max_decoding_message_size(limit.max(sds::MESSAGE)));
    }
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    if let Ok(reflection) = described().build_v1() {
        routes.add_service(reflection.max_decoding_message_size(SMALL));
    }
    if let Ok(reflection) = described().build_v1alpha() {
        routes.add_service(reflection.max_decoding_message_size(SMALL));
    }
    let mut router = routes.routes().into_axum_router().fallback(unknown);
    if listener.linkerd().is_some() {
        router = router.layer(map_response(linkerd::with_linkerd_codes));
    }
    if listener.serves(Api::Bundles) {
        router = router.merge(download::routes(Arc::clone(&services.bundles)));
    }
    router.layer(map_request(move |request| bounded(limit, request)))
}

/// UNIMPLEMENTED for gRPC, whose HTTP status is always 200; 404 for others.
async fn unknown(headers: HeaderMap) -> Response {
    let grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    match grpc {
        true => Status::unimplemented("this listener does not serve that").into_http(),
        false => (StatusCode::NOT_FOUND, "no such page\n").into_response(),
    }
}
