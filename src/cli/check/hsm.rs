//! The module, tokens, PINs, keys, and a test signature.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::report::Report;
use crate::cli::format::joined;
use crate::cli::open::TOKEN_READY;
use crate::config::Config;
use crate::hsm::{Hsm, KeyReport, Token, TokenConfig, TokenInfo, TokenState};
use crate::ledger::{IssuerRecord, IssuerState, KeyLocation, Role, Snapshot};
use crate::x509::PublicKey;

/// A slower signature delays a mesh in which all workloads restart.
const SLOW_SIGNATURE: Duration = Duration::from_millis(250);

/// Loads the module, or reuses `loaded` when the checks are repeated.
pub(super) fn module(
    config: &Config,
    loaded: &mut Option<Arc<Hsm>>,
    report: &mut Report,
) -> Option<Arc<Hsm>> {
    if loaded.is_none() {
        match Hsm::open(config.hsm()) {
            Ok(hsm) => *loaded = Some(Arc::new(hsm)),
            Err(error) => report
                .fail("module", "load", error)
                .hint("correct hsm.module, or install the HSM's PKCS#11 library"),
        }
    }
    if loaded.is_some() {
        for module in config.hsm().modules() {
            report.pass("module", "load", module.display());
        }
    }
    loaded.clone()
}

/// Every configured token.
pub(super) async fn tokens(
    config: &Config,
    hsm: &Hsm,
    records: Option<&Snapshot>,
    report: &mut Report,
) {
    let slots = match hsm.slots() {
        Ok(slots) => slots,
        Err(error) => return report.error("module", "slots", error),
    };
    let mut present = Vec::new();
    for slot in &slots {
        match &slot.token {
            Ok(token) => {
                if let Some(reason) = &token.unreadable {
                    let detail = format!("its token does not describe itself: {reason}");
                    report
                        .warn("module", &format!("slot {}", slot.slot), detail)
                        .hint(format!(
                            "name it by its slot: uri = \"pkcs11:slot-id={}\"",
                            slot.slot
                        ));
                }
                present.push((slot.module.as_path(), token));
            }
            Err(error) => {
                let detail = format!("its token cannot be read: {error}");
                report.warn("module", &format!("slot {}", slot.slot), detail);
            }
        }
    }
    let mut names = config.hsm().token_names().peekable();
    if names.peek().is_none() {
        report
            .fail("token", "tokens", "no token is configured")
            .hint("add [hsm.tokens.main] with `label` and `pin_file`");
    }
    for name in names {
        if !find_slot(config, name, &present, report) {
            continue;
        }
        match hsm.token(name) {
            Ok(token) if login(config, &token, report).await => {
                let wanted = config.hsm().token(name);
                let allow_unattested = wanted.is_some_and(TokenConfig::allows_unattested_keys);
                let same = config.hsm().same_keys(name);
                keys(&token, &same, records, allow_unattested, report).await;
            }
            Ok(_) => {}
            Err(error) => report.error("token", name, error),
        }
    }
}

/// Checks that exactly one slot holds the token, and that a login cannot lock its PIN.
fn find_slot(
    config: &Config,
    name: &str,
    present: &[(&Path, &TokenInfo)],
    report: &mut Report,
) -> bool {
    let Some(wanted) = config.hsm().token(name) else {
        return false;
    };
    let here = present
        .iter()
        .filter(|(module, _)| *module == wanted.module());
    let present: Vec<&TokenInfo> = here.map(|(_, info)| *info).collect();
    let mut found: Vec<_> = present.iter().filter(|info| wanted.matches(info)).collect();
    // The flag is a hint: some modules never set it.
    if found.iter().any(|info| info.initialized) {
        found.retain(|info| info.initialized);
    }
    let shown = |info: &TokenInfo| format!("{:?} (serial {})", info.label, info.serial);
    match found.as_slice() {
        [one] => {
            let slot = format!("{} in slot {}", shown(one), one.slot);
            report.pass("token", name, slot);
            if one.pin_locked() {
                report
                    .fail("pin", name, "the token's user PIN is locked")
                    .hint("the HSM's security officer has to unlock it");
            } else if one.pin_final_try() {
                report
                    .fail(
                        "pin",
                        name,
                        "one more wrong PIN locks the token: no login was tried",
                    )
                    .hint("make sure that the PIN is right, then: rootbridge serve --final-try");
            } else {
                return true;
            }
            report.stop_retrying();
        }
        [] => {
            let named = |info: &&&TokenInfo| info.initialized || !info.label.is_empty();
            let initialized = present.iter().filter(named);
            let others = match joined(initialized.map(|info| shown(info)), ", ") {
                none if none.is_empty() => "none".to_owned(),
                others => others,
            };
            let detail = format!("no slot holds it; tokens of the module: {others}");
            let hint = format!("correct `label` or `serial` under [hsm.tokens.{name}]");
            report.fail("token", name, detail).hint(hint);
        }
        several => {
            let all = joined(several.iter().map(|info| shown(info)), ", ");
            report
                .fail("token", name, format!("several tokens match: {all}"))
                .hint(format!("add `serial` under [hsm.tokens.{name}]"));
        }
    }
    false
}

async fn login(config: &Config, token: &Token, report: &mut Report) -> bool {
    let name = token.name();
    let wanted = config.hsm().token(name);
    let source = wanted.map(TokenConfig::pin_description).unwrap_or_default();
    let _reported_by_state = token.ready(TOKEN_READY).await;
    match token.state() {
        TokenState::Ready => {
            let detail = match wanted.and_then(TokenConfig::pin) {
                Some(_) => format!("logged in with the PIN from {source}"),
                None => "no login, as the configuration says".to_owned(),
            };
            report.pass("pin", name, detail);
            return true;
        }
        TokenState::PinRejected => {
            let detail =
                format!("the token refused the PIN from {source}; no further attempt is made");
            report
                .fail("pin", name, detail)
                .hint("correct the PIN: repeated attempts would lock the token");
            report.stop_retrying();
        }
        state => {
            if state.needs_operator() {
                report.stop_retrying();
            }
            report.error("pin", name, state);
        }
    }
    false
}

/// Checks the recorded keys of the token, and of those with the same keys: presence, attributes, and a signature
/// by active ones.
async fn keys(
    token: &Arc<Token>,
    same: &[&str],
    records: Option<&Snapshot>,
    allow_unattested: bool,
    report: &mut Report,
) {
    let authorities = records.into_iter().flat_map(|records| &records.authorities);
    let recorded: Vec<(&IssuerRecord, &KeyLocation)> = authorities
        .flat_map(|authority| &authority.issuers)
        .filter(|issuer| issuer.state != IssuerState::Retired)
        .filter_map(|issuer| {
            let mut locations = issuer.locations.iter();
            let location = locations.find(|location| {
                location.token == token.name() || same.contains(&location.token.as_str())
            })?;
            Some((issuer, location))
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
        Err(error) => return report.error("keys", token.name(), error),
    };
    for (issuer, location) in recorded {
        let label = &location.label;
        let is_recorded = |key: &&KeyReport| {
            let public = key.public_key.as_ref();
            public.is_ok_and(|public| public.spki_der() == issuer.public_key)
        };
        // The public key says which one it is; a token that shows none leaves the CKA_ID.
        let has_id = |key: &&KeyReport| key.id == location.key_id && key.public_key.is_err();
        let found = present.iter().find(is_recorded);
        let Some(key) = found.or_else(|| present.iter().find(has_id)) else {
            report
                .fail(
                    "keys",
                    label,
                    "the token has no private key of the recorded public key",
                )
                .hint("is it the right token, and is the key copied to it? rootbridge key list");
            continue;
        };
        let missing = key.attestation.missing();
        if missing.is_empty() {
            report.pass("keys", label, "generated in the token, never extractable");
        } else {
            let detail = format!("the token does not report it as {}", missing.join(", "));
            match allow_unattested {
                true => report
                    .warn("keys", label, detail)
                    .hint("a copy may exist outside the HSM; allow_unattested_keys lets it sign"),
                false => report.fail("keys", label, detail).hint(
                    "a copy may exist outside the HSM: create a new key, or set \
                     allow_unattested_keys",
                ),
            }
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
    let label = &location.label;
    let public = match PublicKey::from_spki_der(&issuer.public_key) {
        Ok(public) => public,
        Err(error) => return report.error("signature", label, error),
    };
    let probe = match token.key(&location.key_id, &public).await {
        Ok(key) => key.probe().await,
        Err(error) => Err(error),
    };
    let took = match probe {
        Ok(probe) => probe.signing_time,
        Err(error) => return report.error("signature", label, error),
    };
    match took {
        Some(took) => {
            let ms = took.as_secs_f64() * 1000.0;
            let detail = format!("a test signature took {ms:.1} ms");
            match took > SLOW_SIGNATURE {
                true => report
                    .warn("signature", label, detail)
                    .hint("the token is slow or busy"),
                false => report.pass("signature", label, detail),
            }
        }
        None => {
            report.warn("signature", label, "no test signature was made");
        }
    }
}
