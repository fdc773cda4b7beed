//! step-ca: `/1.0/sign` with a one-time token of a JWK provisioner, whose template makes a CA.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::http::{HttpAnswer, HttpClient, HttpConfig, with_json};
use super::raw::{RawUpstream, required};
use super::secret::SecretSource;
use crate::clock::{Clock as _, SystemClock};
use crate::config_issue::ConfigIssues;

const SHOWN: usize = 1000;
const SIGN: &str = "1.0/sign";
const TOKEN_LIFE: i64 = 300;

/// `kind = "step-ca"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepCaConfig {
    http: HttpConfig,
    provisioner: String,
    key: SecretSource,
}

impl StepCaConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let provisioner = issues.collect(required(raw.provisioner.take(), "provisioner"));
        let key = SecretSource::from_raw("key", raw.key_file.take(), raw.key_env.take());
        let key = issues.collect(key);
        let parts = http.zip(provisioner).zip(key);
        issues.into_result(parts.map(|((http, provisioner), key)| Self {
            http,
            provisioner,
            key,
        }))
    }
}

#[derive(Debug)]
pub(super) struct StepCa(StepCaConfig);

/// A provisioner's key (RFC 7517), P-256.
struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

#[derive(Deserialize)]
struct Jwk<'a> {
    kid: String,
    x: &'a str,
    y: &'a str,
    d: &'a str,
}

impl StepCa {
    pub(super) fn new(config: StepCaConfig) -> Self {
        Self(config)
    }

    fn key(&self) -> Result<Key, Unreachable> {
        let source = &self.0.key;
        let text = source.read_text()?;
        let key = || {
            let jwk: Jwk = serde_json::from_str(text.expose_secret()).ok()?;
            let number = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new);
            let private = number(jwk.d)?;
            let public = [&[4][..], &number(jwk.x)?, &number(jwk.y)?].concat();
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public);
            Some(Key {
                id: jwk.kid,
                pair: pair.ok()?,
            })
        };
        // A reason could quote the key.
        key().ok_or_else(|| {
            Unreachable::new(format!(
                "{source} holds no private P-256 key as an unencrypted JWK with kid, x, y and d"
            ))
        })
    }

    /// Good for one request, soon.
    fn token(&self, subject: &str) -> Result<SecretString, Unreachable> {
        let key = self.key()?;
        let failed = |_| Unreachable::new("the token for step-ca cannot be signed");
        let random = SystemRandom::new();
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(failed)?;
        let now = SystemClock.now().secs();
        let header = json!({ "alg": "ES256", "kid": key.id, "typ": "JWT" });
        let claims = json!({
            "iss": self.0.provisioner,
            "aud": self.0.http.at(SIGN),
            "sub": subject,
            "sans": [],
            "jti": URL_SAFE_NO_PAD.encode(id),
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_LIFE,
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = key.pair.sign(&random, signed.as_bytes()).map_err(failed)?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Ok(SecretString::from(format!("{signed}.{signature}")))
    }

    async fn request(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let client = self.0.http.client().await?;
        // An answer without its root could not be used, and the next one would be another certificate.
        let roots = roots(&client).await?;
        let token = self.token(&request.common_name)?;
        let body = json!({
            "csr": request.csr_pem(),
            "ott": token.expose_secret(),
            "notAfter": format!("{}s", request.ttl.as_secs()),
        });
        let answer = client.send(with_json(client.post(SIGN), &body)).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => Ok(Answer::Issued(chain(&answer, &roots))),
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                let said = one_line(&said(&answer), SHOWN);
                Ok(Answer::Refused(match said.as_str() {
                    "" => format!("step-ca answered {} without a reason", answer.status),
                    said => said.to_owned(),
                }))
            }
            _ => Err(answer.unreachable(SIGN, &said(&answer))),
        }
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let client = self.0.http.client().await?;
        let roots = roots(&client).await?.len();
        let key = self.key()?;
        let answer = client
            .send(client.get("1.0/provisioners?limit=100"))
            .await?;
        let listed = parse(&answer).unwrap_or_default();
        let listed = listed.get("provisioners").and_then(Value::as_array);
        let Some(listed) = listed.filter(|_| answer.status.is_success()) else {
            return Err(answer.unreachable("1.0/provisioners", &said(&answer)));
        };
        let name = &self.0.provisioner;
        let text = |each: &Value, at: &str| each.pointer(at)?.as_str().map(str::to_owned);
        let is_ours = |each: &&Value| {
            text(each, "/name").as_ref() == Some(name)
                && text(each, "/key/kid") == Some(key.id.clone())
        };
        let Some(ours) = listed.iter().find(is_ours) else {
            return Err(Unreachable::new(format!(
                "it has no provisioner {name} with the key {}",
                one_line(&key.id, SHOWN)
            )));
        };
        let in_file = text(ours, "/options/x509/templateFile").is_some();
        let template = text(ours, "/options/x509/template").unwrap_or_default();
        // It may be in base64.
        let plain = STANDARD.decode(&template).unwrap_or(template.into_bytes());
        let makes_ca = String::from_utf8_lossy(&plain).contains("isCA");
        let template = match (makes_ca, in_file) {
            (true, _) => "its template makes a CA",
            (false, true) => "whether its template makes a CA is only seen by a request",
            (false, false) => {
                return Err(Unreachable::new(format!(
                    "its provisioner {name} has no template that makes a CA (isCA)"
                )));
            }
        };
        Ok(vec![
            format!("it answers, and has {roots} roots"),
            format!("its provisioner {name} has this key"),
            template.to_owned(),
        ])
    }
}

impl UpstreamCa for StepCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    /// It answers at once: what is pending is another CA's.
    fn poll<'a>(
        &'a self,
        _: &'a Submission,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        async { Ok(Answer::Forgotten) }.boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}

fn parse(answer: &HttpAnswer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

fn said(answer: &HttpAnswer) -> String {
    let body = parse(answer).unwrap_or_default();
    let message = body.get("message").and_then(Value::as_str);
    message.unwrap_or_default().to_owned()
}

fn texts(body: &Value, key: &str) -> Vec<String> {
    let listed = body.get(key).and_then(Value::as_array);
    let listed = listed.into_iter().flatten().filter_map(Value::as_str);
    let texts = listed.filter(|text| !text.is_empty());
    texts.map(str::to_owned).collect()
}

async fn roots(client: &HttpClient) -> Result<Vec<String>, Unreachable> {
    let answer = client.send(client.get("1.0/roots")).await?;
    let roots = texts(&parse(&answer).unwrap_or_default(), "crts");
    match answer.status.is_success() && !roots.is_empty() {
        true => Ok(roots),
        false => Err(answer.unreachable("1.0/roots", &said(&answer))),
    }
}

fn chain(answer: &HttpAnswer, roots: &[String]) -> Vec<u8> {
    let chain = texts(&parse(answer).unwrap_or_default(), "certChain");
    match chain.is_empty() {
        // What is there instead, such as a proxy's page, is named where it is read.
        true => answer.body.to_vec(),
        false => [chain.as_slice(), roots].concat().join("\n").into_bytes(),
    }
}
