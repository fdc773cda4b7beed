//! `key list`; `key prune` is in `key_prune`.

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::Failure;
use super::key_prune::{PruneArgs, prune};
use super::key_records::{Listed, is_given_up, read_keys, use_of};
use super::open::{block_on, config_with_environment, snapshot_if_any};
use super::output;
use crate::digest::hex;
use crate::hsm::Hsm;

#[derive(Debug, clap::Subcommand)]
pub(super) enum KeyCommand {
    /// List the private keys in the tokens, and the attributes that the tokens report.
    List(ListArgs),
    /// Destroy the private keys that nothing uses: those of requests that were given up, and those that
    /// no record names. It asks first.
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only this token, by its name in [hsm.tokens.NAME] or its PKCS#11 URI.
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Only keys whose request to an upstream CA was given up, and that have no certificate.
    #[arg(long)]
    unused: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::List(args) => list(args),
        KeyCommand::Prune(args) => prune(args),
    }
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let config = config_with_environment(&args.common.config)?;
    let mut keys = block_on(async {
        let hsm = Hsm::open(config.hsm())?;
        read_keys(&config, &hsm, args.token).await
    })??;
    // Keys are listed without a ledger as well.
    let records = snapshot_if_any(&config)?;
    if args.unused {
        keys.retain(|key| {
            let records = records.as_ref();
            records.is_some_and(|records| is_given_up(records, &key.report))
        });
    }
    let used = |key: &Listed| use_of(records.as_ref()?, key);
    if args.common.format.is_json() {
        let rows = keys.iter().map(|listed| {
            let key = &listed.report;
            json!({
                "token": listed.token,
                "uri": listed.uri,
                "id": hex(&key.id),
                "label": key.label,
                "kind": key.kind().map(|kind| kind.to_string()),
                "spki_sha256": key.public_key.as_ref().ok().map(|key| hex(&key.fingerprint())),
                "local": key.attestation.local,
                "always_sensitive": key.attestation.always_sensitive,
                "never_extractable": key.attestation.never_extractable,
                "sensitive": key.attestation.sensitive,
                "extractable": key.attestation.extractable,
                "use": used(listed),
            })
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    let rows = keys.iter().map(|listed| {
        let key = &listed.report;
        let kind = key.kind().map(|kind| kind.to_string());
        let attestation = match key.attestation.missing() {
            none if none.is_empty() => "generated in the token, never extractable".to_owned(),
            missing => format!("NOT REPORTED: {}", missing.join(", ")),
        };
        let used = used(listed).unwrap_or_else(|| "not recorded".to_owned());
        [
            ("TOKEN", listed.token.clone()),
            ("CKA_ID", hex(&key.id)),
            ("KIND", kind.unwrap_or_else(|| "no public key".to_owned())),
            ("ATTESTATION", attestation),
            ("USE", used),
            ("LABEL", key.label.clone()),
        ]
    });
    output::table(
        rows,
        "no keys in the token: rootbridge ca init --trust-domain TRUST_DOMAIN",
    )
}
