//! `bundle status`: what the admin port says of `[bundle_targets.*]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::config::{CredentialArgs, client_credential};
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::block_on;
use crate::cli::output::{self, FormatArg};
use crate::error_chain::error_chain;

/// The status of ten thousand targets is shorter.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StatusArgs {
    /// The admin port of the server.
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

/// The part of `/v1/status` that is shown; each target as the server said it, for programs.
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    bundle_targets: Vec<Value>,
}

pub(super) fn run(args: StatusArgs) -> Result<(), Failure> {
    let host = args.admin.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_near = address.map_or(host == "localhost", |ip| ip.is_loopback());
    // The admin port has no TLS, and so takes credentials on the loopback address alone.
    if args.admin.scheme() != "http" || !is_near {
        let what = format!(
            "the credential would cross the network in the clear to {}",
            args.admin
        );
        return Err(Failure::new(Exit::Config, what)
            .next("run it on the server's host, or forward the port: http://127.0.0.1:9901"));
    }
    let credential = client_credential(args.client, &args.credential)?;
    let status = block_on(request_status(&args.admin, &credential))??;
    if args.format.is_json() {
        return output::json(&status.bundle_targets);
    }
    let rows: Vec<_> = status.bundle_targets.iter().map(row).collect();
    output::table(
        &[
            "CLUSTER",
            "TARGET",
            "OBJECT",
            "WRITER",
            "WANTED",
            "APPLIED",
            "SINCE",
            "IN STEP",
            "BEHIND",
            "FAILING",
            "CONTESTED",
        ],
        &rows,
        "no bundle targets: add [bundle_targets.NAME] to the configuration",
    )?;
    for target in &status.bundle_targets {
        let said = |pointer: &str| target.pointer(pointer).and_then(Value::as_str);
        if let Some(why) = said("/error").or_else(|| said("/writer/why")) {
            let (cluster, target) = (text(target, "/cluster"), text(target, "/target"));
            output::note(&format!("{cluster} {target}: {why}"))?;
        }
    }
    Ok(())
}

fn row(target: &Value) -> Vec<String> {
    let writer = match text(target, "/writer/state").as_str() {
        "other" => text(target, "/writer/holder"),
        state => state.to_owned(),
    };
    [
        text(target, "/cluster"),
        text(target, "/target"),
        text(target, "/object"),
        writer,
    ]
    .into_iter()
    .chain(
        [
            "/wanted/sequence",
            "/applied/sequence",
            "/applied_at",
            "/in_step",
            "/behind",
            "/failing",
            "/contested",
        ]
        .map(|pointer| text(target, pointer)),
    )
    .collect()
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

async fn request_status(admin: &Url, credential: &SecretString) -> Result<Status, Failure> {
    let location = || admin.to_string();
    let unavailable = |error: reqwest::Error| {
        Failure::new(
            Exit::Unavailable,
            format!("no answer: {}", error_chain(&error)),
        )
        .at(location())
        .next("is the server running, and is this its `admin.address`?")
    };
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .map_err(unavailable)?;
    let url = admin.join("/v1/status").map_err(|error| {
        Failure::new(
            Exit::Config,
            format!("the admin port cannot be used: {error}"),
        )
        .at(location())
    })?;
    let request = client.get(url).bearer_auth(credential.expose_secret());
    let mut answer = request.send().await.map_err(unavailable)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err(
                Failure::new(Exit::Refused, "the credential was not accepted")
                    .at(location())
                    .next("check --credential-file, and `admin.operators` of the server"),
            );
        }
        other => {
            let what = format!("the server answered {other}");
            return Err(Failure::new(Exit::Unavailable, what).at(location()));
        }
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unavailable)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(Failure::new(Exit::Failed, "the answer is too long").at(location()));
        }
    }
    serde_json::from_slice(&body).map_err(|error| {
        Failure::new(Exit::Failed, format!("the answer cannot be used: {error}")).at(location())
    })
}
