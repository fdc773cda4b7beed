//! `bundle status`: the state of `[bundle_targets.*]`, from the admin port.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::config::{CredentialArgs, client_credential};
use super::connect::{bounded_body, http_client, unusable_response};
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::block_on;
use crate::cli::output::{self, Cell, FormatArg};
use crate::error_chain::error_chain;

/// Longer than the status of ten thousand targets.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StatusArgs {
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
    #[command(flatten)]
    format: FormatArg,
}

/// The part of `/v1/status` that is shown; each target as the server reports it, for programs.
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    bundle_targets: Vec<Value>,
}

pub(super) fn run(args: StatusArgs) -> Result<(), Failure> {
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
    let credential = client_credential(args.client, &args.credential)?;
    let status = block_on(request_status(&args.admin, &credential))?
        .map_err(|failure| failure.at(&args.admin))?;
    if args.format.is_json() {
        return output::json(&status.bundle_targets);
    }
    output::table(
        status.bundle_targets.iter().map(row),
        "no bundle targets: add [bundle_targets.NAME] to the configuration",
    )?;
    for target in &status.bundle_targets {
        let error = ["/error", "/writer/why"]
            .iter()
            .find_map(|pointer| target.pointer(pointer)?.as_str());
        if let Some(error) = error {
            let (cluster, target) = (text(target, "/cluster"), text(target, "/target"));
            output::note(format!("{cluster} {target}: {error}"))?;
        }
    }
    Ok(())
}

fn row(target: &Value) -> [Cell; 11] {
    let writer = match text(target, "/writer/state").as_str() {
        "other" => text(target, "/writer/holder"),
        state => state.to_owned(),
    };
    [
        ("CLUSTER", text(target, "/cluster")),
        ("TARGET", text(target, "/target")),
        ("OBJECT", text(target, "/object")),
        ("WRITER", writer),
        ("DESIRED", text(target, "/wanted/sequence")),
        ("APPLIED", text(target, "/applied/sequence")),
        ("SINCE", text(target, "/applied_at")),
        ("UP TO DATE", text(target, "/in_step")),
        ("BEHIND", text(target, "/behind")),
        ("FAILING", text(target, "/failing")),
        ("CONTESTED", text(target, "/contested")),
    ]
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

async fn request_status(admin: &Url, credential: &SecretString) -> Result<Status, Failure> {
    let unavailable = |error: reqwest::Error| {
        Failure::new(
            Exit::Unavailable,
            format!("no answer: {}", error_chain(&error)),
        )
        .next("is the server running, and is this its `admin.address`?")
    };
    let url = admin.join("/v1/status").map_err(|error| {
        let message = format!("the admin port cannot be used: {error}");
        Failure::new(Exit::Config, message)
    })?;
    let client = http_client(|builder| builder).map_err(unavailable)?;
    let request = client.get(url).bearer_auth(credential.expose_secret());
    let response = request.send().await.map_err(unavailable)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err(
                Failure::new(Exit::Refused, "the credential was not accepted")
                    .next("check --credential-file, and `admin.operators` of the server"),
            );
        }
        other => {
            let message = format!("the server answered {other}");
            return Err(Failure::new(Exit::Unavailable, message));
        }
    }
    let body = bounded_body(response, MAX_BYTES)
        .await
        .map_err(unavailable)?
        .ok_or_else(|| Failure::new(Exit::Failed, "the response is too long"))?;
    serde_json::from_slice(&body).map_err(unusable_response)
}
