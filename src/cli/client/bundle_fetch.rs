//! `bundle fetch`: the first trust bundle, before there is one to verify a server with.
//!
//! Only the fingerprint, received through another channel, is trusted. The first download is not
//! verified, and serves to find the certificate with that fingerprint: a machine in the middle may
//! have added others. The bundle is then downloaded again over TLS verified with that certificate
//! alone, and only this second response is saved.

use std::path::PathBuf;
use std::str::FromStr;

use reqwest::{Client, Url};
use serde_json::json;

use super::connect::{bounded_body, http_client};
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::{self, Content};
use crate::cli::format::{count, fingerprint, joined, pem};
use crate::cli::open::block_on;
use crate::cli::output::{self, FormatArg};
use crate::error_chain::error_chain;
use crate::x509::{Certificate, MAX_FILE_BYTES, read_certificates};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct FetchArgs {
    /// The bundle's URL, such as https://HOST:8443/v1/trust-bundles/cluster.local
    url: Url,
    /// SHA-256 of a trust anchor in the bundle, from the server's operator through another channel.
    #[arg(long, value_name = "sha256:HEX")]
    fingerprint: Fingerprint,
    /// The file for the bundle, PEM.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// SHA-256 of a certificate, as `bundle show` and openssl print it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint(String);

impl FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        let lower = lower.strip_prefix("sha256:").unwrap_or(&lower);
        let digits: String = lower.chars().filter(|c| *c != ':').collect();
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(digits))
        } else {
            Err("expected sha256: and 64 hexadecimal digits")
        }
    }
}

pub(super) fn run(args: &FetchArgs) -> Result<(), Failure> {
    if args.url.scheme() != "https" || args.url.path().len() < 2 {
        let message = format!("`{}` is not the URL of a trust bundle", args.url);
        return Err(Failure::new(Exit::Usage, message)
            .next("write https://HOST:PORT/v1/trust-bundles/TRUST_DOMAIN"));
    }
    let bundle =
        block_on(fetch(&args.url, &args.fingerprint))?.map_err(|failure| failure.at(&args.url))?;
    files::write(
        &args.out,
        Content::Public(pem(&bundle).as_bytes()),
        args.force,
    )?;
    if args.format.is_json() {
        let anchors: Vec<_> = bundle.iter().map(fingerprint).collect();
        return output::json(&json!({ "file": args.out, "anchors": anchors }));
    }
    let anchors = count(bundle.len(), "trust anchor");
    output::line(format!("{}: {anchors}", args.out.display()))
}

async fn fetch(url: &Url, wanted: &Fingerprint) -> Result<Vec<Certificate>, Failure> {
    let unverified = http_client(|builder| {
        builder
            .https_only(true)
            .tls_danger_accept_invalid_certs(true)
    })
    .map_err(request_failure)?;
    let anchor = find(&download(&unverified, url).await?, wanted)?;
    let anchor = reqwest::Certificate::from_der(anchor.der()).map_err(request_failure)?;
    let verified = http_client(|builder| builder.https_only(true).tls_certs_only([anchor]))
        .map_err(request_failure)?;
    let bundle = download(&verified, url).await?;
    find(&bundle, wanted)?;
    Ok(bundle)
}

async fn download(client: &Client, url: &Url) -> Result<Vec<Certificate>, Failure> {
    let request = client
        .get(url.clone())
        .header("accept", "application/x-pem-file");
    let response = request.send().await.map_err(request_failure)?;
    if !response.status().is_success() {
        let message = format!("the server answered {}", response.status());
        return Err(Failure::new(Exit::Refused, message));
    }
    let body = bounded_body(response, MAX_FILE_BYTES)
        .await
        .map_err(request_failure)?
        .ok_or_else(|| {
            let message = "the response is longer than 2 MiB: it is no trust bundle";
            Failure::new(Exit::Failed, message)
        })?;
    read_certificates(&body).map_err(|error| {
        let message = format!("the response is no trust bundle: {error}");
        Failure::new(Exit::Failed, message)
    })
}

fn find(bundle: &[Certificate], wanted: &Fingerprint) -> Result<Certificate, Failure> {
    let found = bundle.iter().find(|anchor| fingerprint(anchor) == wanted.0);
    found.cloned().ok_or_else(|| {
        let got = bundle
            .iter()
            .map(|anchor| format!("sha256:{}", fingerprint(anchor)));
        let message = format!(
            "no certificate there has the fingerprint sha256:{}: got {}",
            wanted.0,
            joined(got, ", ")
        );
        Failure::new(Exit::Refused, message).next(
            "nothing was saved; is it the right server, and is the fingerprint a trust anchor's?",
        )
    })
}

fn request_failure(error: reqwest::Error) -> Failure {
    let error = error_chain(&error);
    if error.contains("invalid peer certificate") {
        let message = format!(
            "the server's certificate does not chain to the trust anchor with this fingerprint: \
             {error}"
        );
        return Failure::new(Exit::Refused, message).next("nothing was saved");
    }
    Failure::new(Exit::Unavailable, format!("no answer: {error}"))
}
