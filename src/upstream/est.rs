//! Enrollment over Secure Transport (RFC 7030): `simpleenroll` and `cacerts`, with a client certificate,
//! HTTP's Basic authentication or both.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use reqwest::RequestBuilder;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::http::{HttpAnswer, HttpClient, HttpConfig, with_basic};
use super::raw::RawUpstream;
use super::secret::SecretSource;
use crate::config_issue::{ConfigIssue, ConfigIssues};

const SHOWN: usize = 1000;
const ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// `kind = "est"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EstConfig {
    http: HttpConfig,
    basic: Option<(String, SecretSource)>,
    /// Of the URLs, with the label of one of several CAs.
    path: String,
}

impl EstConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let basic = issues.collect(basic(raw));
        let label = raw.label.take();
        if let Some(label) = &label {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            issues.require(
                !label.is_empty() && label.chars().all(is_plain) && !label.starts_with('.'),
                "label",
                "is no label of letters, digits, - _ and .",
            );
        }
        if let Some((http, None)) = http.as_ref().zip(basic.as_ref()) {
            issues.require(
                http.has_identity(),
                "client_certificate_file",
                "is missing, and there is no username: the CA knows this server by one of them",
            );
        }
        issues.into_result(http.zip(basic).map(|(http, basic)| Self {
            http,
            basic,
            path: match label {
                Some(label) => format!(".well-known/est/{label}"),
                None => ".well-known/est".to_owned(),
            },
        }))
    }
}

fn basic(raw: &mut RawUpstream) -> Result<Option<(String, SecretSource)>, ConfigIssue> {
    let (file, env) = (raw.password_file.take(), raw.password_env.take());
    match raw.username.take() {
        Some(name) => Ok(Some((name, SecretSource::from_raw("password", file, env)?))),
        None if file.is_some() || env.is_some() => Err(ConfigIssue::new(
            "username",
            "is missing beside its password",
        )),
        None => Ok(None),
    }
}

#[derive(Debug)]
pub(super) struct Est(EstConfig);

impl Est {
    pub(super) fn new(config: EstConfig) -> Self {
        Self(config)
    }

    /// A request that the server decides later is asked for by sending it again (RFC 7030 §4.2.3).
    async fn request(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let client = self.0.http.client().await?;
        // An answer without those above it could not be used, and the next one would be another.
        let above = self.cacerts(&client).await?;
        let path = format!("{}/simpleenroll", self.0.path);
        let call = self.call(client.post(&path))?;
        let call = call
            .header(CONTENT_TYPE, "application/pkcs10")
            .header(ENCODING, "base64")
            .body(STANDARD.encode(&request.csr));
        let answer = client.send(call).await?;
        let said = String::from_utf8_lossy(&answer.body);
        match answer.status.as_u16() {
            200 => Ok(Answer::Issued(match decoded(&answer) {
                Some(certificate) => [certificate, above].concat(),
                // What is there instead, such as a proxy's page, is named where it is read.
                None => answer.body.to_vec(),
            })),
            202 => Ok(Answer::Pending {
                reference: request.id.clone(),
                retry_after: answer.retry_after(),
            }),
            400 | 403 | 409 | 422 => Ok(Answer::Refused(match one_line(&said, SHOWN).as_str() {
                "" => format!("the server answered {} without a reason", answer.status),
                said => said.to_owned(),
            })),
            _ => Err(answer.unreachable(&path, &said)),
        }
    }

    async fn cacerts(&self, client: &HttpClient) -> Result<Vec<u8>, Unreachable> {
        let path = format!("{}/cacerts", self.0.path);
        let answer = client.send(client.get(&path)).await?;
        match decoded(&answer).filter(|_| answer.status.is_success()) {
            Some(certificates) => Ok(certificates),
            None => Err(answer.unreachable(&path, &String::from_utf8_lossy(&answer.body))),
        }
    }

    fn call(&self, request: RequestBuilder) -> Result<RequestBuilder, Unreachable> {
        match &self.0.basic {
            Some((name, password)) => with_basic(request, name, &password.read()?),
            None => Ok(request),
        }
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let client = self.0.http.client().await?;
        self.cacerts(&client).await?;
        let path = format!("{}/csrattrs", self.0.path);
        let answer = client.send(self.call(client.get(&path))?).await?;
        match answer.status.as_u16() {
            200 | 204 | 404 | 501 => Ok(vec![
                "it answers, and gives its certificates".to_owned(),
                "it did not refuse the credential; whether it signs CAs is only seen by a request"
                    .to_owned(),
            ]),
            _ => Err(answer.unreachable(&path, &String::from_utf8_lossy(&answer.body))),
        }
    }
}

impl UpstreamCa for Est {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    fn poll<'a>(
        &'a self,
        request: &'a Submission,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}

/// PKCS#7 in base64 in lines, as the standard has it, or plain.
fn decoded(answer: &HttpAnswer) -> Option<Vec<u8>> {
    const SEQUENCE: u8 = 0x30;
    if answer.body.first() == Some(&SEQUENCE) {
        return Some(answer.body.to_vec());
    }
    let text: Vec<u8> = answer
        .body
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    STANDARD.decode(text).ok().filter(|der| !der.is_empty())
}
