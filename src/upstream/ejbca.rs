//! EJBCA by its REST interface for certificates: an enrolment with a PKCS#10 request, and its end once
//! an administrator has approved it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::http::{HttpAnswer, HttpConfig, with_json};
use super::raw::{RawUpstream, required};
use super::secret::SecretSource;
use crate::config_issue::ConfigIssues;

const SHOWN: usize = 1000;

/// `kind = "ejbca"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EjbcaConfig {
    http: HttpConfig,
    authority: String,
    certificate_profile: String,
    end_entity_profile: String,
    /// The end entity; one for each trust domain without it.
    username: Option<String>,
    /// The end entity's enrolment code.
    password: SecretSource,
}

impl EjbcaConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let authority = required(raw.certificate_authority.take(), "certificate_authority");
        let authority = issues.collect(authority);
        let certificate_profile = required(raw.certificate_profile.take(), "certificate_profile");
        let certificate_profile = issues.collect(certificate_profile);
        let end_entity_profile = required(raw.end_entity_profile.take(), "end_entity_profile");
        let end_entity_profile = issues.collect(end_entity_profile);
        let password = SecretSource::from_raw(
            "password",
            raw.password_file.take(),
            raw.password_env.take(),
        );
        let password = issues.collect(password);
        let username = raw.username.take();
        let value = || {
            Some(Self {
                http: http?,
                authority: authority?,
                certificate_profile: certificate_profile?,
                end_entity_profile: end_entity_profile?,
                username,
                password: password?,
            })
        };
        issues.into_result(value())
    }
}

#[derive(Debug)]
pub(super) struct EjbcaCa(EjbcaConfig);

/// What an answer holds, of every call here.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Body {
    certificate: Option<String>,
    certificate_chain: Option<Vec<String>>,
    error_message: Option<String>,
}

impl EjbcaCa {
    pub(super) fn new(config: EjbcaConfig) -> Self {
        Self(config)
    }

    fn username(&self, request: &Submission) -> String {
        let own = || format!("rootbridge-{}", request.trust_domain);
        self.0.username.clone().unwrap_or_else(own)
    }

    async fn enrol(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let config = &self.0;
        let body = json!({
            "certificate_request": request.csr_pem(),
            "certificate_authority_name": config.authority,
            "certificate_profile_name": config.certificate_profile,
            "end_entity_profile_name": config.end_entity_profile,
            "username": self.username(request),
            "password": config.password.read()?.expose_secret(),
            "include_chain": true,
            "response_format": "DER",
        });
        let answer = self.post("v1/certificate/pkcs10enroll", &body).await?;
        decide(&answer, "pkcs10enroll", None)
    }

    async fn finalize(&self, id: &str) -> Result<Answer, Unreachable> {
        let password = self.0.password.read()?;
        let body = json!({ "response_format": "DER", "password": password.expose_secret() });
        let path = format!("v1/certificate/{id}/finalize");
        let answer = self.post(&path, &body).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Answer::Forgotten),
            _ => decide(&answer, "finalize", Some(id)),
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<HttpAnswer, Unreachable> {
        let client = self.0.http.client().await?;
        client.send(with_json(client.post(path), body)).await
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let client = self.0.http.client().await?;
        let answer = client.send(client.get("v1/certificate/status")).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unreachable("v1/certificate/status", &said(&answer)));
        }
        let answer = client.send(client.get("v1/ca")).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unreachable("v1/ca", &said(&answer)));
        }
        let known: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let known = known
            .get("certificate_authorities")
            .and_then(Value::as_array);
        let name = &self.0.authority;
        let is_there = |each: &Value| each.get("name").and_then(Value::as_str) == Some(name);
        if !known.is_some_and(|known| known.iter().any(is_there)) {
            let text = format!("this server's certificate sees no CA that is called {name}");
            return Err(Unreachable::new(text));
        }
        Ok(vec![
            "it answers, and accepts the client certificate".to_owned(),
            format!(
                "the CA {name} is there; whether the profiles allow it is only seen by a request"
            ),
        ])
    }
}

fn decide(answer: &HttpAnswer, what: &str, known: Option<&str>) -> Result<Answer, Unreachable> {
    let body = parse(answer);
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => Ok(Answer::Issued(match body {
            Some(body) if body.certificate.is_some() => certificates(body),
            // The reader names the format of what is there instead, such as a proxy's page.
            _ => answer.body.to_vec(),
        })),
        StatusCode::ACCEPTED => {
            let said = said(answer);
            let reference = known.or_else(|| number(&said));
            let reference = reference.ok_or_else(|| {
                answer.unreachable(what, &format!("without the number of the request: {said}"))
            })?;
            Ok(Answer::Pending {
                reference: reference.to_owned(),
                retry_after: answer.retry_after(),
            })
        }
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if body.is_some() => {
            let said = one_line(&said(answer), SHOWN);
            Ok(Answer::Refused(match said.as_str() {
                "" => format!("{what} answered {} without a reason", answer.status),
                said => said.to_owned(),
            }))
        }
        _ => Err(answer.unreachable(what, &said(answer))),
    }
}

impl UpstreamCa for EjbcaCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.enrol(request).boxed()
    }

    fn poll<'a>(
        &'a self,
        _: &'a Submission,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        async move {
            // Of another kind of upstream, under the same name before.
            match reference.bytes().all(|byte| byte.is_ascii_digit()) {
                true => self.finalize(reference).await,
                false => Ok(Answer::Forgotten),
            }
        }
        .boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}

fn parse(answer: &HttpAnswer) -> Option<Body> {
    serde_json::from_slice(&answer.body).ok()
}

fn said(answer: &HttpAnswer) -> String {
    let body = parse(answer).unwrap_or_default();
    body.error_message.unwrap_or_default()
}

/// The last number in a text, which names the request.
fn number(text: &str) -> Option<&str> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    numbers.rfind(|each| (1..=20).contains(&each.len()))
}

/// Base64 of DER each, or of PEM.
fn certificates(body: Body) -> Vec<u8> {
    let chain = body.certificate_chain.unwrap_or_default();
    let all = body.certificate.into_iter().chain(chain);
    let pem = all.map(|text| match STANDARD.decode(text.as_bytes()) {
        Ok(decoded) if decoded.starts_with(b"-----") => {
            String::from_utf8_lossy(&decoded).into_owned()
        }
        _ if text.trim_start().starts_with("-----") => text,
        _ => format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
    });
    pem.collect::<Vec<_>>().join("\n").into_bytes()
}
