//! gRPC to a server that is known by a trust bundle and nothing else.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::config::ClientConfig;
use crate::cli::failure::{Exit, Failure};
use crate::error_chain::error_chain;

const CONNECT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);

/// A channel to the server, TLS verified with the configured bundle alone.
pub(super) async fn connect(server: &ClientConfig) -> Result<Channel, Failure> {
    let bundle = std::fs::read(&server.bundle).map_err(|error| {
        Failure::new(
            Exit::Config,
            format!("cannot read the trust bundle: {error}"),
        )
        .at(server.bundle.display().to_string())
        .next("fetch it: rootbridge bundle fetch URL --fingerprint sha256:… --out FILE")
    })?;
    crate::x509::parse_pem_chain(&bundle).map_err(|error| {
        Failure::new(
            Exit::Config,
            format!("the trust bundle cannot be used: {error}"),
        )
        .at(server.bundle.display().to_string())
    })?;
    let invalid = |error: tonic::transport::Error| {
        Failure::new(
            Exit::Config,
            format!("the endpoint cannot be used: {}", error_chain(&error)),
        )
        .at(server.endpoint.clone())
    };
    let endpoint = Endpoint::from_shared(server.endpoint.clone())
        .and_then(|endpoint| {
            endpoint
                .tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)))
        })
        .map_err(invalid)?;
    endpoint
        .connect_timeout(CONNECT)
        .timeout(CALL)
        .connect()
        .await
        .map_err(|error| connect_failure(&error_chain(&error), &server.endpoint, &server.bundle))
}

/// `message` with the credential as `authorization: Bearer`.
pub(super) fn with_credential<T>(
    message: T,
    credential: &SecretString,
) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    let header = zeroize::Zeroizing::new(format!("Bearer {}", credential.expose_secret()));
    let mut value = tonic::metadata::AsciiMetadataValue::try_from(header.as_str())
        .map_err(|_| Failure::new(Exit::Config, "the credential does not fit into a header"))?;
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

/// A connection that did not come about, in words.
fn connect_failure(said: &str, endpoint: &str, bundle: &Path) -> Failure {
    let bundle = bundle.display();
    if said.contains("UnknownIssuer") || said.contains("BadSignature") {
        Failure::new(Exit::Refused, format!("the server's certificate is not from {bundle}: {said}"))
            .at(endpoint)
            .next("is it the right server? then its bundle: rootbridge bundle fetch URL --fingerprint sha256:… --out FILE")
    } else if said.contains("invalid peer certificate") {
        Failure::new(
            Exit::Refused,
            format!("the server's certificate does not fit: {said}"),
        )
        .at(endpoint)
    } else {
        Failure::new(Exit::Unavailable, format!("no connection: {said}"))
            .at(endpoint)
            .next("is the server running? `rootbridge dev` or `rootbridge serve`")
            .next("`rootbridge check` on its host says what is missing")
    }
}

/// What a server answered, in words and with an exit code.
pub(super) fn status_failure(doing: &str, status: &Status, endpoint: &str) -> Failure {
    let said = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    let exit = match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::OutOfRange
        | Code::Unauthenticated => Exit::Refused,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {
            Exit::Unavailable
        }
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("{doing}: {said}")).at(endpoint);
    match status.code() {
        Code::Unauthenticated => failure.next(
            "the credential was not accepted: check --credential-file or --token-file, and the \
             listener's `operators` and `jwt`",
        ),
        Code::PermissionDenied => {
            failure.next("policy denies by default: add a rule to [[policy.rules]], then SIGHUP")
        }
        Code::Unimplemented => failure.next("the listener does not serve this API: see its `apis`"),
        Code::Unavailable | Code::ResourceExhausted => {
            failure.next("try again; `rootbridge check` on the server's host says what is missing")
        }
        _ => failure,
    }
}
