//! The calls, prepared beforehand: each with a key, a CSR and a token of its own, encoded as on the
//! wire.

use std::num::NonZeroUsize;
use std::thread;

use anyhow::{Result, anyhow};
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
use rootbridge::clock::{Clock as _, SystemClock, UnixTime};
use rootbridge::mesh::proto::istio::IstioCertificateRequest;
use rootbridge::x509::Serial;
use serde_json::{Value, json};

pub(crate) const TRUST_DOMAIN: &str = "bench.invalid";
pub(crate) const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(crate) const AUDIENCE: &str = "istio-ca";
/// gRPC's prefix of a message: a flag and its length.
pub(crate) const FRAME_LEN: usize = 5;

const KEY_ID: &str = "bench";

pub(crate) struct Request {
    pub(crate) authorization: HeaderValue,
    /// The message as a gRPC frame.
    pub(crate) frame: Bytes,
    /// The key of the CSR, in PKCS#8.
    pub(crate) key: Vec<u8>,
}

impl Request {
    pub(crate) fn decode(&self) -> Result<IstioCertificateRequest> {
        let message = self.frame.get(FRAME_LEN..).unwrap_or_default();
        Ok(IstioCertificateRequest::decode(message)?)
    }
}

/// Prepares `count` requests on all cores.
pub(crate) fn prepare(issuer: &TokenIssuer, count: usize) -> Result<Vec<Request>> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let now = SystemClock.now();
    let parts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|first| {
                let numbers = (first..count).step_by(threads);
                scope.spawn(move || {
                    numbers
                        .map(|number| request(issuer, number, now))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut requests = Vec::with_capacity(count);
    for part in parts {
        requests.extend(part.map_err(|_| anyhow!("a preparing thread panicked"))??);
    }
    Ok(requests)
}

fn request(issuer: &TokenIssuer, number: usize, now: UnixTime) -> Result<Request> {
    let pod = Pod::new(number);
    let token = issuer.sign(&pod.token_claims(now))?;
    let (csr, key) = csr(&pod.spiffe_id())?;
    // Istio's agent always sends the field.
    let cert_signer = ProtoValue {
        kind: Some(Kind::StringValue(String::new())),
    };
    let message = IstioCertificateRequest {
        csr,
        validity_duration: 86_400,
        metadata: Some(Struct {
            fields: [("CertSigner".to_owned(), cert_signer)].into(),
        }),
    };
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + FRAME_LEN);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length)?);
    message.encode(&mut frame)?;
    Ok(Request {
        authorization: HeaderValue::try_from(format!("Bearer {token}"))?,
        frame: frame.freeze(),
        key,
    })
}

fn csr(spiffe_id: &str) -> Result<(String, Vec<u8>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(spiffe_id.try_into()?)];
    let csr = params.serialize_request(&key)?.pem()?;
    Ok((csr, key.serialize_der()))
}

/// A pod in a mesh with a thousand service accounts.
struct Pod {
    number: usize,
    namespace: String,
    account: String,
}

impl Pod {
    fn new(number: usize) -> Self {
        Self {
            number,
            namespace: format!("ns-{}", number % 50),
            account: format!("sa-{}", number % 1_000),
        }
    }

    fn spiffe_id(&self) -> String {
        let (namespace, account) = (&self.namespace, &self.account);
        format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}")
    }

    /// As Kubernetes writes a projected service account token.
    fn token_claims(&self, now: UnixTime) -> Value {
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

/// Signs the callers' tokens with RSA of 2048 bits, as clusters do. By hand, because a JWT library
/// parses the key for each token.
pub(crate) struct TokenIssuer {
    key: RsaKeyPair,
    header: String,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl TokenIssuer {
    pub(crate) fn generate() -> Result<Self> {
        let key = RsaKeyPair::generate(KeySize::Rsa2048)
            .map_err(|_| anyhow!("no RSA key was generated"))?;
        let header = json!({ "alg": "RS256", "kid": KEY_ID, "typ": "JWT" });
        Ok(Self {
            key,
            header: URL_SAFE_NO_PAD.encode(header.to_string()),
        })
    }

    pub(crate) fn jwks(&self) -> Result<Value> {
        let key = RsaPublicKey::from_der(self.key.public_key().as_ref())?;
        let number = |number: UintRef<'_>| URL_SAFE_NO_PAD.encode(number.as_bytes());
        Ok(json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": number(key.modulus), "e": number(key.exponent),
        }] }))
    }

    fn sign(&self, claims: &Value) -> Result<String> {
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        let signed = format!("{}.{claims}", self.header);
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| anyhow!("a token was not signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature)))
    }
}
