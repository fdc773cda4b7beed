//! Module, tokens, PIN, keys, and a test signature.

use std::sync::Arc;
use std::time::Duration;

use super::report::Report;
use crate::config::Config;
use crate::hsm::{Hsm, Token, TokenInfo, TokenState};
use crate::ledger::{IssuerRecord, IssuerState, KeyLocation, Role, Snapshot};
use crate::x509::PublicKey;

/// How long a token may take to come up.
const TOKEN_WAIT: Duration = Duration::from_secs(10);
/// A signature that takes longer holds a mesh up when all its workloads restart.
const SLOW_SIGNATURE: Duration = Duration::from_millis(250);

/// Loads the module, once for all rounds.
pub(super) fn module(
    config: &Config,
    opened: &mut Option<Arc<Hsm>>,
    report: &mut Report,
) -> Option<Arc<Hsm>> {
    if opened.is_none() {
        match Hsm::open(config.hsm()) {
            Ok(hsm) => *opened = Some(Arc::new(hsm)),
            Err(error) => {
                report
                    .fail("module", "load", &error.to_string())
                    .hint("correct hsm.module, or install the HSM's PKCS#11 library");
                return None;
            }
        }
    }
    report.pass(
        "module",
        "load",
        &config.hsm().module().display().to_string(),
    );
    opened.clone()
}

/// Every token of the configuration.
pub(super) async fn tokens(
    config: &Config,
    hsm: &Hsm,
    records: Option<&Snapshot>,
    report: &mut Report,
) {
    let slots = match hsm.slots() {
        Ok(slots) => slots,
        Err(fault) => {
            report.fail("module", "slots", &fault.to_string());
            return;
        }
    };
    for slot in &slots {
        if let Err(fault) = &slot.token {
            let what = format!("its token cannot be asked: {fault}");
            report.warn("module", &format!("slot {}", slot.slot), &what);
        }
    }
    let tokens_found: Vec<&TokenInfo> = slots
        .iter()
        .filter_map(|slot| slot.token.as_ref().ok())
        .collect();
    let mut any = false;
    for name in config.hsm().token_names() {
        any = true;
        if !find_slot(config, name, &tokens_found, report) {
            continue;
        }
        match hsm.token(name) {
            Ok(token) if login(config, &token, report).await => {
                keys(&token, records, report).await;
            }
            Ok(_) => {}
            Err(error) => {
                report.fail("token", name, &error.to_string());
            }
        }
    }
    if !any {
        report
            .fail("token", "tokens", "no token is configured")
            .hint("add [hsm.tokens.main] with `label` and `pin_file`");
    }
}

/// That exactly one slot holds the token, and that its PIN may be tried.
fn find_slot(
    config: &Config,
    name: &str,
    tokens_found: &[&TokenInfo],
    report: &mut Report,
) -> bool {
    let Some(wanted) = config.hsm().token(name) else {
        return false;
    };
    let fits = |info: &&&TokenInfo| {
        wanted.label().is_none_or(|label| label == info.label)
            && wanted.serial().is_none_or(|serial| serial == info.serial)
    };
    let found: Vec<_> = tokens_found.iter().filter(fits).collect();
    let shown = |info: &TokenInfo| format!("{:?} (serial {})", info.label, info.serial);
    match found.as_slice() {
        [one] => {
            report.pass(
                "token",
                name,
                &format!("{} in slot {}", shown(one), one.slot),
            );
            if one.pin_locked() {
                report
                    .fail("pin", name, "the token's user PIN is locked")
                    .hint("the HSM's security officer has to unlock it");
                report.stop_retrying();
                return false;
            }
            if one.pin_final_try() {
                report
                    .fail(
                        "pin",
                        name,
                        "one more wrong PIN locks the token: no login was tried",
                    )
                    .hint("make sure that the PIN is right, then: rootbridge serve --final-try");
                report.stop_retrying();
                return false;
            }
            true
        }
        [] => {
            let there: Vec<_> = tokens_found
                .iter()
                .filter(|i| i.initialized)
                .map(|i| shown(i))
                .collect();
            let there = if there.is_empty() {
                "none".to_owned()
            } else {
                there.join(", ")
            };
            let what = format!("no slot holds it; the module shows {there}");
            report.fail("token", name, &what).hint(&format!(
                "correct `label` or `serial` under [hsm.tokens.{name}]"
            ));
            false
        }
        several => {
            let all: Vec<_> = several.iter().map(|info| shown(info)).collect();
            report
                .fail(
                    "token",
                    name,
                    &format!("several tokens fit: {}", all.join(", ")),
                )
                .hint(&format!("add `serial` under [hsm.tokens.{name}]"));
            false
        }
    }
}

async fn login(config: &Config, token: &Token, report: &mut Report) -> bool {
    let name = token.name();
    let source = config
        .hsm()
        .token(name)
        .map(|token| token.pin().to_string())
        .unwrap_or_default();
    let _state_says_it = token.ready(TOKEN_WAIT).await;
    match token.state() {
        TokenState::Ready => {
            report.pass(
                "pin",
                name,
                &format!("logged in with the PIN from {source}"),
            );
            true
        }
        TokenState::PinRejected => {
            let what =
                format!("the token refused the PIN from {source}; no further attempt is made");
            report
                .fail("pin", name, &what)
                .hint("correct the PIN: repeated attempts would lock the token");
            report.stop_retrying();
            false
        }
        state => {
            report.fail("pin", name, &state.to_string());
            false
        }
    }
}

/// The keys that the records say are here: found, vouched for, and those in use sign.
async fn keys(token: &Arc<Token>, records: Option<&Snapshot>, report: &mut Report) {
    let recorded: Vec<(&IssuerRecord, &KeyLocation)> = records
        .into_iter()
        .flat_map(|records| &records.authorities)
        .flat_map(|authority| &authority.issuers)
        .filter(|issuer| issuer.state != IssuerState::Retired)
        .filter_map(|issuer| {
            Some((
                issuer,
                issuer
                    .locations
                    .iter()
                    .find(|location| location.token == token.name())?,
            ))
        })
        .collect();
    if recorded.is_empty() {
        report
            .warn(
                "keys",
                token.name(),
                "no issuer has a key in this token yet",
            )
            .hint("rootbridge ca init --trust-domain TRUST_DOMAIN, or rootbridge ca request");
        return;
    }
    let present = match token.keys().await {
        Ok(present) => present,
        Err(error) => {
            report.fail("keys", token.name(), &error.to_string());
            return;
        }
    };
    for (issuer, location) in recorded {
        let label = &location.label;
        let Some(key) = present.iter().find(|key| key.id == location.key_id) else {
            report
                .fail(
                    "keys",
                    label,
                    "the token has no private key with the CKA_ID on record",
                )
                .hint("is it the right token? rootbridge key list");
            continue;
        };
        let missing = key.attestation.missing();
        if missing.is_empty() {
            report.pass("keys", label, "made in the token and never out of it");
        } else {
            let what = format!("the token does not report it as {}", missing.join(", "));
            let hint =
                "a copy may exist outside the HSM: make a new key, or set allow_unattested_keys";
            report.fail("keys", label, &what).hint(hint);
        }
        // A root's key is not opened for a check: it signs CA certificates and nothing else.
        if issuer.role == Role::Issuing && issuer.state == IssuerState::Active {
            signature(token, issuer, location, report).await;
        }
    }
}

async fn signature(
    token: &Arc<Token>,
    issuer: &IssuerRecord,
    location: &KeyLocation,
    report: &mut Report,
) {
    let public = match PublicKey::from_spki_der(&issuer.public_key) {
        Ok(public) => public,
        Err(error) => {
            report.fail("signature", &location.label, &error.to_string());
            return;
        }
    };
    let probed = match token.key(&location.key_id, &public).await {
        Ok(key) => key.probe().await,
        Err(error) => Err(error),
    };
    match probed {
        Err(error) => {
            report.fail("signature", &location.label, &error.to_string());
        }
        Ok(found) => match found.signed_in {
            Some(took) if took > SLOW_SIGNATURE => {
                let what = format!("a test signature took {} ms", took.as_millis());
                report
                    .warn("signature", &location.label, &what)
                    .hint("the token is slow or busy");
            }
            Some(took) => {
                let ms = took.as_secs_f64() * 1000.0;
                report.pass(
                    "signature",
                    &location.label,
                    &format!("a test signature took {ms:.1} ms"),
                );
            }
            None => {
                report.warn("signature", &location.label, "no test signature was made");
            }
        },
    }
}
