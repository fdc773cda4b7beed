//! What every implementation must do for one certificate: one signature in the token, and two P-256
//! verifications over messages as long as real ones.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rootbridge::x509::{PublicKey, SignatureAlgorithm};
use serde::{Deserialize, Serialize};

use crate::cpu_time;
use crate::sandbox::Sandbox;
use crate::token::Token;

/// How long the token signs, once on every core and once on one.
const SIGNING_SPAN: Duration = Duration::from_secs(2);
/// Bytes of a CertificationRequestInfo and of a TBSCertificate with one SPIFFE ID.
const CSR_LEN: usize = 170;
const TBS_LEN: usize = 420;
const ROUNDS: usize = 15;
const VERIFICATIONS_PER_ROUND: u32 = 2_000;
/// Requests are prepared for this share of the floor's rate: no run has reached it, and a window ends
/// early when its requests run out.
const SHARE_OF_FLOOR: f64 = 0.6;
const FEWEST_REQUESTS: usize = 2_000;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    pub(crate) cores: u32,
    /// The token by itself, one thread on each core.
    pub(crate) raw_signs_per_second: f64,
    /// One C_Sign, measured on one thread.
    pub(crate) sign_cpu_us: f64,
    /// Verifying a CSR's proof of possession.
    pub(crate) possession_cpu_us: f64,
    /// Verifying the finished certificate.
    pub(crate) check_cpu_us: f64,
}

impl Baseline {
    /// CPU time that no CA that verifies can avoid for one certificate.
    pub(crate) fn floor_cpu_us(&self) -> f64 {
        self.sign_cpu_us + self.possession_cpu_us + self.check_cpu_us
    }

    /// How many requests a window of `seconds` and the second of warming up may take.
    pub(crate) fn requests(&self, seconds: u64) -> usize {
        let rate = f64::from(self.cores) / (self.floor_cpu_us() / 1e6) * SHARE_OF_FLOOR;
        let seconds = u32::try_from(seconds + 1).unwrap_or(u32::MAX);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let requests = (rate * f64::from(seconds)) as usize;
        requests.max(FEWEST_REQUESTS)
    }
}

/// Runs [`measure`] in a process that has SoftHSM's configuration in its environment.
pub(crate) async fn in_child_process(sandbox: &Sandbox) -> Result<Baseline> {
    let args = ["--measure-token".as_ref(), sandbox.module.as_os_str()];
    let output = sandbox.output(&std::env::current_exe()?, &args).await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Makes the token that the servers use later, and measures it.
pub(crate) fn measure(module: &Path) -> Result<Baseline> {
    let token = Token::create(module)?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let all = token.signing_speed(cores, SIGNING_SPAN)?;
    let alone = token.signing_speed(1, SIGNING_SPAN)?;
    token.destroy()?;
    Ok(Baseline {
        cores: u32::try_from(cores)?,
        raw_signs_per_second: all.per_second,
        sign_cpu_us: alone.cpu.as_secs_f64() * 1e6,
        possession_cpu_us: verification_cpu_us(CSR_LEN)?,
        check_cpu_us: verification_cpu_us(TBS_LEN)?,
    })
}

/// The median of several rounds, with parsed keys: parsing can be avoided.
fn verification_cpu_us(message_len: usize) -> Result<f64> {
    let unspecified = |_| anyhow!("aws-lc does not sign");
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(unspecified)?;
    let spki = key.public_key().as_der().map_err(unspecified)?;
    let public = PublicKey::from_spki_der(spki.as_ref())?;
    let message = vec![0x5a; message_len];
    let signature = key
        .sign(&SystemRandom::new(), &message)
        .map_err(unspecified)?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = cpu_time::thread();
        for _ in 0..VERIFICATIONS_PER_ROUND {
            public.verify(
                SignatureAlgorithm::EcdsaSha256,
                black_box(&message),
                signature.as_ref(),
            )?;
        }
        rounds.push(cpu_time::thread().saturating_sub(start) / VERIFICATIONS_PER_ROUND);
    }
    rounds.sort_unstable();
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1e6)
}
