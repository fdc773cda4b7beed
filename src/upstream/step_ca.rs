//! step-ca: `/1.0/sign` with a one-time token of a JWK or an X5C provisioner, whose template makes a CA.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::StatusCode;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::http::{HttpAnswer, HttpClient, HttpConfig, IdentityFiles, with_json};
use super::raw::{RawUpstream, required};
use super::secret::SecretSource;
use crate::clock::{Clock as _, SystemClock};
use crate::config_issue::ConfigIssues;
use crate::x509::read_certificate_ders;

const SHOWN: usize = 1000;
const SIGN: &str = "1.0/sign";
const TOKEN_LIFE: i64 = 300;

/// `kind = "step-ca"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepCaConfig {
    http: HttpConfig,
    provisioner: String,
    key: KeySource,
}

/// Whose key signs tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeySource {
    Jwk(SecretSource),
    /// The client certificate's.
    X5c(IdentityFiles),
}

impl StepCaConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let provisioner = issues.collect(required(raw.provisioner.take(), "provisioner"));
        let (file, env) = (raw.key_file.take(), raw.key_env.take());
        let identity = http.as_ref().and_then(HttpConfig::identity);
        let key = match identity.filter(|_| file.is_none() && env.is_none()) {
            Some(files) => Ok(KeySource::X5c(files.clone())),
            None => SecretSource::from_raw("key", file, env).map(KeySource::Jwk),
        };
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

/// A provisioner's key, P-256.
struct Key {
    /// What a token says of it: `kid` (RFC 7517), or `x5c` (RFC 7515 §4.1.6).
    name: (&'static str, Value),
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

    async fn key(&self) -> Result<Key, Unreachable> {
        match &self.0.key {
            KeySource::Jwk(source) => jwk(source),
            KeySource::X5c(files) => x5c(files).await,
        }
    }

    /// Good for one request, soon.
    async fn token(&self, subject: &str) -> Result<SecretString, Unreachable> {
        let key = self.key().await?;
        let failed = |_| Unreachable::new("the token for step-ca cannot be signed");
        let random = SystemRandom::new();
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(failed)?;
        let now = SystemClock.now().secs();
        let (name, value) = key.name;
        let header = json!({ "alg": "ES256", name: value, "typ": "JWT" });
        let mut audience = self.0.http.at(SIGN);
        if let KeySource::X5c(_) = self.0.key {
            // The key's name says nothing of the provisioner.
            audience = format!("{audience}#x5c/{}", self.0.provisioner);
        }
        let claims = json!({
            "iss": self.0.provisioner,
            "aud": audience,
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
        let token = self.token(&request.common_name).await?;
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
        let key = self.key().await?;
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
            let has_key = match &self.0.key {
                KeySource::Jwk(_) => each.pointer("/key/kid") == Some(&key.name.1),
                KeySource::X5c(_) => text(each, "/type").as_deref() == Some("X5C"),
            };
            text(each, "/name").as_ref() == Some(name) && has_key
        };
        let Some(ours) = listed.iter().find(is_ours) else {
            let with = match key.name.1.as_str() {
                Some(id) => format!("with the key {}", one_line(id, SHOWN)),
                None => "of type X5C".to_owned(),
            };
            let text = format!("it has no provisioner {name} {with}");
            return Err(Unreachable::new(text));
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
            match &self.0.key {
                KeySource::Jwk(_) => format!("its provisioner {name} has this key"),
                KeySource::X5c(_) => {
                    format!(
                        "its provisioner {name} is for certificates; whether for this one is only seen by a request"
                    )
                }
            },
            template.to_owned(),
        ])
    }
}

impl UpstreamCa for StepCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}

fn jwk(source: &SecretSource) -> Result<Key, Unreachable> {
    let text = source.read_text()?;
    let key = || {
        let jwk: Jwk = serde_json::from_str(text.expose_secret()).ok()?;
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new);
        let private = number(jwk.d)?;
        let public = [&[4][..], &number(jwk.x)?, &number(jwk.y)?].concat();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public);
        Some(Key {
            name: ("kid", Value::String(jwk.kid)),
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

async fn x5c(files: &IdentityFiles) -> Result<Key, Unreachable> {
    let failed = |path: &Path, why: &dyn std::fmt::Display| {
        Unreachable::new(format!("cannot use {}: {why}", path.display()))
    };
    let (certificate, key) = (files.certificate(), files.key());
    let chain = tokio::fs::read(certificate).await;
    let chain = chain.map_err(|error| failed(certificate, &error))?;
    let chain = read_certificate_ders(&chain).map_err(|error| failed(certificate, &error))?;
    let chain = chain.iter().map(|der| Value::String(STANDARD.encode(der)));
    let file = tokio::fs::read(key).await.map(Zeroizing::new);
    let file = file.map_err(|error| failed(key, &error))?;
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = PrivateKeyDer::from_pem_slice(&file).ok();
    let pair =
        pair.and_then(|der| EcdsaKeyPair::from_private_key_der(algorithm, der.secret_der()).ok());
    Ok(Key {
        name: ("x5c", Value::Array(chain.collect())),
        // A reason could quote the key.
        pair: pair
            .ok_or_else(|| failed(key, &"it holds no private P-256 key in PEM, not encrypted"))?,
    })
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
