//! The calls, made beforehand: each with a key, a CSR and a token of its own, encoded as it goes
//! over the wire.

use std::num::NonZeroUsize;
use std::thread;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use der::asn1::UintRef;
use der::{Decode as _, Sequence};
use http::HeaderValue;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value as ProtoValue};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use serde_json::{Value, json};

use super::place::{AUDIENCE, TOKEN_ISSUER, TRUST_DOMAIN, failed};
use super::prepare::Found;
use crate::cli::failure::Failure;
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::mesh::proto::istio::IstioCertificateRequest;
use crate::x509::Serial;

const KEY_ID: &str = "bench";
/// The share of the floor's own rate that calls are made for: more was never seen, and the window
/// ends with the last call if it comes to that.
const SHARE: f64 = 0.6;
const FEWEST: usize = 2_000;

/// One call.
#[derive(Debug)]
pub(super) struct Request {
    /// `authorization`.
    pub(super) token: HeaderValue,
    /// The message with gRPC's five octets before it.
    pub(super) message: Bytes,
}

impl Request {
    /// The message, as a server reads it.
    pub(super) fn asked(&self) -> Result<IstioCertificateRequest, String> {
        let message = self.message.get(5..).unwrap_or_default();
        IstioCertificateRequest::decode(message).map_err(|error| error.to_string())
    }
}

/// How many calls a run of `seconds` may need, the second of warming up included.
pub(super) fn wanted(found: &Found, seconds: u64) -> usize {
    let cores = u32::try_from(found.cores).unwrap_or(u32::MAX);
    let rate = f64::from(cores) / (found.floor_cpu_us() / 1e6) * SHARE;
    let seconds = u32::try_from(seconds + 1).unwrap_or(u32::MAX);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let wanted = (rate * f64::from(seconds)) as usize;
    wanted.max(FEWEST)
}

/// Makes `count` calls, on every core.
pub(super) fn make(issuer: &TokenIssuer, count: usize) -> Result<Vec<Request>, Failure> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let now = SystemClock.now();
    let share = |thread| (thread..count).step_by(threads);
    let made = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    share(thread)
                        .map(|number| request(issuer, number, now))
                        .collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended.collect::<Vec<_>>()
    });
    let mut all = Vec::with_capacity(count);
    for part in made {
        all.extend(part.map_err(|_| failed("a thread ended early"))??);
    }
    Ok(all)
}

fn request(issuer: &TokenIssuer, number: usize, now: UnixTime) -> Result<Request, Failure> {
    let workload = Workload::new(number);
    let token = issuer.sign(&workload.claims(now))?;
    let token =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|e| failed(e.to_string()))?;
    let asked = IstioCertificateRequest {
        csr: csr(&workload.spiffe_id()).map_err(|error| failed(error.to_string()))?,
        validity_duration: 86_400,
        metadata: Some(Struct {
            // Istio's agent always sends the field.
            fields: [(
                "CertSigner".to_owned(),
                ProtoValue {
                    kind: Some(Kind::StringValue(String::new())),
                },
            )]
            .into(),
        }),
    };
    let length = asked.encoded_len();
    let mut message = BytesMut::with_capacity(length + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    asked
        .encode(&mut message)
        .map_err(|e| failed(e.to_string()))?;
    Ok(Request {
        token,
        message: message.freeze(),
    })
}

fn csr(name: &str) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
    params.serialize_request(&key)?.pem()
}

/// A pod of a mesh of a thousand service accounts.
struct Workload {
    number: usize,
    namespace: String,
    account: String,
}

impl Workload {
    fn new(number: usize) -> Self {
        Self {
            number,
            namespace: format!("ns-{}", number % 50),
            account: format!("sa-{}", number % 1_000),
        }
    }

    fn spiffe_id(&self) -> String {
        format!(
            "spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}",
            self.namespace, self.account
        )
    }

    /// What Kubernetes puts into a projected token.
    fn claims(&self, now: UnixTime) -> Value {
        let Self {
            number,
            namespace,
            account,
        } = self;
        let uid = |kind: &str| format!("0f8fad5b-d9cb-469f-{kind}-{number:012x}");
        json!({
            "aud": [AUDIENCE],
            "exp": now.secs() + 43_200,
            "iat": now.secs() - 60,
            "iss": TOKEN_ISSUER,
            "jti": Serial::new(now).to_string(),
            "kubernetes.io": {
                "namespace": namespace,
                "node": { "name": format!("node-{}", number % 100), "uid": uid("a001") },
                "pod": { "name": format!("{account}-7d4b9c-{number:05x}"), "uid": uid("a002") },
                "serviceaccount": { "name": account, "uid": uid("a003") },
            },
            "nbf": now.secs() - 60,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        })
    }
}

/// What vouches for the callers: an RSA key of 2048 bits, as clusters have.
pub(super) struct TokenIssuer {
    key: RsaKeyPair,
    header: String,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl TokenIssuer {
    pub(super) fn new() -> Result<Self, Failure> {
        let key =
            RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| failed("no RSA key was made"))?;
        let header = json!({ "alg": "RS256", "kid": KEY_ID, "typ": "JWT" });
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        Ok(Self { key, header })
    }

    pub(super) fn jwks(&self) -> Result<Value, Failure> {
        let key = RsaPublicKey::from_der(self.key.public_key().as_ref())
            .map_err(|e| failed(e.to_string()))?;
        let number = |number: UintRef<'_>| URL_SAFE_NO_PAD.encode(number.as_bytes());
        Ok(json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": number(key.modulus), "e": number(key.exponent),
        }] }))
    }

    fn sign(&self, claims: &Value) -> Result<String, Failure> {
        let signed = format!(
            "{}.{}",
            self.header,
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| failed("a token was not signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature)))
    }
}
