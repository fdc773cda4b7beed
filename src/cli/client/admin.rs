//! Calls to a server's admin port.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, Identity, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::config::{CredentialArgs, bundle, client_credential};
use super::connect::{bounded_body, http_client, unusable_response};
use crate::cli::failure::{Exit, Failure};
use crate::error_chain::error_chain;

/// Longer than the status of ten thousand targets.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// The server's admin port on this host, or a listener with the API `admin`, which is https.
    #[arg(
        long,
        value_name = "URL",
        env = "ROOTBRIDGE_ADMIN",
        default_value = "http://127.0.0.1:9901"
    )]
    admin: Url,
    /// A client file with credential_file or token_file. Default: that of `rootbridge dev`.
    #[arg(long, value_name = "FILE", env = "ROOTBRIDGE_CLIENT")]
    client: Option<PathBuf>,
    /// The trust bundle that a listener's certificate is verified with, PEM. Default: the client file's.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    credential: CredentialArgs,
    /// Instead of a credential: a client certificate with those above it, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    #[arg(conflicts_with_all = ["credential_file", "token_file"])]
    certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
}

/// The admin port or a listener, and the credential for it.
#[derive(Debug)]
pub(super) struct AdminPort {
    url: Url,
    /// `None` with a client certificate.
    credential: Option<SecretString>,
    client: Client,
}

impl AdminPort {
    pub(super) fn new(args: AdminArgs) -> Result<Self, Failure> {
        let client = match args.admin.scheme() {
            "https" => verifying(&args)?,
            _ => {
                only_local(&args)?;
                http_client(|builder| builder).map_err(|error| unusable(&error))?
            }
        };
        let credential = match &args.certificate {
            Some(_) => None,
            None => Some(client_credential(args.client, &args.credential)?),
        };
        Ok(Self {
            url: args.admin,
            credential,
            client,
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(path, None::<&()>).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.call(path, Some(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let called = self.request(path, body).await;
        called.map_err(|failure| failure.at(&self.url))
    }

    async fn request<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let unavailable = |error: reqwest::Error| {
            Failure::new(
                Exit::Unavailable,
                format!("no answer: {}", error_chain(&error)),
            )
            .next("is the server running, and is this its `admin.address`?")
        };
        let url = self.url.join(path).map_err(|error| {
            let message = format!("the admin port cannot be used: {error}");
            Failure::new(Exit::Config, message)
        })?;
        let request = match body {
            Some(body) => self
                .client
                .post(url)
                .header(CONTENT_TYPE, "application/json")
                .body(serde_json::to_vec(body).map_err(unusable_response)?),
            None => self.client.get(url),
        };
        let request = match &self.credential {
            Some(credential) => request.bearer_auth(credential.expose_secret()),
            None => request,
        };
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(
                Failure::new(Exit::Refused, "the credential was not accepted").next(
                    "check --credential-file, and `admin.operators` or the listener of the server",
                ),
            );
        }
        if status == StatusCode::FORBIDDEN {
            let message = "the caller is not one of the listener's admins";
            return Err(Failure::new(Exit::Refused, message)
                .next("name it in `listeners.NAME.admins` of the server"));
        }
        let body = body_of(response).await?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(unusable_response),
            other => Err(refusal(other, &body)),
        }
    }
}

/// The admin port has no TLS, and accepts credentials on the loopback address alone.
fn only_local(args: &AdminArgs) -> Result<(), Failure> {
    let host = args.admin.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_local = address.map_or(host == "localhost", |ip| ip.is_loopback());
    if args.admin.scheme() == "http" && is_local && args.certificate.is_none() {
        return Ok(());
    }
    let message = format!(
        "the credential would cross the network in the clear to {}",
        args.admin
    );
    Err(Failure::new(Exit::Config, message).next(
        "give https://HOST:PORT of a listener with apis = [\"admin\"], or run it on the server's host: \
         http://127.0.0.1:9901",
    ))
}

/// A client that trusts the bundle alone, with the client certificate if one is given.
fn verifying(args: &AdminArgs) -> Result<Client, Failure> {
    let anchors = bundle(args.client.clone(), args.bundle.clone())?;
    let roots = anchors.iter().map(|each| Certificate::from_der(each.der()));
    let roots = roots.collect::<Result<Vec<_>, _>>();
    let roots = roots.map_err(|error| unusable(&error))?;
    let identity = match (&args.certificate, &args.key) {
        (Some(certificate), Some(key)) => Some(identity(certificate, key)?),
        _ => None,
    };
    let built = http_client(|builder| {
        let builder = builder.https_only(true).tls_certs_only(roots);
        match identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        }
    });
    built.map_err(|error| unusable(&error))
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, Failure> {
    let mut pem = Zeroizing::new(Vec::new());
    for file in [certificate, key] {
        let read = std::fs::read(file).map(Zeroizing::new);
        let read = read.map_err(|error| {
            Failure::new(Exit::Config, format!("cannot be read: {error}")).at(file.display())
        })?;
        pem.extend_from_slice(&read);
        pem.push(b'\n');
    }
    Identity::from_pem(&pem).map_err(|error| {
        let message = format!("no certificate with its key: {}", error_chain(&error));
        Failure::new(Exit::Config, message).at(certificate.display())
    })
}

fn unusable(error: &reqwest::Error) -> Failure {
    let message = format!("the admin API cannot be called: {}", error_chain(error));
    Failure::new(Exit::Config, message)
}

async fn body_of(response: Response) -> Result<Vec<u8>, Failure> {
    let read = bounded_body(response, MAX_BYTES).await;
    let read = read.map_err(|error| {
        let message = format!("no answer: {}", error_chain(&error));
        Failure::new(Exit::Unavailable, message)
    })?;
    read.map(|body| body.to_vec())
        .ok_or_else(|| Failure::new(Exit::Failed, "the response is too long"))
}

/// What the server says instead, each reason on its own line.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let Some(error) = answer.get("error").and_then(Value::as_str) else {
        let message = format!("the server answered {status}");
        return Failure::new(Exit::Unavailable, message);
    };
    let exit = match status {
        StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        _ => Exit::Refused,
    };
    Failure::new(exit, error)
}
