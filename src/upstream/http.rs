//! HTTP to upstream CAs: its own roots, a client certificate, a bounded answer in a bounded time, no
//! other host.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Certificate, Client, Identity, RequestBuilder, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::answer::{Unreachable, one_line};
use super::raw::{RawUpstream, absolute, required};
use crate::clock::{Clock as _, SystemClock, UnixTime};
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
    identity: Option<IdentityFiles>,
    timeout: Duration,
}

/// What this server shows of itself in TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdentityFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// What a server answered.
pub(super) struct HttpAnswer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
    headers: HeaderMap,
}

impl HttpConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        Self::reached(raw, timeout, url)
    }

    /// Of a protocol whose messages are signed: it needs no TLS.
    pub(super) fn signed(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        Self::reached(raw, timeout, any_url)
    }

    fn reached(
        raw: &mut RawUpstream,
        timeout: Duration,
        url: impl FnOnce(&str) -> Result<Url, ConfigIssue>,
    ) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let address = required(raw.address.take(), "address").and_then(|text| url(&text));
        let address = issues.collect(address);
        let ca_file = issues.collect(absolute(raw.ca_file.take(), "ca_file"));
        let identity = issues.collect(IdentityFiles::from_raw(raw));
        let value = || {
            Some(Self {
                address: address?,
                ca_file: ca_file?,
                identity: identity?,
                timeout,
            })
        };
        issues.into_result(value())
    }

    /// What this server shows of itself in TLS.
    pub(super) fn identity(&self) -> Option<&IdentityFiles> {
        self.identity.as_ref()
    }

    /// Whether this server shows a certificate in TLS.
    pub(super) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// Another service, with the same roots and bounds, which sees no client certificate.
    pub(super) fn elsewhere(&self, address: &str) -> Result<Self, Unreachable> {
        let address = any_url(address);
        let address = address.map_err(|issue| Unreachable::new(issue.to_string()))?;
        Ok(Self {
            address,
            ca_file: self.ca_file.clone(),
            identity: None,
            timeout: self.timeout,
        })
    }

    /// The whole URL.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.address.as_str().trim_end_matches('/'))
    }

    /// A client with the roots, the certificate and the key as they are in their files now.
    pub(super) async fn client(&self) -> Result<HttpClient, Unreachable> {
        let mut builder = Client::builder()
            // A redirect would take the credential and the CSR to another server.
            .redirect(redirect::Policy::none())
            .timeout(self.timeout);
        if let Some(path) = &self.ca_file {
            builder = builder.tls_certs_only(roots(path).await?);
        }
        if let Some(files) = &self.identity {
            builder = builder.identity(files.read().await?);
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

impl IdentityFiles {
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    pub(super) fn key(&self) -> &Path {
        &self.key
    }

    fn from_raw(raw: &mut RawUpstream) -> Result<Option<Self>, ConfigIssue> {
        let (names, keys) = ("client_certificate_file", "client_key_file");
        let certificate = absolute(raw.client_certificate_file.take(), names)?;
        let key = absolute(raw.client_key_file.take(), keys)?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(ConfigIssue::new(keys, "is missing beside its certificate")),
            (None, Some(_)) => Err(ConfigIssue::new(names, "is missing beside its key")),
        }
    }

    async fn read(&self) -> Result<Identity, Unreachable> {
        let mut pem = Zeroizing::new(Vec::new());
        for path in [&self.certificate, &self.key] {
            let file = tokio::fs::read(path).await.map(Zeroizing::new);
            let file = file.map_err(|error| {
                Unreachable::new(format!("cannot read {}: {error}", path.display()))
            })?;
            pem.extend_from_slice(&file);
            pem.push(b'\n');
        }
        // Its reason could quote the file.
        Identity::from_pem(&pem).map_err(|_| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            Unreachable::new(format!(
                "cannot use the client certificate in {certificate} with the key in {key}: both must \
                 be PEM, and the key not encrypted"
            ))
        })
    }
}

fn wrong(why: &str) -> ConfigIssue {
    let issue = ConfigIssue::new("address", why);
    issue.with_fix("write it as https://ca.example:8200")
}

fn url(text: &str) -> Result<Url, ConfigIssue> {
    let url = any_url(text)?;
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "http" if is_loopback => Ok(url),
        "https" => Ok(url),
        _ => Err(wrong("is not https; http is for this machine alone")),
    }
}

fn any_url(text: &str) -> Result<Url, ConfigIssue> {
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(wrong("is neither https nor http"));
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
        self.client.get(self.config.at(path))
    }

    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.config.at(path))
    }

    pub(super) fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(self.config.at(path))
    }

    /// Of the URL of the configuration, as it is.
    pub(super) fn get_address(&self) -> RequestBuilder {
        self.client.get(self.config.address.clone())
    }

    /// To the URL of the configuration, as it is.
    pub(super) fn post_to_address(&self) -> RequestBuilder {
        self.client.post(self.config.address.clone())
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

/// A form's fields, encoded.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(fields);
    }
    let query = url.as_ref().and_then(Url::query);
    query.unwrap_or_default().to_owned()
}

pub(super) fn with_form(request: RequestBuilder, form: String) -> RequestBuilder {
    request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form)
}

/// HTTP's Basic authentication.
pub(super) fn with_basic(
    request: RequestBuilder,
    username: &str,
    password: &SecretString,
) -> Result<RequestBuilder, Unreachable> {
    let both = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes())));
    with_secret(request, AUTHORIZATION, &value)
}

/// A header whose value is a credential.
pub(super) fn with_secret(
    request: RequestBuilder,
    name: HeaderName,
    value: &str,
) -> Result<RequestBuilder, Unreachable> {
    let value = HeaderValue::from_str(value);
    let mut value = value.map_err(|_| {
        Unreachable::new(format!(
            "the credential for the header {name} holds what no HTTP header can"
        ))
    })?;
    value.set_sensitive(true);
    Ok(request.header(name, value))
}

impl HttpAnswer {
    /// Whether the body is said to be of this type.
    pub(super) fn is(&self, media_type: &str) -> bool {
        let given = self.headers.get(CONTENT_TYPE);
        let given = given
            .and_then(|given| given.to_str().ok())
            .unwrap_or_default();
        let given = given.split(';').next().unwrap_or_default();
        given.trim().eq_ignore_ascii_case(media_type)
    }

    /// When the server wants to be asked again: in so many seconds, or at a time by its own clock.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = self.headers.get(DATE).and_then(|date| date.to_str().ok());
        let now = date.and_then(http_date);
        Some(http_date(text)?.since(now.unwrap_or_else(|| SystemClock.now())))
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

fn http_date(text: &str) -> Option<UnixTime> {
    let at = httpdate::parse_http_date(text).ok()?;
    let at = at.duration_since(UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(at).ok().map(UnixTime::from_secs)
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
