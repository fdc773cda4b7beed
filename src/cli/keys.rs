//! `key list`.

use std::time::Duration;

use serde_json::json;

use super::config_arg::ConfigArg;
use super::failure::Failure;
use super::open::{block_on, configuration, with_ledger};
use super::output::{self, FormatArg};
use crate::config::Config;
use crate::digest::hex;
use crate::hsm::{Hsm, KeyReport};
use crate::ledger::{IssuerId, Snapshot};

#[derive(Debug, clap::Subcommand)]
pub(super) enum KeyCommand {
    /// List the private keys in the tokens, and what the tokens vouch for.
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only this token, as [hsm.tokens.NAME] calls it.
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

const TOKEN_WAIT: Duration = Duration::from_secs(10);

pub(super) fn run(command: KeyCommand) -> Result<(), Failure> {
    let KeyCommand::List(args) = command;
    let config = configuration(&args.config)?;
    let names: Vec<String> = match args.token {
        Some(name) => vec![name],
        None => config.hsm().token_names().map(ToOwned::to_owned).collect(),
    };
    let keys = block_on(read(&config, &names))??;
    // The token's keys can be listed without any ledger.
    let records = match config.ledger().path().exists() {
        true => Some(with_ledger(&config, async |ledger| {
            Ok(ledger.snapshot().await?)
        })?),
        false => None,
    };
    let used = |key: &KeyReport| records.as_ref().and_then(|records| use_of(records, key));
    if args.format.is_json() {
        let rows: Vec<_> = keys
            .iter()
            .map(|(token, key)| {
                json!({
                    "token": token,
                    "id": hex(&key.id),
                    "label": key.label,
                    "kind": key.kind().map(|kind| kind.to_string()),
                    "spki_sha256": key.public_key.as_ref().ok().map(|key| hex(&key.fingerprint())),
                    "local": key.attestation.local,
                    "always_sensitive": key.attestation.always_sensitive,
                    "never_extractable": key.attestation.never_extractable,
                    "use": used(key),
                })
            })
            .collect();
        return output::json(&rows);
    }
    let rows: Vec<_> = keys
        .iter()
        .map(|(token, key)| {
            let missing = key.attestation.missing();
            vec![
                token.clone(),
                hex(&key.id),
                key.kind()
                    .map_or("no public key".to_owned(), |kind| kind.to_string()),
                match missing.is_empty() {
                    true => "made here, never out".to_owned(),
                    false => format!("NOT VOUCHED FOR: {}", missing.join(", ")),
                },
                used(key).unwrap_or_else(|| "not on record".to_owned()),
                key.label.clone(),
            ]
        })
        .collect();
    let none = "no keys in the token: rootbridge ca init --trust-domain TRUST_DOMAIN";
    output::table(
        &["TOKEN", "CKA_ID", "KIND", "ATTESTATION", "USE", "LABEL"],
        &rows,
        none,
    )
}

async fn read(config: &Config, names: &[String]) -> Result<Vec<(String, KeyReport)>, Failure> {
    let hsm = Hsm::open(config.hsm())?;
    let mut keys = Vec::new();
    for name in names {
        let token = hsm.token(name)?;
        token.ready(TOKEN_WAIT).await?;
        keys.extend(
            token
                .keys()
                .await?
                .into_iter()
                .map(|key| (name.clone(), key)),
        );
    }
    Ok(keys)
}

/// What the ledger says the key is for.
fn use_of(records: &Snapshot, key: &KeyReport) -> Option<String> {
    let id = IssuerId::of_spki(key.public_key.as_ref().ok()?.spki_der());
    let (authority, issuer) = records.issuer(&id)?;
    Some(format!(
        "{} of {}, {}",
        issuer.role, authority.trust_domain, issuer.state
    ))
}
