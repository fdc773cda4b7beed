//! `rotate compromised`: stops an issuing CA at once, and replaces it.

use std::io::BufRead as _;

use serde_json::{Value, json};

use super::admin::{AdminArgs, AdminPort};
use super::bundle_status::text;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::block_on;
use crate::cli::output::{self, FormatArg};
use crate::ledger::IssuerId;
use crate::x509::TrustDomain;

const PATH: &str = "/v1/rotations/compromised";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CompromisedArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// The issuing CA, from `ca list`. Default: the one that signs.
    #[arg(long, value_name = "ID")]
    issuer: Option<IssuerId>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LostTokenArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// The token for the new keys, by its name in the configuration.
    #[arg(long, value_name = "NAME")]
    token: String,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(in crate::cli) fn run_lost_token(args: LostTokenArgs) -> Result<(), Failure> {
    let token = args.token;
    let args = CompromisedArgs {
        trust_domain: args.trust_domain,
        issuer: None,
        reason: args.reason,
        yes: args.yes,
        port: args.port,
        format: args.format,
    };
    replace(args, Some(token))
}

pub(in crate::cli) fn run(args: CompromisedArgs) -> Result<(), Failure> {
    replace(args, None)
}

fn replace(args: CompromisedArgs, new_root_in: Option<String>) -> Result<(), Failure> {
    let port = AdminPort::new(args.port)?;
    let call = |confirmed: bool, issuer: Option<String>| {
        json!({
            "trust_domain": args.trust_domain.to_string(),
            "issuer": issuer,
            "reason": args.reason,
            "new_root_in": new_root_in,
            "confirmed": confirmed,
        })
    };
    let given = args.issuer.as_ref().map(IssuerId::to_string);
    let planned: Value = block_on(port.post(PATH, &call(false, given)))??;
    if !args.yes {
        ask(&planned)?;
    }
    // The one that was shown, even if another signs by now.
    let shown = text(&planned, "/issuer");
    let done: Value = block_on(port.post(PATH, &call(true, Some(shown))))??;
    if args.format.is_json() {
        return output::json(&done);
    }
    output::line(format!("issuer {} is retired", text(&done, "/issuer")))?;
    if done.pointer("/rotation").is_some_and(Value::is_number) {
        let rotation = text(&done, "/rotation");
        output::line(format!("rotation {rotation} brings its successor"))?;
    }
    output::note(format!(
        "its certificates are accepted until their root leaves: rootbridge rotate start --kind new-root \
         --trust-domain {}",
        args.trust_domain
    ))
}

/// Shows what lives below it, and fails unless the operator says yes.
fn ask(planned: &Value) -> Result<(), Failure> {
    let holders = planned.pointer("/holders").and_then(Value::as_array);
    for holder in holders.into_iter().flatten() {
        let (subject, until) = (text(holder, "/subject"), text(holder, "/until"));
        let what = match holder.pointer("/is_ca") {
            Some(Value::Bool(true)) => "a CA, which may have issued more",
            _ => "alive",
        };
        output::note(format!("{subject}: {what}, until {until}"))?;
    }
    output::note(format!(
        "issuer {}: {} certificates are alive, the last until {}; {}",
        text(planned, "/issuer"),
        text(planned, "/alive"),
        text(planned, "/until"),
        text(planned, "/next"),
    ))?;
    output::note("Retire it now? It never signs again. Write yes:")?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && answer.trim() == "yes" {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, "nothing was changed").next("--yes answers it")),
    }
}
