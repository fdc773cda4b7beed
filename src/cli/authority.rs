//! `authority list` and `authority remove`.

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::format::{or_empty, with_distance};
use super::open::{actor, snapshot, with_ledger};
use super::output;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::issuance::active_row;
use crate::ledger::Change;
use crate::x509::TrustDomain;

#[derive(Debug, clap::Subcommand)]
pub(super) enum AuthorityCommand {
    /// List the authorities, those without an issuing CA among them.
    List(CommonArgs),
    /// Remove an authority that has never issued: a wrong name, or a ceremony that was given up.
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The trust domain.
    #[arg(value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// Why, for the records.
    #[arg(long, value_name = "TEXT", default_value = "removed by an operator")]
    reason: String,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: AuthorityCommand) -> Result<(), Failure> {
    match command {
        AuthorityCommand::List(args) => list(&args),
        AuthorityCommand::Remove(args) => remove(&args),
    }
}

fn list(args: &CommonArgs) -> Result<(), Failure> {
    let records = snapshot(&args.config.load()?)?;
    let authorities = records.authorities.iter();
    if args.format.is_json() {
        let rows = authorities.map(|authority| {
            let active = active_row(authority);
            json!({
                "trust_domain": authority.trust_domain.to_string(),
                "issuer": active.map(|(issuer, _)| issuer.id.to_string()),
                "not_after": active.map(|(_, row)| row.not_after.to_string()),
                "bundle_sequence": authority.bundle.as_ref().map(|bundle| bundle.sequence),
                "created_at": authority.created_at.to_string(),
                "created_by": authority.created_by,
            })
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    let now = SystemClock.now();
    let rows = authorities.map(|authority| {
        let active = active_row(authority);
        let signs = match active {
            Some((issuer, _)) => issuer.id.to_string(),
            None => "none that signs".to_owned(),
        };
        let expires = active.map(|(_, row)| with_distance(row.not_after, now));
        let bundle = authority.bundle.as_ref().map(|bundle| bundle.sequence);
        [
            ("TRUST DOMAIN", authority.trust_domain.to_string()),
            ("ISSUER", signs),
            ("EXPIRES", or_empty(expires)),
            ("BUNDLE", or_empty(bundle)),
            ("SINCE", with_distance(authority.created_at, now)),
            ("BY", authority.created_by.clone()),
        ]
    });
    output::table(
        rows,
        "no authority yet: rootbridge ca init --trust-domain TRUST_DOMAIN",
    )
}

fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let config = args.common.config.load()?;
    let domain = &args.trust_domain;
    let reason = args.reason.trim();
    if reason.is_empty() {
        let message = "the reason is empty: it is kept with what an operator does";
        return Err(Failure::new(Exit::Usage, message));
    }
    not_configured(&config, domain)?;
    with_ledger(&config, async |ledger| {
        let change = Change::RemoveAuthority {
            trust_domain: domain.clone(),
            reason: reason.to_owned(),
        };
        ledger.apply(change, &actor()).await?;
        Ok(())
    })?;
    if args.common.format.is_json() {
        return output::json(&json!({ "removed": domain.to_string() }));
    }
    output::line(format!("removed the authority of {domain}"))?;
    output::note("its keys stay in the tokens: `rootbridge key prune` destroys them")
}

/// A server would make it again.
fn not_configured(config: &Config, domain: &TrustDomain) -> Result<(), Failure> {
    let mut pairs = config.upstream().pairs();
    let Some((_, upstream)) = pairs.find(|(authority, _)| authority.trust_domain() == domain)
    else {
        return Ok(());
    };
    let upstream = upstream.name();
    let message = format!(
        "upstream {upstream} certifies {domain} by the configuration: a running server would make the \
         authority again"
    );
    Err(Failure::new(Exit::Config, message)
        .at(config.file().display())
        .next("remove the trust domain from the configuration, and restart the servers"))
}
