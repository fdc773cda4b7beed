//! `key prune`.

use std::io::BufRead as _;

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::key_records::{Listed, is_given_up, planned, read_keys, use_of};
use super::open::{actor, config_with_environment, with_ledger};
use super::output;
use crate::digest::hex;
use crate::hsm::Hsm;
use crate::ledger::{
    CaRequestState, Change, IssuerId, IssuerState, Ledger, PlannedKeyChange, Snapshot,
};

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Only this token, by its name in [hsm.tokens.NAME] or its PKCS#11 URI.
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Destroy them without a question.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn prune(args: PruneArgs) -> Result<(), Failure> {
    let config = config_with_environment(&args.common.config)?;
    let is_json = args.common.format.is_json();
    with_ledger(&config, async |ledger| {
        let hsm = Hsm::open(config.hsm())?;
        let records = ledger.snapshot().await?;
        let mut keys = read_keys(&config, &hsm, args.token).await?;
        keys.retain(|key| reason(&records, key).is_some());
        if !keys.is_empty() && !args.yes {
            ask(&records, &keys)?;
        }
        let mut destroyed = Vec::new();
        for key in &keys {
            if destroy(ledger, &hsm, key).await? {
                destroyed.push(key);
            }
        }
        if is_json {
            let rows = destroyed.iter().map(|key| {
                json!({ "token": key.token, "id": hex(&key.report.id), "label": key.report.label })
            });
            return output::json(&rows.collect::<Vec<_>>());
        }
        for key in &destroyed {
            let (id, token, label) = (hex(&key.report.id), &key.token, &key.report.label);
            output::line(format!("destroyed key {id} in token {token} ({label})"))?;
        }
        match destroyed.is_empty() {
            true => {
                output::note("no key was destroyed: every one is in use, or not of this server")
            }
            false => Ok(()),
        }
    })
}

/// Shows the keys, and fails unless the operator says yes.
fn ask(records: &Snapshot, keys: &[Listed]) -> Result<(), Failure> {
    for key in keys {
        let (id, token, label) = (hex(&key.report.id), &key.token, &key.report.label);
        let why = reason(records, key).unwrap_or_default();
        output::note(format!("key {id} in token {token} ({label}): {why}"))?;
    }
    output::note(
        "Nothing restores a destroyed key. Another server with a ledger of its own may use a key that \
         no record here names.",
    )?;
    let question = format!("Destroy {} of them? Write yes:", keys.len());
    output::note(question)?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && answer.trim() == "yes" {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, "nothing was destroyed").next("--yes answers it")),
    }
}

/// Why nothing needs the key; `None` for one that may be needed, or is not this server's.
fn reason(records: &Snapshot, listed: &Listed) -> Option<String> {
    let key = &listed.report;
    let public_key = key.public_key.as_ref().ok()?;
    let id = IssuerId::of_spki(public_key.spki_der());
    let authorities = || records.authorities.iter();
    let with_removed = || authorities().chain(&records.removed);
    // As ceremonies label what they generate.
    let is_ours = with_removed().any(|authority| {
        let label = format!("rootbridge {} ", authority.trust_domain);
        key.label.starts_with(&label)
    });
    // Generated, and not recorded as an issuer yet.
    let is_coming = authorities().any(|authority| {
        authority
            .open_request()
            .is_some_and(|open| open.issuer.as_ref() == Some(&id) || open.location.names(&key.id))
    });
    if is_coming {
        return None;
    }
    if let Some((authority, planned)) = planned(records, listed) {
        let (role, domain) = (planned.role, &authority.trust_domain);
        let (by, at) = (&planned.planned_by, planned.planned_at);
        return Some(format!(
            "a command of {by} planned it at {at} for the {role} key of {domain}, and has not recorded it"
        ));
    }
    if use_of(records, listed).is_none() {
        return is_ours.then(|| "no record names it".to_owned());
    }
    let mut removed = records.removed.iter();
    let removed = removed.find(|authority| authority.issuers.iter().any(|each| each.id == id));
    if let Some(authority) = removed {
        let domain = &authority.trust_domain;
        return is_ours
            .then(|| format!("the authority of {domain} was removed, and had issued nothing"));
    }
    // The next request is for the key of one that was refused.
    let is_next = authorities().any(|authority| {
        let last = authority.requests.last();
        last.is_some_and(|last| {
            last.state == CaRequestState::Refused && last.issuer.as_ref() == Some(&id)
        })
    });
    let is_retired = records
        .issuer(&id)
        .is_some_and(|(_, issuer)| issuer.state == IssuerState::Retired);
    (is_given_up(records, key) && (is_retired || !is_next))
        .then(|| "its request was given up, and it has no certificate".to_owned())
}

/// Destroys the key if nothing has begun to need it, which the records say before the token does it.
async fn destroy(ledger: &dyn Ledger, hsm: &Hsm, key: &Listed) -> Result<bool, Failure> {
    let Ok(public_key) = &key.report.public_key else {
        return Ok(false);
    };
    let id = IssuerId::of_spki(public_key.spki_der());
    let records = ledger.snapshot().await?;
    if reason(&records, key).is_none() {
        return Ok(false);
    }
    if let Some((_, planned)) = planned(&records, key) {
        // A command that is still at it records the key before that, or is refused.
        let change = Change::PlannedKey(PlannedKeyChange::Drop {
            token: planned.location.token.clone(),
            planned_id: planned.location.key_id.clone(),
        });
        ledger.apply(change, &actor()).await?;
    }
    let recorded = records.issuer(&id);
    if recorded.is_some_and(|(_, issuer)| issuer.state == IssuerState::Pending) {
        let change = Change::SetIssuerState {
            issuer: id,
            state: IssuerState::Retired,
        };
        ledger.apply(change, &actor()).await?;
        // A request that was begun before that keeps its key.
        if reason(&ledger.snapshot().await?, key).is_none() {
            return Ok(false);
        }
    }
    let token = hsm.token(&key.token)?;
    token.destroy(&key.report.id, public_key).await?;
    Ok(true)
}
