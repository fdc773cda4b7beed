//! The token and the authority: created at the first start, found at later ones.

use std::time::Duration;

use secrecy::SecretString;

use super::state_dir::{LABEL, StateDir, TOKEN, TRUST_DOMAIN, random};
use crate::app::Core;
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::{self, Content};
use crate::cli::format::pem;
use crate::cli::open::{actor, with_core};
use crate::config::Config;
use crate::issuance::InitOptions;
use crate::ledger::{IssuerState, Role};
use crate::x509::{Certificate, KeyKind, TrustDomain};

const DAY: Duration = Duration::from_secs(86_400);

/// Creates the token and its authority, writes the trust bundle to `bundle.pem`, and returns the first
/// anchor.
pub(super) fn token_and_authority(
    config: &Config,
    state: &StateDir,
) -> Result<Certificate, Failure> {
    with_core(config, async |core| {
        token(core, state)?;
        authority(core).await?;
        bundle(core, state).await
    })
}

fn token(core: &Core, state: &StateDir) -> Result<(), Failure> {
    let slots = core.hsm.slots();
    let slots = slots.map_err(|error| Failure::new(Exit::Hsm, error.to_string()))?;
    let mut tokens = slots.iter().filter_map(|slot| slot.token.as_ref().ok());
    match tokens.find(|token| token.initialized && token.label == LABEL) {
        Some(token) if token.pin_initialized => Ok(()),
        Some(_) => {
            let dir = state.dir().display();
            let message = "an earlier start initialized the token only in part";
            Err(Failure::new(Exit::Hsm, message)
                .at(&dir)
                .next(format!("it holds no key yet: rm -r {dir}")))
        }
        None => {
            let pin = std::fs::read_to_string(state.pin())
                .map_err(|error| Failure::file("read", &state.pin(), &error))?;
            // The security officer's PIN is stored nowhere: it is not needed again.
            let officer = SecretString::from(random()?.as_str());
            let pin = SecretString::from(pin.trim_end());
            core.hsm.init_token(None, LABEL, &officer, &pin)?;
            Ok(())
        }
    }
}

async fn authority(core: &Core) -> Result<(), Failure> {
    let trust_domain = trust_domain()?;
    let records = core.ledger.snapshot().await?;
    let has_active_issuer = records.authority(&trust_domain).is_some_and(|authority| {
        let mut issuers = authority.issuers.iter();
        issuers.any(|i| i.role == Role::Issuing && i.state == IssuerState::Active)
    });
    if has_active_issuer {
        return Ok(());
    }
    let options = InitOptions {
        trust_domain,
        token: TOKEN.to_owned(),
        kind: KeyKind::EcdsaP256,
        root_key: None,
        issuing_key: None,
        root_ttl: DAY * 3650,
        issuing_ttl: DAY * 365,
        path_len: 0,
        organization: Some("rootbridge dev".to_owned()),
    };
    core.ceremony(actor()).init(options).await?;
    Ok(())
}

async fn bundle(core: &Core, state: &StateDir) -> Result<Certificate, Failure> {
    let damaged = |message: String| Failure::new(Exit::Ledger, message);
    let bundle = core
        .ledger
        .bundle(&trust_domain()?, None)
        .await?
        .ok_or_else(|| damaged(format!("{TRUST_DOMAIN} has no trust bundle")))?;
    let anchors: Vec<Certificate> = bundle
        .anchors
        .iter()
        .map(|der| Certificate::parse(der.as_slice()))
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(error.to_string()))?;
    files::write(
        &state.bundle(),
        Content::Public(pem(&anchors).as_bytes()),
        true,
    )?;
    anchors
        .into_iter()
        .next()
        .ok_or_else(|| damaged("the trust bundle is empty".to_owned()))
}

fn trust_domain() -> Result<TrustDomain, Failure> {
    TrustDomain::parse(TRUST_DOMAIN).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}
