//! `key list`.

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::Failure;
use super::open::{TOKEN_READY, block_on, config_with_environment, snapshot};
use super::output;
use crate::config::Config;
use crate::digest::hex;
use crate::hsm::{Hsm, KeyReport};
use crate::ledger::{IssuerId, Snapshot};

#[derive(Debug, clap::Subcommand)]
pub(super) enum KeyCommand {
    /// List the private keys in the tokens, and the attributes that the tokens report.
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only this token, by its name in [hsm.tokens.NAME].
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: KeyCommand) -> Result<(), Failure> {
    let KeyCommand::List(args) = command;
    let config = config_with_environment(&args.common.config)?;
    let names: Vec<String> = match args.token {
        Some(name) => vec![name],
        None => config.hsm().token_names().map(ToOwned::to_owned).collect(),
    };
    let keys = block_on(read_keys(&config, &names))??;
    // Keys are listed without a ledger as well.
    let records = match config.ledger().path().exists() {
        true => Some(snapshot(&config)?),
        false => None,
    };
    let used = |key: &KeyReport| use_of(records.as_ref()?, key);
    if args.common.format.is_json() {
        let rows = keys.iter().map(|(token, key)| {
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
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    let rows = keys.iter().map(|(token, key)| {
        let kind = key.kind().map(|kind| kind.to_string());
        let attestation = match key.attestation.missing() {
            none if none.is_empty() => "generated in the token, never extractable".to_owned(),
            missing => format!("NOT REPORTED: {}", missing.join(", ")),
        };
        [
            ("TOKEN", token.clone()),
            ("CKA_ID", hex(&key.id)),
            ("KIND", kind.unwrap_or_else(|| "no public key".to_owned())),
            ("ATTESTATION", attestation),
            (
                "USE",
                used(key).unwrap_or_else(|| "not recorded".to_owned()),
            ),
            ("LABEL", key.label.clone()),
        ]
    });
    output::table(
        rows,
        "no keys in the token: rootbridge ca init --trust-domain TRUST_DOMAIN",
    )
}

async fn read_keys(config: &Config, names: &[String]) -> Result<Vec<(String, KeyReport)>, Failure> {
    let hsm = Hsm::open(config.hsm())?;
    let mut keys = Vec::new();
    for name in names {
        let token = hsm.token(name)?;
        token.ready(TOKEN_READY).await?;
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

/// The issuer that the ledger records for the key.
fn use_of(records: &Snapshot, key: &KeyReport) -> Option<String> {
    let id = IssuerId::of_spki(key.public_key.as_ref().ok()?.spki_der());
    let (authority, issuer) = records.issuer(&id)?;
    let (role, state) = (issuer.role, issuer.state);
    Some(format!("{role} of {}, {state}", authority.trust_domain))
}
