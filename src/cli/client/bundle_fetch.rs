//! `bundle fetch`: the first trust bundle, when there is nothing yet to verify a server with.
//!
//! The fingerprint came by another way and is all that is trusted. The first download only serves
//! to find the certificate that has it; whoever sits in between could have added others. So the
//! bundle is downloaded again over TLS that is verified with that one certificate, and only the
//! second answer is kept.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url, redirect};
use serde_json::json;

use crate::cli::failure::{Exit, Failure};
use crate::cli::files::{self, Content};
use crate::cli::format::{count, fingerprint};
use crate::cli::open::block_on;
use crate::cli::output::{self, FormatArg};
use crate::error_chain::error_chain;
use crate::x509::{Certificate, parse_pem_chain};

const MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct FetchArgs {
    /// The download, such as https://HOST:8443/v1/trust-bundles/cluster.local
    url: Url,
    /// SHA-256 of a trust anchor in the bundle, got from its operator by another way.
    #[arg(long, value_name = "sha256:HEX")]
    fingerprint: Fingerprint,
    /// Where the bundle goes, PEM.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there.
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
        let what = format!("`{}` is no download of a trust bundle", args.url);
        return Err(Failure::new(Exit::Usage, what)
            .next("write https://HOST:PORT/v1/trust-bundles/TRUST_DOMAIN"));
    }
    let bundle = block_on(fetch(&args.url, &args.fingerprint))??;
    let pem: String = bundle.iter().map(Certificate::to_pem).collect();
    files::write(&args.out, Content::Public(pem.as_bytes()), args.force)?;
    if args.format.is_json() {
        let prints: Vec<_> = bundle.iter().map(fingerprint).collect();
        return output::json(&json!({ "file": args.out, "anchors": prints }));
    }
    output::line(&format!(
        "{}: {}",
        args.out.display(),
        count(bundle.len(), "trust anchor")
    ))
}

async fn fetch(url: &Url, wanted: &Fingerprint) -> Result<Vec<Certificate>, Failure> {
    let unverified = client(|builder| builder.tls_danger_accept_invalid_certs(true), url)?;
    let anchor = find(&download(&unverified, url).await?, wanted, url)?;
    let only = reqwest::Certificate::from_der(anchor.der()).map_err(|e| failed(&e, url))?;
    let verified = client(|builder| builder.tls_certs_only([only]), url)?;
    let bundle = download(&verified, url).await?;
    find(&bundle, wanted, url)?;
    Ok(bundle)
}

/// A client that follows no redirect, uses no proxy and talks TLS only.
fn client(tls: impl FnOnce(ClientBuilder) -> ClientBuilder, url: &Url) -> Result<Client, Failure> {
    let builder = Client::builder()
        .https_only(true)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(Duration::from_secs(30));
    tls(builder).build().map_err(|error| failed(&error, url))
}

async fn download(client: &Client, url: &Url) -> Result<Vec<Certificate>, Failure> {
    let request = client
        .get(url.clone())
        .header("accept", "application/x-pem-file");
    let mut answer = request.send().await.map_err(|error| failed(&error, url))?;
    if !answer.status().is_success() {
        let what = format!("the server answered {}", answer.status());
        return Err(Failure::new(Exit::Refused, what).at(url.as_str()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error, url))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            let what = "the answer is longer than 1 MiB: that is no trust bundle";
            return Err(Failure::new(Exit::Failed, what).at(url.as_str()));
        }
    }
    parse_pem_chain(&body).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("the answer is no trust bundle in PEM: {error}"),
        )
        .at(url.as_str())
    })
}

fn find(bundle: &[Certificate], wanted: &Fingerprint, url: &Url) -> Result<Certificate, Failure> {
    bundle.iter().find(|anchor| fingerprint(anchor) == wanted.0).cloned().ok_or_else(|| {
        let got: Vec<_> = bundle.iter().map(|a| format!("sha256:{}", fingerprint(a))).collect();
        Failure::new(
            Exit::Refused,
            format!("no certificate there has the fingerprint sha256:{}: got {}", wanted.0, got.join(", ")),
        )
        .at(url.as_str())
        .next("nothing was kept; is it the right server, and is the fingerprint a trust anchor's?")
    })
}

fn failed(error: &reqwest::Error, url: &Url) -> Failure {
    let said = error_chain(error);
    if said.contains("invalid peer certificate") {
        let what = format!(
            "the server's own certificate is not from the trust anchor with this fingerprint: {said}"
        );
        return Failure::new(Exit::Refused, what)
            .at(url.as_str())
            .next("nothing was kept");
    }
    Failure::new(Exit::Unavailable, format!("no answer: {said}")).at(url.as_str())
}
