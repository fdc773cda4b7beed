//! `cert list` and `cert show`.

use serde_json::{Value, json};

use super::config_arg::{CommonArgs, ConfigArg};
use super::failure::{Exit, Failure};
use super::format::{or_empty, with_distance};
use super::open::with_ledger;
use super::output::{self, CertificateFormat};
use super::time::DateOrDuration;
use crate::clock::{Clock as _, SystemClock};
use crate::digest::hex;
use crate::ledger::{CertificateRow, Filter, IntentId, IssuerId, Kind, State};
use crate::x509::{Serial, TrustDomain, to_pem};

#[derive(Debug, clap::Subcommand)]
pub(super) enum CertCommand {
    /// List recorded certificates, newest first.
    List(ListArgs),
    /// Show one certificate and how it was issued.
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The subject's name, or a prefix of it that ends with `*`.
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
    /// The issuer's ID, from `ca list`.
    #[arg(long, value_name = "ID")]
    issuer: Option<IssuerId>,
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Recorded since: a date, or a duration before now.
    #[arg(long, value_name = "DATE|DURATION")]
    since: Option<DateOrDuration>,
    /// Recorded before: a date, or a duration before now.
    #[arg(long, value_name = "DATE|DURATION")]
    until: Option<DateOrDuration>,
    /// Expires after: a date, or a duration from now.
    #[arg(long, value_name = "DATE|DURATION")]
    expires_after: Option<DateOrDuration>,
    /// Expires before: a date, or a duration from now.
    #[arg(long, value_name = "DATE|DURATION")]
    expires_before: Option<DateOrDuration>,
    /// The maximum number of certificates.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Continue after this ID, the last of the list before.
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The serial number, with or without colons.
    serial: Serial,
    /// The issuer, where several have used the serial number.
    #[arg(long, value_name = "ID")]
    issuer: Option<IssuerId>,
    #[command(flatten)]
    config: ConfigArg,
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: CertificateFormat,
}

pub(super) fn run(command: CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::List(args) => list(args),
        CertCommand::Show(args) => show(&args),
    }
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let config = args.common.config.load()?;
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
    if args.common.format.is_json() {
        return output::json(&rows.iter().map(row_json).collect::<Vec<_>>());
    }
    let cells = rows.iter().map(|row| {
        [
            ("ID", row.id.to_string()),
            ("SUBJECT", row.subject.clone()),
            ("STATE", row.state.to_string()),
            ("KIND", row.kind.to_string()),
            ("RECORDED", row.recorded_at.to_string()),
            (
                "EXPIRES",
                or_empty(row.not_after.map(|time| with_distance(time, now))),
            ),
            ("SERIAL", or_empty(row.serial.as_ref())),
        ]
    });
    output::table(cells, "no record matches")?;
    let is_full = u32::try_from(rows.len()).is_ok_and(|count| count == args.limit);
    match rows.last().filter(|_| is_full) {
        Some(last) => output::note(format!("there may be more: --after {}", last.id)),
        None => Ok(()),
    }
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let row = with_ledger(&config, async |ledger| {
        let found = ledger
            .certificate(args.issuer.clone(), &args.serial)
            .await?;
        found.ok_or_else(|| {
            let message = format!("no certificate with serial {} is recorded", args.serial);
            Failure::new(Exit::Ledger, message).next("rootbridge cert list")
        })
    })?;
    let pem = row.der()?.map(|der| match row.kind {
        Kind::Request => to_pem("CERTIFICATE REQUEST", &der),
        Kind::Leaf | Kind::Ca => to_pem("CERTIFICATE", &der),
    });
    match args.output {
        CertificateFormat::Pem => output::raw(pem.ok_or_else(|| {
            let message = format!("{} has no certificate: it is {}", args.serial, row.state);
            Failure::new(Exit::Ledger, message)
        })?),
        CertificateFormat::Json => {
            let mut value = row_json(&row);
            if let Some(object) = value.as_object_mut() {
                object.insert("pem".to_owned(), json!(pem));
            }
            output::json(&value)
        }
        CertificateFormat::Table => {
            print_facts(&row, &args.serial)?;
            output::raw(pem.unwrap_or_default())
        }
    }
}

fn print_facts(row: &CertificateRow, serial: &Serial) -> Result<(), Failure> {
    let now = SystemClock.now();
    let caller = &row.caller;
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let instance = format!("{} (epoch {})", row.epoch.instance, row.epoch.boot);
    output::facts([
        ("subject", row.subject.clone()),
        ("serial", serial.to_string()),
        ("state", row.state.to_string()),
        ("reason", or_dash(&row.reason)),
        ("kind", row.kind.to_string()),
        ("profile", row.profile.clone()),
        ("issuer", row.issuer.to_string()),
        ("not before", or_empty(row.not_before)),
        (
            "not after",
            or_empty(row.not_after.map(|time| with_distance(time, now))),
        ),
        ("recorded", row.recorded_at.to_string()),
        ("concluded", or_empty(row.concluded_at)),
        ("caller", caller.identity.clone()),
        ("  by", format!("{} {}", caller.method, caller.detail)),
        ("  cluster", or_dash(&caller.cluster)),
        ("  pod", or_dash(&caller.pod)),
        ("  node", or_dash(&caller.node)),
        ("request", row.request_id.clone()),
        ("instance", instance),
        ("public key", format!("sha256:{}", hex(&row.spki_sha256))),
    ])
}

fn row_json(row: &CertificateRow) -> Value {
    json!({
        "id": row.id.get(),
        "kind": row.kind.as_str(),
        "state": row.state.as_str(),
        "reason": row.reason,
        "subject": row.subject,
        "serial_number": row.serial.as_ref().map(ToString::to_string),
        "issuer": row.issuer.to_string(),
        "profile": row.profile,
        "not_before": row.not_before.map(|time| time.to_string()),
        "not_after": row.not_after.map(|time| time.to_string()),
        "recorded_at": row.recorded_at.to_string(),
        "concluded_at": row.concluded_at.map(|time| time.to_string()),
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
