//! The keys in the tokens, and what the records say of them.

use super::failure::{Exit, Failure};
use super::open::TOKEN_READY;
use crate::config::Config;
use crate::hsm::{Hsm, KeyReport, Pkcs11Uri};
use crate::ledger::{
    AuthorityRecord, CaRequestState, IssuerId, IssuerRecord, IssuerState, PlannedKey, Role,
    Snapshot,
};

/// A key, its token's name and its own URI.
pub(super) struct Listed {
    pub(super) token: String,
    pub(super) uri: String,
    pub(super) report: KeyReport,
}

/// The keys in this token, or in all that are configured.
pub(super) async fn read_keys(
    config: &Config,
    hsm: &Hsm,
    only: Option<String>,
) -> Result<Vec<Listed>, Failure> {
    let names = match only {
        Some(name) => vec![name],
        None => config.hsm().token_names().map(ToOwned::to_owned).collect(),
    };
    let mut keys = Vec::new();
    for name in &names {
        let token = match Pkcs11Uri::has_scheme(name) {
            true => {
                let uri = name.parse::<Pkcs11Uri>();
                let uri = uri.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
                hsm.token_by_uri(&uri, TOKEN_READY).await?
            }
            false => hsm.token(name)?,
        };
        token.ready(TOKEN_READY).await?;
        let info = token.info().unwrap_or_default();
        for report in token.keys().await? {
            keys.push(Listed {
                token: token.name().to_owned(),
                uri: Pkcs11Uri::of_private_key(&info, &report.id, &report.label),
                report,
            });
        }
    }
    Ok(keys)
}

/// What the ledger records of the key: its issuer, or that it was planned.
pub(super) fn use_of(records: &Snapshot, key: &Listed) -> Option<String> {
    let report = &key.report;
    if let Some((authority, issuer)) = issuer(records, report) {
        let (role, state) = (issuer.role, issuer.state);
        return Some(format!("{role} of {}, {state}", authority.trust_domain));
    }
    if let Some((authority, planned)) = planned(records, key) {
        let (role, domain) = (planned.role, &authority.trust_domain);
        return Some(format!("{role} of {domain}, planned"));
    }
    // Of a request to an upstream CA that has just begun, or whose server died then.
    let requested = records.authorities.iter().find(|authority| {
        let open = authority.open_request().map(|open| &open.location);
        open.is_some_and(|at| at.token == key.token && at.names(&report.id))
    })?;
    let (role, domain) = (Role::Issuing, &requested.trust_domain);
    Some(format!("{role} of {domain}, planned"))
}

fn issuer<'a>(
    records: &'a Snapshot,
    key: &KeyReport,
) -> Option<(&'a AuthorityRecord, &'a IssuerRecord)> {
    records.issuer(&IssuerId::of_spki(key.public_key.as_ref().ok()?.spki_der()))
}

/// The record that the key was about to be generated, if there is none of its issuer.
pub(super) fn planned<'a>(
    records: &'a Snapshot,
    key: &Listed,
) -> Option<(&'a AuthorityRecord, &'a PlannedKey)> {
    if issuer(records, &key.report).is_some() {
        return None;
    }
    records.authorities.iter().find_map(|authority| {
        let mut planned = authority.planned_keys.iter();
        let is_it = |each: &&PlannedKey| {
            each.location.token == key.token && each.location.names(&key.report.id)
        };
        planned.find(is_it).map(|found| (authority, found))
    })
}

/// Whether the key is only that of requests to an upstream CA that were refused or cancelled.
pub(super) fn is_given_up(records: &Snapshot, key: &KeyReport) -> bool {
    let Ok(public_key) = &key.public_key else {
        return false;
    };
    let id = IssuerId::of_spki(public_key.spki_der());
    let Some((authority, issuer)) = records.issuer(&id) else {
        return false;
    };
    let requests = || authority.requests.iter();
    let of_key = || requests().filter(|request| request.issuer.as_ref() == Some(&id));
    let given_up = |state| matches!(state, CaRequestState::Refused | CaRequestState::Cancelled);
    issuer.state != IssuerState::Active
        && issuer.certificates.is_empty()
        && of_key().next().is_some()
        && of_key().all(|request| given_up(request.state))
}
