//! gRPC and HTTP connections to a server.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::config::ClientConfig;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::pem;
use crate::error_chain::error_chain;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A gRPC channel; the server's certificate is verified with the configured bundle alone.
pub(super) async fn connect(server: &ClientConfig) -> Result<Channel, Failure> {
    let invalid = |message: String| Failure::new(Exit::Config, message);
    let bundle = std::fs::read(&server.bundle).map_err(|error| {
        invalid(format!("cannot read the trust bundle: {error}"))
            .at(server.bundle.display())
            .next("fetch it: rootbridge bundle fetch URL --fingerprint sha256:… --out FILE")
    })?;
    let shown = server.bundle.display();
    let anchors = crate::x509::read_certificates(&bundle).map_err(|error| {
        let error = error.to_string().replace("FILE", &shown.to_string());
        invalid(format!("the trust bundle cannot be used: {error}")).at(shown)
    })?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(&anchors)));
    let endpoint = Endpoint::from_shared(server.endpoint.clone())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| {
            invalid(format!(
                "the endpoint cannot be used: {}",
                error_chain(&error)
            ))
            .at(&server.endpoint)
        })?;
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .connect()
        .await
        .map_err(|error| connect_failure(&error_chain(&error), &server.endpoint, &server.bundle))
}

/// `message` with `authorization: Bearer`.
pub(super) fn with_credential<T>(
    message: T,
    credential: &SecretString,
) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    let header = zeroize::Zeroizing::new(format!("Bearer {}", credential.expose_secret()));
    let mut value = tonic::metadata::AsciiMetadataValue::try_from(header.as_str())
        .map_err(|_| Failure::new(Exit::Config, "the credential is not valid in a header"))?;
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

/// An HTTP client that follows no redirect and uses no proxy.
pub(super) fn http_client(
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(REQUEST_TIMEOUT);
    configure(builder).build()
}

/// The body, or nothing if it is longer than `max_bytes`.
pub(super) async fn bounded_body(
    mut response: Response,
    max_bytes: usize,
) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > max_bytes {
            return Ok(None);
        }
    }
    Ok(Some(body))
}

pub(super) fn unusable_response(error: impl Display) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the response cannot be used: {error}"),
    )
}

fn connect_failure(error: &str, endpoint: &str, bundle: &Path) -> Failure {
    let bundle = bundle.display();
    let failure = if error.contains("UnknownIssuer") || error.contains("BadSignature") {
        let message = format!("the server's certificate does not chain to {bundle}: {error}");
        Failure::new(Exit::Refused, message).next(
            "is it the right server? then fetch its bundle: rootbridge bundle fetch URL \
             --fingerprint sha256:… --out FILE",
        )
    } else if error.contains("invalid peer certificate") {
        let message = format!("the server's certificate is not valid: {error}");
        Failure::new(Exit::Refused, message)
    } else {
        Failure::new(Exit::Unavailable, format!("no connection: {error}"))
            .next("is the server running? `rootbridge dev` or `rootbridge serve`")
            .next("`rootbridge check` on its host says what is missing")
    };
    failure.at(endpoint)
}

/// A gRPC status as a failure with its exit code.
pub(super) fn status_failure(action: &str, status: &Status, endpoint: &str) -> Failure {
    let message = match status.message() {
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
    let failure = Failure::new(exit, format!("{action}: {message}")).at(endpoint);
    match status.code() {
        Code::Unauthenticated => failure.next(
            "the credential was not accepted: check --credential-file or --token-file, and the \
             listener's `operators` and `jwt`",
        ),
        Code::PermissionDenied => failure.next(
            "the server's log says why under this request id; a rule in [[policy.rules]] can \
             permit names of the caller's own trust domain (SIGHUP applies it)",
        ),
        Code::Unimplemented => failure.next("the listener does not serve this API: see its `apis`"),
        Code::Unavailable | Code::ResourceExhausted => {
            failure.next("try again; `rootbridge check` on the server's host says what is missing")
        }
        _ => failure,
    }
}
