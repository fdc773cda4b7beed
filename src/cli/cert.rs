//! `cert list` and `cert show`.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::config_arg::ConfigArg;
use super::failure::{Exit, Failure};
use super::format::with_distance;
use super::open::with_ledger;
use super::output::{self, FormatArg};
use super::time::DateOrDuration;
use crate::clock::{Clock as _, SystemClock};
use crate::digest::hex;
use crate::ledger::{CertificateRow, Filter, IntentId, IssuerId, Kind, State};
use crate::x509::{Serial, TrustDomain, to_pem};

#[derive(Debug, clap::Subcommand)]
pub(super) enum CertCommand {
    /// List what was recorded, newest first.
    List(ListArgs),
    /// Show one certificate and how it came about.
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The subject's name; with a last `*`, what it begins with.
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The serial number.
    #[arg(long, value_name = "HEX")]
    serial: Option<Serial>,
    /// pending, issued, failed or unknown.
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// leaf, ca or request.
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// The issuer, as `ca list` shows it.
    #[arg(long, value_name = "ID")]
    issuer: Option<IssuerId>,
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Recorded since: a date, or a span back from now.
    #[arg(long, value_name = "DATE|DURATION")]
    since: Option<DateOrDuration>,
    /// Recorded before: a date, or a span back from now.
    #[arg(long, value_name = "DATE|DURATION")]
    until: Option<DateOrDuration>,
    /// Expires after: a date, or a span on from now.
    #[arg(long, value_name = "DATE|DURATION")]
    expires_after: Option<DateOrDuration>,
    /// Expires before: a date, or a span on from now.
    #[arg(long, value_name = "DATE|DURATION")]
    expires_before: Option<DateOrDuration>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Go on after the last ID of a list.
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ShowFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// The certificate.
    Pem,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The serial number, with or without colons.
    serial: Serial,
    /// The issuer, where several have used the serial.
    #[arg(long, value_name = "ID")]
    issuer: Option<IssuerId>,
    #[command(flatten)]
    config: ConfigArg,
    /// The form of the result.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ShowFormat,
}

pub(super) fn run(command: CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::List(args) => list(args),
        CertCommand::Show(args) => show(&args),
    }
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let now = SystemClock.now();
    let filter = Filter {
        subject: args.subject,
        serial: args.serial,
        state: args.state,
        kind: args.kind,
        issuer: args.issuer,
        trust_domain: args.trust_domain,
        recorded_after: args.since.map(|time| time.before(now)),
        recorded_before: args.until.map(|time| time.before(now)),
        expires_after: args.expires_after.map(|time| time.after(now)),
        expires_before: args.expires_before.map(|time| time.after(now)),
        limit: args.limit,
        before_id: args.after.map(IntentId::new),
    };
    let rows = with_ledger(&config, async |ledger| {
        Ok(ledger.certificates(filter).await?)
    })?;
    if args.format.is_json() {
        return output::json(&rows.iter().map(facts).collect::<Vec<_>>());
    }
    let full = u32::try_from(rows.len()).is_ok_and(|count| count == args.limit);
    let last = rows.last().map(|row| row.id);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.to_string(),
                row.subject.clone(),
                row.state.to_string(),
                row.kind.to_string(),
                row.recorded_at.to_string(),
                row.not_after
                    .map(|at| with_distance(at, now))
                    .unwrap_or_default(),
                row.serial
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ]
        })
        .collect();
    let headings = [
        "ID", "SUBJECT", "STATE", "KIND", "RECORDED", "EXPIRES", "SERIAL",
    ];
    output::table(&headings, &rows, "nothing on record fits")?;
    match last.filter(|_| full) {
        Some(last) => output::note(&format!("there may be more: --after {last}")),
        None => Ok(()),
    }
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let row = with_ledger(&config, async |ledger| {
        Ok(ledger
            .certificate(args.issuer.clone(), &args.serial)
            .await?)
    })?;
    let row = row.ok_or_else(|| {
        Failure::new(
            Exit::Ledger,
            format!("no certificate with serial {} is on record", args.serial),
        )
        .next("rootbridge cert list")
    })?;
    let der = row.der()?;
    let pem = der.as_deref().map(|der| match row.kind {
        Kind::Request => to_pem("CERTIFICATE REQUEST", der),
        Kind::Leaf | Kind::Ca => to_pem("CERTIFICATE", der),
    });
    match args.output {
        ShowFormat::Pem => match pem {
            Some(pem) => output::raw(pem.as_bytes()),
            None => {
                let what = format!("{} has no certificate: it is {}", args.serial, row.state);
                Err(Failure::new(Exit::Ledger, what))
            }
        },
        ShowFormat::Json => {
            let mut value = facts(&row);
            if let Some(object) = value.as_object_mut() {
                object.insert("pem".to_owned(), json!(pem));
            }
            output::json(&value)
        }
        ShowFormat::Table => {
            let caller = &row.caller;
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let now = SystemClock.now();
            output::facts(&[
                ("subject", row.subject.clone()),
                ("serial", args.serial.to_string()),
                ("state", row.state.to_string()),
                ("reason", text(&row.reason)),
                ("kind", row.kind.to_string()),
                ("profile", row.profile.clone()),
                ("issuer", row.issuer.to_string()),
                (
                    "not before",
                    row.not_before.map(|at| at.to_string()).unwrap_or_default(),
                ),
                (
                    "not after",
                    row.not_after
                        .map(|at| with_distance(at, now))
                        .unwrap_or_default(),
                ),
                ("recorded", row.recorded_at.to_string()),
                (
                    "concluded",
                    row.concluded_at
                        .map(|at| at.to_string())
                        .unwrap_or_default(),
                ),
                ("caller", caller.identity.clone()),
                ("  by", format!("{} {}", caller.method, caller.detail)),
                ("  cluster", text(&caller.cluster)),
                ("  pod", text(&caller.pod)),
                ("  node", text(&caller.node)),
                ("request", row.request_id.clone()),
                (
                    "instance",
                    format!("{} (start {})", row.epoch.instance, row.epoch.boot),
                ),
                ("public key", format!("sha256:{}", hex(&row.spki_sha256))),
            ])?;
            output::raw(pem.unwrap_or_default().as_bytes())
        }
    }
}

fn facts(row: &CertificateRow) -> Value {
    json!({
        "id": row.id.get(),
        "kind": row.kind.as_str(),
        "state": row.state.as_str(),
        "reason": row.reason,
        "subject": row.subject,
        "serial_number": row.serial.as_ref().map(ToString::to_string),
        "issuer": row.issuer.to_string(),
        "profile": row.profile,
        "not_before": row.not_before.map(|at| at.to_string()),
        "not_after": row.not_after.map(|at| at.to_string()),
        "recorded_at": row.recorded_at.to_string(),
        "concluded_at": row.concluded_at.map(|at| at.to_string()),
        "spki_sha256": hex(&row.spki_sha256),
        "request_id": row.request_id,
        "origin": row.idempotency_key,
        "instance": { "name": row.epoch.instance, "boot": row.epoch.boot },
        "caller": {
            "trust_domain": row.caller.trust_domain.to_string(),
            "identity": row.caller.identity,
            "method": row.caller.method.as_str(),
            "detail": row.caller.detail,
            "cluster": row.caller.cluster,
            "pod": row.caller.pod,
            "node": row.caller.node,
        },
    })
}
