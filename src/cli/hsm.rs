//! `hsm probe`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::open::{TOKEN_READY, block_on, config_with_environment};
use super::output;
use crate::hsm::{Abilities, Config, Hsm, KeyReport, SlotReport, TokenInfo};

#[derive(Debug, clap::Subcommand)]
pub(super) enum HsmCommand {
    /// Show every token of the module: limits, mechanisms, and what Rootbridge would do with it. Nothing
    /// in a token is changed, and nothing is signed. Configured tokens are logged in to, with one attempt.
    Probe(ProbeArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ProbeArgs {
    /// Show the tokens of this PKCS#11 module, without a configuration and without a login.
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// A slot, and what is known of its token.
struct Probed {
    slot: SlotReport,
    abilities: Option<Abilities>,
    configured: Option<Configured>,
}

/// For a token in `[hsm.tokens]`.
struct Configured {
    name: String,
    keys: Result<Vec<KeyReport>, String>,
}

pub(super) fn run(command: HsmCommand) -> Result<(), Failure> {
    let HsmCommand::Probe(args) = command;
    let config = match &args.module {
        Some(module) => Config::of_module(module)
            .map_err(|issues| Failure::new(Exit::Usage, issues.to_string()).at("--module"))?,
        None => config_with_environment(&args.common.config)?.hsm().clone(),
    };
    let (library, (slots, missing)) = block_on(async {
        let hsm = Hsm::open(&config)?;
        let slots = probe(&hsm).await?;
        Ok::<_, Failure>((hsm.library(), slots))
    })??;
    if args.common.format.is_json() {
        let (major, minor) = library.version;
        return output::json(&json!({
            "module": config.module(),
            "library": {
                "manufacturer": library.manufacturer,
                "description": library.description,
                "version": format!("{major}.{minor}"),
            },
            "workers": config.workers(),
            "slots": slots.iter().map(as_json).collect::<Vec<_>>(),
            "missing": missing.iter().map(|configured| json!({
                "configured_as": configured.name,
                "not_ready": configured.keys.as_ref().err(),
            })).collect::<Vec<_>>(),
        }));
    }
    let (major, minor) = library.version;
    output::facts([
        ("module", config.module().display().to_string()),
        (
            "library",
            format!(
                "{}, {} {major}.{minor}",
                library.manufacturer, library.description
            ),
        ),
    ])?;
    for slot in &slots {
        output::line("")?;
        output::facts(as_facts(slot, config.workers()))?;
    }
    for Configured { name, keys } in &missing {
        output::line("")?;
        let reason = keys.as_ref().err().cloned().unwrap_or_default();
        output::facts([
            ("configured", format!("hsm.tokens.{name}")),
            ("not found", reason),
        ])?;
    }
    match slots.is_empty() {
        true => output::note("the module shows no slot with a token"),
        false => Ok(()),
    }
}

/// The slots, and the configured tokens that are in none of them.
async fn probe(hsm: &Hsm) -> Result<(Vec<Probed>, Vec<Configured>), Failure> {
    let mut configured = Vec::new();
    for name in hsm.token_names() {
        let token = hsm.token(&name)?;
        let keys = match token.ready(TOKEN_READY).await {
            Ok(()) => token.keys().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        configured.push(Configured { name, keys });
    }
    let slots = hsm.slots().map_err(|fault| {
        let message = format!("the module does not list its slots: {fault}");
        Failure::new(Exit::Hsm, message)
    })?;
    let mut probed = Vec::new();
    for slot in slots {
        let name = hsm.name_of(&slot);
        let position = configured
            .iter()
            .position(|configured| Some(configured.name.as_str()) == name);
        probed.push(Probed {
            abilities: hsm.abilities(&slot).ok(),
            configured: position.map(|position| configured.swap_remove(position)),
            slot,
        });
    }
    Ok((probed, configured))
}

fn as_json(probed: &Probed) -> Value {
    let token = probed.slot.token.as_ref();
    let abilities = probed.abilities.as_ref();
    json!({
        "slot": probed.slot.slot,
        "description": probed.slot.description,
        "error": token.err().map(ToString::to_string),
        "token": token.ok().map(token_json),
        "sessions": abilities.map(|abilities| json!({
            "most": abilities.sessions.most,
            "open": abilities.sessions.open,
        })),
        "pin_length": abilities.map(|abilities| abilities.pin_length),
        "pin_pad": abilities.map(|abilities| abilities.pin_pad),
        "write_protected": abilities.map(|abilities| abilities.write_protected),
        "mechanisms": abilities.map(|abilities| abilities.mechanisms.iter().map(|found| json!({
            "name": found.name,
            "least_bits": found.key_sizes.0,
            "most_bits": found.key_sizes.1,
            "signs": found.signs,
            "generates": found.generates,
            "hardware": found.in_hardware,
        })).collect::<Vec<_>>()),
        "keys_of_kind": abilities.map(|abilities| abilities.uses().iter().map(|found| json!({
            "kind": found.kind.slug(),
            "generates_with": found.generates_with,
            "signs_with": found.signs_with,
        })).collect::<Vec<_>>()),
        "configured_as": probed.configured.as_ref().map(|configured| &configured.name),
        "not_ready": probed.configured.as_ref().and_then(|configured| configured.keys.as_ref().err()),
        "private_keys": probed.configured.as_ref().and_then(|configured| Some(configured.keys.as_ref().ok()?.len())),
    })
}

fn token_json(token: &TokenInfo) -> Value {
    json!({
        "label": token.label,
        "serial": token.serial,
        "manufacturer": token.manufacturer,
        "model": token.model,
        "initialized": token.initialized,
        "login_required": token.login_required,
        "pin_locked": token.pin_locked(),
        "pin_final_try": token.pin_final_try(),
        "unreadable": token.unreadable,
    })
}

fn as_facts(probed: &Probed, workers: usize) -> Vec<(&'static str, String)> {
    let mut facts = vec![(
        "slot",
        format!("{}: {}", probed.slot.slot, probed.slot.description),
    )];
    match &probed.slot.token {
        Ok(token) => facts.extend(token_facts(token)),
        Err(fault) => facts.push(("token", format!("faulty: {fault}"))),
    }
    if let Some(abilities) = &probed.abilities {
        facts.push(("sessions", sessions(abilities, workers)));
        let (least, most) = abilities.pin_length;
        let pad = if abilities.pin_pad {
            ", entered at the HSM"
        } else {
            ""
        };
        facts.push(("PIN", format!("{least} to {most} octets{pad}")));
        for found in &abilities.mechanisms {
            let (least, most) = found.key_sizes;
            let place = if found.in_hardware {
                ", in hardware"
            } else {
                ""
            };
            facts.push((
                "mechanism",
                format!("{}, {least} to {most} bits{place}", found.name),
            ));
        }
        for found in abilities.uses() {
            facts.push((
                "key kind",
                key_use(found.kind.slug(), found.generates_with, found.signs_with),
            ));
        }
    }
    match &probed.configured {
        None => facts.push((
            "configured",
            "no token in [hsm.tokens] is this one".to_owned(),
        )),
        Some(Configured { name, keys }) => {
            facts.push(("configured", format!("hsm.tokens.{name}")));
            facts.push(match keys {
                Ok(keys) => ("private keys", keys_summary(keys)),
                Err(reason) => ("not ready", reason.clone()),
            });
        }
    }
    facts
}

fn token_facts(token: &TokenInfo) -> Vec<(&'static str, String)> {
    let state = match (token.initialized, token.login_required) {
        (false, _) => "not initialized",
        (true, true) => "initialized, needs a login",
        (true, false) => "initialized, needs no login",
    };
    let mut facts = vec![
        (
            "token",
            format!("{:?}, serial {}", token.label, token.serial),
        ),
        ("model", format!("{} {}", token.manufacturer, token.model)),
        ("state", state.to_owned()),
    ];
    if token.pin_locked() {
        facts.push(("PIN state", "locked (CKF_USER_PIN_LOCKED)".to_owned()));
    } else if token.pin_final_try() {
        let text = "one more wrong PIN locks the token (CKF_USER_PIN_FINAL_TRY)";
        facts.push(("PIN state", text.to_owned()));
    }
    if let Some(reason) = &token.unreadable {
        facts.push(("unreadable", reason.clone()));
    }
    facts
}

/// One for each worker, and one that holds the login.
fn sessions(abilities: &Abilities, workers: usize) -> String {
    let needed = workers + 1;
    let open = match abilities.sessions.open {
        Some(open) => format!(", {open} open"),
        None => String::new(),
    };
    match abilities.sessions.most {
        Some(most) if most < needed as u64 => format!(
            "{most} at most{open}; TOO FEW for hsm.workers = {workers}, which needs {needed}"
        ),
        Some(most) => format!("{most} at most{open}; hsm.workers = {workers} needs {needed}"),
        None => format!("no limit reported{open}; hsm.workers = {workers} needs {needed}"),
    }
}

fn key_use(kind: String, generates: Option<&str>, signs: Option<&str>) -> String {
    match (generates, signs) {
        (Some(generates), Some(signs)) => {
            format!("{kind}: generated with {generates}, signs with {signs}")
        }
        (None, Some(signs)) => {
            format!("{kind}: not generated (name a key with --use-key), signs with {signs}")
        }
        (_, None) => format!("{kind}: not usable, no mechanism signs"),
    }
}

fn keys_summary(keys: &[KeyReport]) -> String {
    let unattested = keys
        .iter()
        .filter(|key| !key.attestation.missing().is_empty());
    match (keys.len(), unattested.count()) {
        (0, _) => "none".to_owned(),
        (all, 0) => format!("{all}, all reported as generated in the token and never extractable"),
        (all, some) => format!(
            "{all}, {some} of them NOT reported as generated in the token and never extractable"
        ),
    }
}
