//! CFSSL: `authsign`, whose requests are authenticated by HMAC-SHA256 with a shared key.

use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::http::{HttpAnswer, HttpClient, HttpConfig, with_json};
use super::raw::{RawUpstream, absolute};
use super::secret::SecretSource;
use crate::config_issue::ConfigIssues;

const SHOWN: usize = 1000;
const SIGN: &str = "api/v1/cfssl/authsign";
const INFO: &str = "api/v1/cfssl/info";
/// What it says, with status 400, about a credential that is not its own.
const WRONG_KEY: &str = "invalid token";

/// `kind = "cfssl"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CfsslConfig {
    http: HttpConfig,
    key: SecretSource,
    profile: String,
    label: String,
    chain: Option<PathBuf>,
}

impl CfsslConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let key = SecretSource::from_raw("key", raw.key_file.take(), raw.key_env.take());
        let key = issues.collect(key);
        let chain = issues.collect(absolute(raw.chain_file.take(), "chain_file"));
        let parts = http.zip(key).zip(chain);
        let (profile, label) = (raw.profile.take(), raw.label.take());
        issues.into_result(parts.map(|((http, key), chain)| Self {
            http,
            key,
            profile: profile.unwrap_or_default(),
            label: label.unwrap_or_default(),
            chain,
        }))
    }
}

#[derive(Debug)]
pub(super) struct Cfssl(CfsslConfig);

impl Cfssl {
    pub(super) fn new(config: CfsslConfig) -> Self {
        Self(config)
    }

    fn key(&self) -> Result<hmac::Key, Unreachable> {
        let source = &self.0.key;
        let text = source.read()?;
        // Its reason could quote the key.
        let bytes = unhex(text.expose_secret()).ok_or_else(|| {
            Unreachable::new(format!(
                "{source} holds no key in hexadecimal, as CFSSL has it"
            ))
        })?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }

    async fn request(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let client = self.0.http.client().await?;
        // An answer without those above it could not be used, and the next one would be another.
        let (above, _) = self.above(&client).await?;
        let answer = client
            .send(self.signed(&client, &request.csr_pem())?)
            .await?;
        let said = said(&answer);
        match answer.status.as_u16() {
            200 => Ok(match certificate(&answer) {
                Some(certificate) => Answer::Issued((certificate + &above).into_bytes()),
                // What is there instead, such as a proxy's page, is named where it is read.
                None => Answer::Issued(answer.body.to_vec()),
            }),
            400 if said.contains(WRONG_KEY) => Err(answer.unreachable(SIGN, &said)),
            400 | 403 | 422 => Ok(Answer::Refused(match one_line(&said, SHOWN).as_str() {
                "" => format!("CFSSL answered {} without a reason", answer.status),
                said => said.to_owned(),
            })),
            _ => Err(answer.unreachable(SIGN, &said)),
        }
    }

    fn signed(&self, client: &HttpClient, csr: &str) -> Result<RequestBuilder, Unreachable> {
        let wanted = json!({
            "certificate_request": csr,
            "profile": self.0.profile,
            "label": self.0.label,
        });
        let wanted = wanted.to_string();
        let token = hmac::sign(&self.key()?, wanted.as_bytes());
        let body = json!({
            "token": STANDARD.encode(token.as_ref()),
            "request": STANDARD.encode(wanted),
        });
        Ok(with_json(client.post(SIGN), &body))
    }

    /// The CA's own certificate and what the operator has put above it, with what else the CA says.
    async fn above(&self, client: &HttpClient) -> Result<(String, Value), Unreachable> {
        let body = json!({ "label": self.0.label, "profile": self.0.profile });
        let answer = client.send(with_json(client.post(INFO), &body)).await?;
        let Some(mut above) = certificate(&answer).filter(|_| answer.status.is_success()) else {
            return Err(answer.unreachable(INFO, &said(&answer)));
        };
        if let Some(path) = &self.0.chain {
            let file = tokio::fs::read_to_string(path).await;
            above += &file.map_err(|error| {
                Unreachable::new(format!("cannot read {}: {error}", path.display()))
            })?;
        }
        Ok((above, parse(&answer)))
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let client = self.0.http.client().await?;
        let (_, info) = self.above(&client).await?;
        // A request that is none: the credential is looked at first.
        let answer = client.send(self.signed(&client, "")?).await?;
        let said = said(&answer);
        if answer.status.as_u16() != 400 || said.contains(WRONG_KEY) {
            return Err(answer.unreachable(SIGN, &said));
        }
        let usages = info.pointer("/result/usages").and_then(Value::as_array);
        let mut usages = usages.into_iter().flatten().filter_map(Value::as_str);
        if !usages.any(|usage| usage == "cert sign") {
            let problem = format!(
                "its profile {:?} is not for CAs: no \"cert sign\"",
                self.0.profile
            );
            return Err(Unreachable::new(problem));
        }
        Ok(vec![
            "it answers, and gives its certificate".to_owned(),
            "it accepts the key".to_owned(),
            format!("the profile {:?} may sign certificates", self.0.profile),
        ])
    }
}

impl UpstreamCa for Cfssl {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}

fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        }
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

fn parse(answer: &HttpAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn certificate(answer: &HttpAnswer) -> Option<String> {
    let body = parse(answer);
    let text = body.pointer("/result/certificate")?.as_str()?;
    (!text.is_empty()).then(|| format!("{text}\n"))
}

fn said(answer: &HttpAnswer) -> String {
    let body = parse(answer);
    let errors = body.get("errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten();
    let texts = errors.filter_map(|error| error.get("message")?.as_str());
    texts.collect::<Vec<_>>().join("; ")
}
