//! The agent's calls to its server.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt as _};
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate as Root, Channel, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

use crate::controllers::agent::{
    AgentConfig, AgentCredential, AgentReport, AgentTarget, AgentTargetState, BundleServer, Connect,
};
use crate::digest::hex;
use crate::error_chain::error_chain;
use crate::mesh::proto::rootbridge_v1::target_report::State;
use crate::mesh::proto::rootbridge_v1::trust_bundle_service_client::TrustBundleServiceClient;
use crate::mesh::proto::rootbridge_v1::{
    ReportTrustBundleRequest, TargetReport, TrustBundle as Message, WatchTrustBundleRequest,
};
use crate::x509::{TrustBundle, TrustDomain, read_certificates};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// A network that is cut sends nothing: without an answer within this time it counts as cut.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Connects with the credential as it is then.
pub(super) fn connector(config: &AgentConfig) -> Connect {
    let config = config.clone();
    Box::new(move |bundle| {
        let config = config.clone();
        Box::pin(async move {
            let server = Server::connect(config, bundle).await?;
            Ok(Box::new(server) as Box<dyn BundleServer>)
        })
    })
}

struct Server {
    channel: Channel,
    config: AgentConfig,
}

impl Server {
    async fn connect(config: AgentConfig, bundle: Option<TrustBundle>) -> Result<Self, String> {
        // Once there is a bundle, it alone counts: a root that was retired vouches for nobody.
        let roots = match bundle {
            Some(bundle) => bundle.to_pem().into_bytes(),
            None => first_roots(config.ca_file())?,
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Root::from_pem(roots));
        if let AgentCredential::Certificate { certificate, key } = config.credential() {
            let certificate = read(certificate)?;
            let key = Zeroizing::new(read(key)?);
            tls = tls.identity(Identity::from_pem(certificate, key.as_slice()));
        }
        let failed = |error: tonic::transport::Error| error_chain(&error);
        let endpoint = Endpoint::from_shared(config.server().to_owned()).map_err(failed)?;
        let channel = endpoint
            .tls_config(tls)
            .map_err(failed)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(failed)?;
        Ok(Self { channel, config })
    }

    fn client(&self) -> TrustBundleServiceClient<Channel> {
        TrustBundleServiceClient::new(self.channel.clone())
    }
}

impl BundleServer for Server {
    fn follow(
        &self,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<TrustBundle, String>>, String>> {
        Box::pin(async {
            let request = WatchTrustBundleRequest {
                trust_domain: self.config.trust_domain().to_string(),
            };
            let mut client = self.client();
            let opened = tokio::time::timeout(CALL_TIMEOUT, client.watch_trust_bundle(request));
            let stream = opened.await.map_err(|_| "no answer in time".to_owned())?;
            let stream = stream.map_err(|status| said(&status))?.into_inner();
            let domain = self.config.trust_domain().clone();
            let bundles = stream.map(move |message| match message {
                Ok(message) => parse(&domain, message),
                Err(status) => Err(said(&status)),
            });
            Ok(bundles.boxed())
        })
    }

    fn report<'a>(
        &'a self,
        report: &'a AgentReport,
    ) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async {
            let mut request = Request::new(ReportTrustBundleRequest {
                trust_domain: self.config.trust_domain().to_string(),
                instance: self.config.instance().to_owned(),
                sequence: report.sequence,
                digest: report.digest.clone(),
                targets: report.targets.iter().map(target).collect(),
            });
            if let AgentCredential::Token(file) = self.config.credential() {
                let token = Zeroizing::new(read(file)?);
                let token = std::str::from_utf8(&token).map_err(|error| error.to_string())?;
                let header = Zeroizing::new(format!("Bearer {}", token.trim()));
                let mut value = AsciiMetadataValue::try_from(header.as_str())
                    .map_err(|_| format!("{} holds no token", file.display()))?;
                value.set_sensitive(true);
                request.metadata_mut().insert("authorization", value);
            }
            request.set_timeout(CALL_TIMEOUT);
            let mut client = self.client();
            let answer = tokio::time::timeout(CALL_TIMEOUT, client.report_trust_bundle(request));
            let answer = answer.await.map_err(|_| "no answer in time".to_owned())?;
            let answer = answer
                .map_err(|status| format!("its report is refused: {}", said(&status)))?
                .into_inner();
            Ok((!answer.note.is_empty()).then_some(answer.note))
        })
    }
}

fn target(target: &AgentTarget) -> TargetReport {
    let mut report = TargetReport {
        target: target.target.clone(),
        last_edit: target.last_edit.clone().unwrap_or_default(),
        ..TargetReport::default()
    };
    let count = |objects: usize| u64::try_from(objects).unwrap_or(u64::MAX);
    match &target.state {
        AgentTargetState::Holds { held_for } => {
            report.set_state(State::Holds);
            report.held_for = prost_types::Duration::try_from(*held_for).ok();
        }
        AgentTargetState::Behind { objects, why } => {
            report.set_state(State::Behind);
            report.objects = count(*objects);
            report.why = why.clone().unwrap_or_default();
        }
        AgentTargetState::Contested { objects } => {
            report.set_state(State::Contested);
            report.objects = count(*objects);
        }
        AgentTargetState::Unknown { why } => report.why.clone_from(why),
    }
    report
}

fn parse(domain: &TrustDomain, message: Message) -> Result<TrustBundle, String> {
    if message.trust_domain != domain.as_str() {
        return Err(format!(
            "the server sent a bundle of {}",
            message.trust_domain
        ));
    }
    let bundle = TrustBundle::new(domain.clone(), message.sequence, message.anchors)
        .map_err(|error| format!("the server's bundle cannot be used: {error}"))?;
    match hex(&bundle.digest()) == message.digest {
        true => Ok(bundle),
        false => Err("the server's bundle has another digest than it says".to_owned()),
    }
}

fn said(status: &tonic::Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

fn first_roots(file: &Path) -> Result<Vec<u8>, String> {
    let roots = read(file)?;
    let roots =
        read_certificates(&roots).map_err(|error| format!("{}: {error}", file.display()))?;
    let pem: String = roots.iter().map(crate::x509::Certificate::to_pem).collect();
    Ok(pem.into_bytes())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}
