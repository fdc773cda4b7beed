//! The part that needs the module: token, authority, a ledger as full as wished, and the floor.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::floor;
use super::place::{PIN, Place, Plan, Site, TOKEN, TRUST_DOMAIN, failed};
use super::rows;
use crate::app::Core;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::config::Config;
use crate::hsm::{Hsm, HsmError};
use crate::issuance::InitOptions;
use crate::ledger::Actor;
use crate::x509::{KeyKind, TrustDomain};

/// How long the token signs for itself, once on every core and once on one.
const SPAN: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(86_400);

/// What the preparing process found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) cores: usize,
    /// The token's own signatures a second, one thread on each core.
    pub(super) raw_signs_per_second: f64,
    /// CPU of one C_Sign, one thread, nothing beside it.
    pub(super) sign_cpu_us: f64,
    /// CPU of the proof of possession.
    pub(super) possession_cpu_us: f64,
    /// CPU of verifying what was made.
    pub(super) check_cpu_us: f64,
}

impl Found {
    /// What no CA that checks can spare for one certificate.
    pub(super) fn floor_cpu_us(&self) -> f64 {
        self.sign_cpu_us + self.possession_cpu_us + self.check_cpu_us
    }
}

/// Starts this program again for the preparation, and waits for what it found.
pub(super) fn in_another_process(place: &Place) -> Result<Found, Failure> {
    let program = env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = without_overrides(&mut Command::new(program))
        .args(["bench", "--prepare"])
        .arg(place.dir())
        .env("SOFTHSM2_CONF", &place.plan().softhsm)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("cannot start this program again: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(
            Exit::Hsm,
            "the token and its authority could not be made",
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

/// What an operator's environment says about another server must not reach this one: it could
/// lead to that server's ledger.
pub(super) fn without_overrides(command: &mut Command) -> &mut Command {
    let ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b"ROOTBRIDGE_");
    for (name, _) in env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
}

pub(super) fn run(dir: &Path) -> Result<(), Failure> {
    let plan = Plan::read(dir)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(error.to_string()))?;
    let found = runtime.block_on(prepare(&plan))?;
    output::json(&found)
}

async fn prepare(plan: &Plan) -> Result<Found, Failure> {
    let mut found = None;
    for site in &plan.sites {
        let config = Config::load(&site.config)?;
        let made = found.is_some();
        if !made {
            // The module is initialized once at a time: this ends it again before the core opens it.
            let hsm = Hsm::open(config.hsm()).map_err(of_hsm)?;
            let pin = SecretString::from(PIN);
            hsm.init_token(None, TOKEN, &pin, &pin).map_err(of_hsm)?;
            found = Some(measure(&hsm).await?);
        }
        make_authority(&config, site).await?;
    }
    found.ok_or_else(|| failed("there is nothing to prepare"))
}

/// The token alone, and then the arithmetic, while nothing else of ours runs.
async fn measure(hsm: &Hsm) -> Result<Found, Failure> {
    let token = hsm.token(TOKEN).map_err(of_hsm)?;
    token.ready(Duration::from_secs(10)).await.map_err(of_hsm)?;
    let id = b"raw".as_slice();
    let public = token.generate(KeyKind::EcdsaP256, "raw speed", id).await;
    let key = token
        .key(id, &public.map_err(of_hsm)?)
        .await
        .map_err(of_hsm)?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // Blocking, and nothing else is to run on this runtime meanwhile.
    let all = key.speed(cores, SPAN).map_err(of_hsm)?;
    let alone = key.speed(1, SPAN).map_err(of_hsm)?;
    let verification = floor::verification()?;
    let found = Found {
        cores,
        raw_signs_per_second: all.per_second,
        sign_cpu_us: alone.cpu.as_secs_f64() * 1e6,
        possession_cpu_us: verification.possession_us,
        check_cpu_us: verification.check_us,
    };
    token.destroy_key(id).await.map_err(of_hsm)?;
    Ok(found)
}

async fn make_authority(config: &Config, site: &Site) -> Result<(), Failure> {
    let core = Core::open_shared(config)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let options = InitOptions {
        trust_domain: TrustDomain::parse(TRUST_DOMAIN).map_err(|e| failed(e.to_string()))?,
        token: TOKEN.to_owned(),
        kind: KeyKind::EcdsaP256,
        root_ttl: DAY * 3650,
        issuing_ttl: DAY * 365,
        path_len: 0,
        organization: None,
    };
    let actor = Actor {
        name: "bench".to_owned(),
        via: "cli".to_owned(),
    };
    let report = core
        .ceremony(actor)
        .init(options)
        .await
        .map_err(|error| failed(error.to_string()))?;
    if site.rows > 0 {
        output::note(&format!(
            "bench: filling a ledger with {} certificates",
            site.rows
        ))?;
        rows::fill(
            &core.ledger,
            Arc::clone(&core.clock),
            &report.issuing,
            site.rows,
        )
        .await?;
    }
    core.ledger.close().await;
    fs::write(&site.root, report.root.to_pem())
        .map_err(|error| Failure::file("write", &site.root, &error))
}

fn of_hsm(error: HsmError) -> Failure {
    Failure::new(Exit::Hsm, error.to_string())
}
