//! Calls to a server's admin port.

use std::net::IpAddr;
use std::path::PathBuf;

use http::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::config::{CredentialArgs, client_credential};
use super::connect::{bounded_body, http_client, unusable_response};
use crate::cli::failure::{Exit, Failure};
use crate::error_chain::error_chain;

/// Longer than the status of ten thousand targets.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// The server's admin port.
    #[arg(
        long,
        value_name = "http://HOST:PORT",
        env = "ROOTBRIDGE_ADMIN",
        default_value = "http://127.0.0.1:9901"
    )]
    admin: Url,
    /// A client file with credential_file or token_file. Default: that of `rootbridge dev`.
    #[arg(long, value_name = "FILE", env = "ROOTBRIDGE_CLIENT")]
    client: Option<PathBuf>,
    #[command(flatten)]
    credential: CredentialArgs,
}

/// The admin port, and the credential for it.
#[derive(Debug)]
pub(super) struct AdminPort {
    url: Url,
    credential: SecretString,
}

impl AdminPort {
    pub(super) fn new(args: AdminArgs) -> Result<Self, Failure> {
        let host = args.admin.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_local = address.map_or(host == "localhost", |ip| ip.is_loopback());
        // The admin port has no TLS, and accepts credentials on the loopback address alone.
        if args.admin.scheme() != "http" || !is_local {
            let message = format!(
                "the credential would cross the network in the clear to {}",
                args.admin
            );
            return Err(Failure::new(Exit::Config, message)
                .next("run it on the server's host, or forward the port: http://127.0.0.1:9901"));
        }
        Ok(Self {
            credential: client_credential(args.client, &args.credential)?,
            url: args.admin,
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
        let client = http_client(|builder| builder).map_err(unavailable)?;
        let request = match body {
            Some(body) => client
                .post(url)
                .header(CONTENT_TYPE, "application/json")
                .body(serde_json::to_vec(body).map_err(unusable_response)?),
            None => client.get(url),
        };
        let request = request.bearer_auth(self.credential.expose_secret());
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(
                Failure::new(Exit::Refused, "the credential was not accepted")
                    .next("check --credential-file, and `admin.operators` of the server"),
            );
        }
        let body = body_of(response).await?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(unusable_response),
            other => Err(refusal(other, &body)),
        }
    }
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
