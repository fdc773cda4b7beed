//! The arithmetic that cannot be spared for a certificate, beside the signature itself: two P-256
//! verifications, over messages as long as those of the real thing.

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::place::failed;
use crate::cli::failure::Failure;
use crate::clock::thread_cpu_time;
use crate::x509::{PublicKey, SignatureAlgorithm};

/// Of a CertificationRequestInfo and a TBSCertificate with one SPIFFE ID.
const REQUEST: usize = 170;
const TO_BE_SIGNED: usize = 420;
const ROUNDS: usize = 15;
const PER_ROUND: u32 = 2_000;

/// CPU time of each verification, microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verification {
    pub(super) possession_us: f64,
    pub(super) check_us: f64,
}

pub(super) fn verification() -> Result<Verification, Failure> {
    Ok(Verification {
        possession_us: one(REQUEST)?,
        check_us: one(TO_BE_SIGNED)?,
    })
}

/// The median of several rounds, with keys made ready beforehand: parsing them can be spared.
fn one(length: usize) -> Result<f64, Failure> {
    let unspecified = |_| failed("aws-lc does not sign");
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(unspecified)?;
    let spki = key.public_key().as_der().map_err(unspecified)?;
    let public = PublicKey::from_spki_der(spki.as_ref()).map_err(|e| failed(e.to_string()))?;
    let message = vec![0x5a; length];
    let signature = key
        .sign(&SystemRandom::new(), &message)
        .map_err(unspecified)?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = thread_cpu_time();
        for _ in 0..PER_ROUND {
            public
                .verify(
                    SignatureAlgorithm::EcdsaSha256,
                    black_box(&message),
                    signature.as_ref(),
                )
                .map_err(|e| failed(e.to_string()))?;
        }
        rounds.push(thread_cpu_time().saturating_sub(begun) / PER_ROUND);
    }
    rounds.sort_unstable();
    let median: Duration = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1e6)
}
