//! Keys that sign JWTs.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A key pair with its `kid`.
pub struct JwtKey {
    pub kid: String,
    pub kind: Kind,
}

pub enum Kind {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl JwtKey {
    pub fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self {
            kid: kid.to_owned(),
            kind: Kind::Rsa(pair),
        }
    }

    pub fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            kid: kid.to_owned(),
            kind: Kind::P256(pair),
        }
    }

    pub fn p384(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self {
            kid: kid.to_owned(),
            kind: Kind::P384(pair),
        }
    }

    pub fn ed25519(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            kind: Kind::Ed25519(Ed25519KeyPair::generate().unwrap()),
        }
    }

    /// The algorithm that [`Self::sign`] uses.
    pub fn alg(&self) -> &'static str {
        match self.kind {
            Kind::Rsa(_) => "RS256",
            Kind::P256(_) => "ES256",
            Kind::P384(_) => "ES384",
            Kind::Ed25519(_) => "EdDSA",
        }
    }

    /// The public key as a member of a key set.
    pub fn jwk(&self) -> Value {
        let kid = &self.kid;
        match &self.kind {
            Kind::Rsa(pair) => {
                let public = pair.public_key();
                let n = b64(public.modulus().big_endian_without_leading_zero());
                let e = b64(public.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e })
            }
            Kind::P256(pair) | Kind::P384(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": crv, "kid": kid, "x": b64(x), "y": b64(y) })
            }
            Kind::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(pair.public_key().as_ref()) })
            }
        }
    }

    /// The private key, PKCS#8 DER.
    pub fn pkcs8(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)
                .unwrap()
                .as_ref()
                .to_vec(),
            Kind::P256(pair) | Kind::P384(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Kind::Ed25519(pair) => pair.to_pkcs8().unwrap().as_ref().to_vec(),
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.kind {
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Kind::P256(pair) | Kind::P384(pair) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Kind::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    pub fn sign_pss(&self, message: &[u8]) -> Vec<u8> {
        let Kind::Rsa(pair) = &self.kind else {
            panic!("no RSA key")
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(
            &RSA_PSS_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        )
        .unwrap();
        signature
    }

    /// A token of these claims, with this key in its header.
    pub fn token(&self, claims: &Value) -> String {
        self.token_of(
            &json!({ "alg": self.alg(), "kid": self.kid, "typ": "JWT" }).to_string(),
            &claims.to_string(),
        )
    }

    /// A token of any header and payload with a valid signature.
    pub fn token_of(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", b64(&signature))
    }
}

pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JSON Web Key Set.
pub fn jwks(keys: &[&JwtKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}
