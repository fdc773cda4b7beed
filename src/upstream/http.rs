//! HTTP to upstream CAs: its own roots, a bounded answer in a bounded time, no other host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use reqwest::{Certificate, Client, RequestBuilder, Url, redirect};
use zeroize::Zeroizing;

use super::answer::{Unreachable, one_line};
use super::raw::{RawUpstream, required};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::error_chain::error_chain;
use crate::x509::{MAX_FILE_BYTES, read_certificate_ders};

/// JSON quotes each line end of a certificate.
const MAX_ANSWER: usize = MAX_FILE_BYTES + MAX_FILE_BYTES / 4;
/// Of what a CA says about an error.
const SHOWN: usize = 500;

/// How a CA's server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpConfig {
    address: Url,
    /// The only trusted roots; the system's without it.
    ca_file: Option<PathBuf>,
    timeout: Duration,
}

/// What a server answered.
pub(super) struct HttpAnswer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
    headers: HeaderMap,
}

impl HttpConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let address = required(raw.address.take(), "address").and_then(|text| url(&text));
        let address = issues.collect(address);
        let ca_file = raw.ca_file.take();
        if let Some(file) = ca_file.as_ref().filter(|file| !file.is_absolute()) {
            let problem = format_args!("{} is not an absolute path", file.display());
            issues.push(ConfigIssue::new("ca_file", problem));
        }
        issues.into_result(address.map(|address| Self {
            address,
            ca_file,
            timeout,
        }))
    }

    /// A client with the roots as they are in the file now.
    pub(super) async fn client(&self) -> Result<HttpClient, Unreachable> {
        let mut builder = Client::builder()
            // A redirect would take the credential and the CSR to another server.
            .redirect(redirect::Policy::none())
            .timeout(self.timeout);
        if let Some(path) = &self.ca_file {
            builder = builder.tls_certs_only(roots(path).await?);
        }
        let client = builder.build().map_err(|error| self.failed(error))?;
        Ok(HttpClient {
            config: self.clone(),
            client,
        })
    }

    fn failed(&self, error: reqwest::Error) -> Unreachable {
        let why = error_chain(&error.without_url());
        Unreachable::new(format!("{}: {why}", self.address))
    }
}

fn url(text: &str) -> Result<Url, ConfigIssue> {
    let wrong = |why: &str| {
        let issue = ConfigIssue::new("address", why);
        issue.with_fix("write it as https://ca.example:8200")
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err(wrong("is not https; http is for this machine alone")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "holds a credential, which is shown wherever the configuration is",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or a fragment"));
    }
    Ok(url)
}

pub(super) struct HttpClient {
    config: HttpConfig,
    client: Client,
}

impl HttpClient {
    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.at(path))
    }

    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.at(path))
    }

    fn at(&self, path: &str) -> String {
        format!(
            "{}/{path}",
            self.config.address.as_str().trim_end_matches('/')
        )
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<HttpAnswer, Unreachable> {
        let failed = |error| self.config.failed(error);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            let address = &self.config.address;
            let text = format!("{address} answered {status}; redirects are not followed");
            return Err(Unreachable::new(text));
        }
        let headers = response.headers().clone();
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let address = &self.config.address;
                let text = format!("the answer of {address} is longer than {MAX_ANSWER} bytes");
                return Err(Unreachable::new(text));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpAnswer {
            status,
            body,
            headers,
        })
    }
}

pub(super) fn with_json(request: RequestBuilder, body: &serde_json::Value) -> RequestBuilder {
    request
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_string())
}

impl HttpAnswer {
    /// When the server wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        text.trim().parse().ok().map(Duration::from_secs)
    }

    /// An answer that says nothing about the request.
    pub(super) fn unreachable(&self, what: &str, said: &str) -> Unreachable {
        let said = match said {
            "" => String::new(),
            said => format!(": {}", one_line(said, SHOWN)),
        };
        Unreachable {
            reason: format!("{what} answered {}{said}", self.status),
            retry_after: self.retry_after(),
        }
    }
}

async fn roots(path: &Path) -> Result<Vec<Certificate>, Unreachable> {
    let failed = |why: String| {
        Unreachable::new(format!("cannot use the roots in {}: {why}", path.display()))
    };
    let file = tokio::fs::read(path).await;
    let file = file.map_err(|error| failed(error.to_string()))?;
    read_certificate_ders(&file)
        .map_err(|error| failed(error.to_string()))?
        .iter()
        .map(|der| Certificate::from_der(der).map_err(|error| failed(error_chain(&error))))
        .collect()
}
