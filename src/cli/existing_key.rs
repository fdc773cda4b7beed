//! Keys that are in a token already: what the token says of one is shown before it is used.

use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use crate::digest::hex;
use crate::hsm::KeyName;
use crate::issuance::{Ceremony, ExistingKey};

/// Finds the key, and shows it on standard error.
pub(super) async fn find(
    ceremony: &Ceremony,
    token: Option<&str>,
    name: &KeyName,
) -> Result<ExistingKey, Failure> {
    let key = ceremony.existing_key(token, name).await?;
    show(&key)?;
    Ok(key)
}

fn show(key: &ExistingKey) -> Result<(), Failure> {
    output::note(format!("key {}", key.uri))?;
    let (kind, print) = (key.kind(), hex(&key.public_key.fingerprint()));
    output::note(format!("  {kind}, public key sha256:{print}"))?;
    for (name, reported) in key.report.attestation.all() {
        let reported = match reported {
            Some(true) => "true",
            Some(false) => "false",
            None => "not reported",
        };
        output::note(format!("  {name}: {reported}"))?;
    }
    match key.report.attestation.missing().as_slice() {
        [] => {
            output::note("  the token attests that it was generated there and could never leave it")
        }
        missing => output::note(format!("  NOT ATTESTED: {}", missing.join(", "))),
    }
}

/// As JSON, for `-o json`.
pub(super) fn to_json(key: &ExistingKey) -> Value {
    let attributes = key.report.attestation.all();
    let attributes = attributes
        .into_iter()
        .map(|(name, reported)| (name.to_owned(), reported.into()));
    json!({
        "uri": key.uri,
        "token": key.token,
        "id": hex(&key.report.id),
        "label": key.report.label,
        "attributes": attributes.collect::<serde_json::Map<String, Value>>(),
    })
}
