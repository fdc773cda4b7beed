//! `rotate`: changes a root or an issuing CA, through the admin port of the running server.

use std::time::Duration;

use serde_json::{Value, json};

use super::admin::{AdminArgs, AdminPort};
use super::bundle_status::text;
use super::compromised::{self, CompromisedArgs, LostTokenArgs};
use super::presence::{self, ForgetArgs, GoneArgs};
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::block_on;
use crate::cli::output::{self, FormatArg};
use crate::x509::{KeyKind, TrustDomain};

/// How often `--watch` asks.
const WATCH: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum RotateCommand {
    /// Start a rotation.
    Start(StartArgs),
    /// Show how far rotations have come, and what each waits for.
    Status(StatusArgs),
    /// Name everything that holds the next move of a rotation back.
    Explain(ExplainArgs),
    /// Make the next move of a rotation, if nothing holds it back.
    Advance(AdvanceArgs),
    /// Turn a rotation around: what was to arrive leaves.
    Back(BackArgs),
    /// Stop an issuing CA at once, and replace it.
    Compromised(CompromisedArgs),
    /// Replace an authority's keys that are lost, with a new root in another token.
    LostToken(LostTokenArgs),
    /// Declare a cluster gone: nothing waits for it until it is heard of again.
    Gone(GoneArgs),
    /// Forget a watcher: nothing waits for it until it reports again.
    Forget(ForgetArgs),
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StartArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// What changes: new-root, key-algorithm, new-issuer, upstream-root or root-leaves.
    #[arg(long, value_name = "KIND", default_value = "new-root")]
    kind: String,
    /// The kind of the new keys. Default: that of the issuing CA that signs.
    #[arg(long, value_name = "KIND", value_parser = KeyKind::for_ca)]
    key: Option<KeyKind>,
    /// The token for the new keys. Default: that of the issuing CA that signs.
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// SHA-256 of the root that leaves, for root-leaves.
    #[arg(long, value_name = "FINGERPRINT")]
    anchor: Option<String>,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StatusArgs {
    /// Only rotations of this trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Include rotations that have ended.
    #[arg(long)]
    all: bool,
    /// Show it again whenever it changes, until no rotation is open.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExplainArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct AdvanceArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// Make the move in spite of what holds it back: what `rotate explain` names will fail.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why, for the records.
    #[arg(long, value_name = "TEXT", requires = "force")]
    reason: Option<String>,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BackArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(in crate::cli) fn run(command: RotateCommand) -> Result<(), Failure> {
    match command {
        RotateCommand::Start(args) => start(args),
        RotateCommand::Status(args) => status(args),
        RotateCommand::Explain(args) => explain(args),
        RotateCommand::Advance(args) => advance(args),
        RotateCommand::Back(args) => back(args),
        RotateCommand::Compromised(args) => compromised::run(args),
        RotateCommand::LostToken(args) => compromised::run_lost_token(args),
        RotateCommand::Gone(args) => presence::gone(args),
        RotateCommand::Forget(args) => presence::forget(args),
    }
}

fn start(args: StartArgs) -> Result<(), Failure> {
    let anchor = args.anchor.map(|given| {
        let given = given.to_ascii_lowercase().replace(':', "");
        given.strip_prefix("sha256").unwrap_or(&given).to_owned()
    });
    let body = json!({
        "trust_domain": args.trust_domain.to_string(),
        "kind": args.kind,
        "key": args.key.map(KeyKind::slug),
        "token": args.token,
        "anchor": anchor,
    });
    let answer = post(args.port, "/v1/rotations/start", &body)?;
    if args.format.is_json() {
        return output::json(&answer);
    }
    output::line(format!("rotation {} starts", text(&answer, "/rotation")))?;
    output::note(format!(
        "watch it: rootbridge rotate status --watch --trust-domain {}",
        args.trust_domain
    ))
}

fn advance(args: AdvanceArgs) -> Result<(), Failure> {
    let body = json!({
        "trust_domain": args.trust_domain.to_string(),
        "force": args.reason,
    });
    moved(args.port, "/v1/rotations/advance", &body, args.format)
}

fn back(args: BackArgs) -> Result<(), Failure> {
    let body = json!({
        "trust_domain": args.trust_domain.to_string(),
        "reason": args.reason,
    });
    moved(args.port, "/v1/rotations/back", &body, args.format)
}

fn moved(port: AdminArgs, path: &str, body: &Value, format: FormatArg) -> Result<(), Failure> {
    let answer = post(port, path, body)?;
    if format.is_json() {
        return output::json(&answer);
    }
    output::line(format!(
        "the rotation is in phase {}",
        text(&answer, "/phase")
    ))
}

fn post(port: AdminArgs, path: &str, body: &Value) -> Result<Value, Failure> {
    let port = AdminPort::new(port)?;
    block_on(port.post(path, body))?
}

fn explain(args: ExplainArgs) -> Result<(), Failure> {
    let port = AdminPort::new(args.port)?;
    let all: Value = block_on(port.get("/v1/rotations"))??;
    let open = chosen(&all, Some(&args.trust_domain), false).pop();
    let Some(open) = open else {
        let message = format!("no rotation of {} is open", args.trust_domain);
        return Err(Failure::new(Exit::Ledger, message).next("rootbridge rotate status --all"));
    };
    if args.format.is_json() {
        return output::json(open);
    }
    show(open)?;
    let held = open.pointer("/held").and_then(Value::as_array);
    let rows = held.into_iter().flatten().map(|reason| {
        [
            ("CONDITION", text(reason, "/condition")),
            ("CLUSTER", text(reason, "/cluster")),
            ("WHAT", text(reason, "/what")),
            ("WHY", text(reason, "/why")),
            ("WHOSE MOVE", text(reason, "/whose")),
            ("UNTIL AT MOST", text(reason, "/until")),
        ]
    });
    output::table(rows, "nothing holds it back: rootbridge rotate advance")
}

fn status(args: StatusArgs) -> Result<(), Failure> {
    let port = AdminPort::new(args.port)?;
    let domain = args.trust_domain.as_ref();
    let mut last = None;
    loop {
        let all: Value = block_on(port.get("/v1/rotations"))??;
        let rotations = chosen(&all, domain, args.all);
        if last.as_ref() != Some(&all) {
            match args.format.is_json() {
                true => output::json(&rotations)?,
                false => print(&rotations)?,
            }
        }
        if !args.watch || chosen(&all, domain, false).is_empty() {
            return Ok(());
        }
        last = Some(all);
        std::thread::sleep(WATCH);
    }
}

/// The rotations of a trust domain; without `ended` the open ones alone.
fn chosen<'a>(all: &'a Value, domain: Option<&TrustDomain>, ended: bool) -> Vec<&'a Value> {
    let rotations = all.pointer("/rotations").and_then(Value::as_array);
    let rotations = rotations.into_iter().flatten().filter(|rotation| {
        let is_open = rotation.pointer("/ended_at").is_none_or(Value::is_null);
        let is_of = domain.is_none_or(|only| text(rotation, "/trust_domain") == only.to_string());
        is_of && (ended || is_open)
    });
    rotations.collect()
}

fn print(rotations: &[&Value]) -> Result<(), Failure> {
    let rows = rotations.iter().map(|rotation| {
        let held = rotation.pointer("/held").and_then(Value::as_array);
        let way = match rotation.pointer("/backwards") {
            Some(Value::Bool(true)) => " (back)",
            _ => "",
        };
        [
            ("TRUST DOMAIN", text(rotation, "/trust_domain")),
            ("ROTATION", text(rotation, "/id")),
            ("KIND", text(rotation, "/kind")),
            ("PHASE", format!("{}{way}", text(rotation, "/phase"))),
            ("SINCE", text(rotation, "/since")),
            ("NEXT", text(rotation, "/next")),
            ("HELD BY", held.map_or(0, Vec::len).to_string()),
            ("UNTIL AT MOST", text(rotation, "/until")),
        ]
    });
    output::table(
        rows,
        "no rotation is open: rootbridge rotate start --trust-domain TRUST_DOMAIN",
    )?;
    for rotation in rotations {
        let held = rotation.pointer("/held").and_then(Value::as_array);
        for reason in held.into_iter().flatten() {
            let cluster = match text(reason, "/cluster") {
                none if none == "-" => String::new(),
                cluster => format!("cluster {cluster}: "),
            };
            let (what, why) = (text(reason, "/what"), text(reason, "/why"));
            let until = match text(reason, "/until") {
                none if none == "-" => String::new(),
                until => format!(", until {until} at most"),
            };
            let whose = text(reason, "/whose");
            output::line(format!("  {cluster}{what}: {why} [{whose}{until}]"))?;
        }
    }
    Ok(())
}

fn show(rotation: &Value) -> Result<(), Failure> {
    output::facts([
        ("rotation", text(rotation, "/id")),
        ("kind", text(rotation, "/kind")),
        ("phase", text(rotation, "/phase")),
        ("since", text(rotation, "/since")),
        ("next", text(rotation, "/next")),
    ])
}
