//! A workload's CSR, and its token from a cluster.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use der::Decode as _;
use der::asn1::UintRef;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rootbridge::authn::{Config, RawConfig};
use rootbridge::clock::UnixTime;
use serde_json::json;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// For a P-256 key, in PEM.
pub(crate) fn csr() -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = "spiffe://cluster.local/ns/foo/sa/bar".try_into().unwrap();
    params.subject_alt_names = vec![SanType::URI(name)];
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// A verifier `cluster`, and a token that it accepts.
pub(crate) fn verifier_and_token(directory: &Path, now: UnixTime) -> (Config, String) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = RsaPublicKey::from_der(key.public_key().as_ref()).unwrap();
    let number = |number: UintRef<'_>| URL_SAFE_NO_PAD.encode(number.as_bytes());
    let jwks = json!({ "keys": [{
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "a",
        "n": number(public.modulus), "e": number(public.exponent),
    }] });
    let file = directory.join("jwks.json");
    std::fs::write(&file, jwks.to_string()).unwrap();
    let raw: RawConfig = serde_json::from_value(json!({ "jwt": { "cluster": {
        "issuer": ISSUER,
        "trust_domain": "cluster.local",
        "subject": "kubernetes",
        "audiences": { "istio": "istio-ca" },
        "jwks_file": file,
    } } }))
    .unwrap();

    let uid = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({ "alg": "RS256", "kid": "a", "typ": "JWT" }));
    let claims = part(json!({
        "aud": ["istio-ca"],
        "exp": now.secs() + 3_600,
        "iat": now.secs(),
        "iss": ISSUER,
        "jti": uid,
        "kubernetes.io": {
            "namespace": "foo",
            "node": { "name": "node-1", "uid": uid },
            "pod": { "name": "bar-7d4b9c-abcde", "uid": uid },
            "serviceaccount": { "name": "bar", "uid": uid },
        },
        "nbf": now.secs(),
        "sub": "system:serviceaccount:foo:bar",
    }));
    let signed = format!("{header}.{claims}");
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
    (Config::try_from(raw).unwrap(), token)
}
