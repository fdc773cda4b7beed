//! `plan`: what a number of workloads needs, from the cost of one certificate.

use std::time::Duration;

use serde::Serialize;

use super::failure::{Exit, Failure};
use super::output::{self, FormatArg};

/// Of the processor for one certificate, in the server: the median in docs/benchmarks.md.
const CPU_US: f64 = 421.0;
/// Rows in the ledger for one certificate: an intent and its outcome.
const ROWS: f64 = 2.0;
/// Bytes of both rows with their indexes, in PostgreSQL: docs/benchmarks.md.
const BYTES: u32 = 1_400;
/// The share of a server's cores that is planned with.
const USED: f64 = 0.6;
const YEAR: f64 = 365.25 * 86_400.0;

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// How many workloads have a certificate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    workloads: u64,
    /// How long a certificate is valid.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "24h")]
    ttl: Duration,
    /// The part of its life after which a certificate is renewed.
    #[arg(long, value_name = "PART", default_value_t = 0.5)]
    renew_at: f64,
    /// The time in which all workloads must get a certificate after an outage.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30m")]
    restart: Duration,
    /// Cores of one server.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    cores: u32,
    /// Time of the processor for one certificate, in microseconds.
    #[arg(long, value_name = "US", default_value_t = CPU_US)]
    cpu_us: f64,
    /// Bytes in the ledger for one certificate.
    #[arg(long, value_name = "N", default_value_t = BYTES)]
    row_bytes: u32,
    /// Signatures a second of the HSM; without it, what it must be able to do is printed alone.
    #[arg(long, value_name = "N")]
    hsm: Option<f64>,
    /// Rows a second that the database writes durably; without it, it is not compared.
    #[arg(long, value_name = "N")]
    database: Option<f64>,
    /// What the ledger may grow to in a year, in bytes; without it, it is not compared.
    #[arg(long, value_name = "BYTES")]
    storage: Option<f64>,
    #[command(flatten)]
    format: FormatArg,
}

/// What is needed. Rates are for a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Plan {
    workloads: u64,
    ttl_seconds: u64,
    /// Certificates on an average day.
    certificates: f64,
    /// Certificates after an outage, if that is more.
    peak: f64,
    /// C_Sign at the peak.
    hsm_signatures: f64,
    /// Rows at the peak.
    database_rows: f64,
    /// Servers for the peak, and one more.
    servers: u64,
    storage_bytes_a_year: f64,
    breaks_first: Limit,
    /// The peak in parts of what that bears; more than 1 is too much.
    load: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Limit {
    /// The processors of one server.
    Server,
    Hsm,
    Database,
    Storage,
}

impl Limit {
    const fn says(self) -> &'static str {
        match self {
            Self::Server => "the cores of one server",
            Self::Hsm => "the HSM's signatures",
            Self::Database => "the database's writes",
            Self::Storage => "the ledger's storage",
        }
    }
}

impl PlanArgs {
    fn check(&self) -> Result<(), Failure> {
        let wrong = |problem: &str| Err(Failure::new(Exit::Usage, problem.to_owned()));
        if !(self.renew_at > 0.0 && self.renew_at <= 1.0) {
            return wrong("--renew-at must be more than 0 and at most 1");
        }
        if self.ttl < Duration::from_secs(1) || self.restart < Duration::from_secs(1) {
            return wrong("--ttl and --restart must be at least 1s");
        }
        let positive = [Some(self.cpu_us), self.hsm, self.database, self.storage];
        let positive = positive.into_iter().flatten();
        if !{ positive }.all(|value| value > 0.0 && value.is_finite()) {
            return wrong("--cpu-us, --hsm, --database and --storage must be more than 0");
        }
        Ok(())
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "estimates"
    )]
    fn plan(&self) -> Plan {
        let workloads = self.workloads as f64;
        let certificates = workloads / (self.ttl.as_secs_f64() * self.renew_at);
        let peak = certificates.max(workloads / self.restart.as_secs_f64());
        let one_server = f64::from(self.cores) * 1e6 * USED / self.cpu_us;
        let storage = certificates * f64::from(self.row_bytes) * YEAR;
        let limits = [
            (Limit::Server, Some(peak / one_server)),
            (Limit::Hsm, self.hsm.map(|hsm| peak / hsm)),
            (
                Limit::Database,
                self.database.map(|database| peak * ROWS / database),
            ),
            (Limit::Storage, self.storage.map(|most| storage / most)),
        ];
        let loads = limits
            .into_iter()
            .filter_map(|(limit, load)| Some((limit, load?)));
        let (breaks_first, load) = loads
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .unwrap_or((Limit::Server, 0.0));
        Plan {
            workloads: self.workloads,
            ttl_seconds: self.ttl.as_secs(),
            certificates,
            peak,
            hsm_signatures: peak,
            database_rows: peak * ROWS,
            servers: (peak / one_server).ceil() as u64 + 1,
            storage_bytes_a_year: storage,
            breaks_first,
            load,
        }
    }
}

pub(super) fn run(args: &PlanArgs) -> Result<(), Failure> {
    args.check()?;
    let plan = args.plan();
    if args.format.is_json() {
        return output::json(&plan);
    }
    output::facts([
        ("certificates, on average", rate(plan.certificates)),
        ("certificates, after an outage", rate(plan.peak)),
        ("HSM signatures", rate(plan.hsm_signatures)),
        ("database rows written", rate(plan.database_rows)),
        ("servers, one of them to spare", plan.servers.to_string()),
        ("storage in a year", bytes(plan.storage_bytes_a_year)),
        (
            "breaks first",
            format!(
                "{}, at {:.0} %",
                plan.breaks_first.says(),
                plan.load * 100.0
            ),
        ),
    ])
}

fn rate(value: f64) -> String {
    match value {
        value if value < 0.1 => format!("{value:.3} /s"),
        value if value < 10.0 => format!("{value:.2} /s"),
        value => format!("{value:.0} /s"),
    }
}

fn bytes(value: f64) -> String {
    match value {
        value if value < 1e9 => format!("{:.0} MB", value / 1e6),
        value if value < 1e12 => format!("{:.1} GB", value / 1e9),
        value => format!("{:.1} TB", value / 1e12),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PlanArgs,
    }

    fn plan(arguments: &str) -> Plan {
        let line = Line::parse_from(format!("plan {arguments}").split(' '));
        line.args.check().unwrap();
        line.args.plan()
    }

    #[test]
    fn the_numbers_follow_from_one_certificate() {
        let day = plan("--workloads 100000 --ttl 24h");
        // 100,000 in twelve hours; and in half an hour.
        assert!((day.certificates - 2.3148).abs() < 0.001, "{day:?}");
        assert!((day.peak - 55.556).abs() < 0.001, "{day:?}");
        assert_eq!((day.servers, day.breaks_first), (2, Limit::Server));
        // Lives of an hour are twice as short as the outage's half hour is long: the average is the peak.
        let hour = plan("--workloads 100000 --ttl 1h");
        assert!((hour.certificates - hour.peak).abs() < 0.001, "{hour:?}");
        assert!((hour.storage_bytes_a_year / day.storage_bytes_a_year - 24.0).abs() < 0.001);
        // What the user knows of the own HSM and database decides what breaks first.
        let slow = plan("--workloads 100000 --ttl 24h --hsm 50 --database 1000");
        assert_eq!(slow.breaks_first, Limit::Hsm);
        assert!(slow.load > 1.0, "{slow:?}");
        let slow = plan("--workloads 100000 --ttl 24h --hsm 5000 --database 150");
        assert_eq!(slow.breaks_first, Limit::Database);
        let full = plan("--workloads 100000 --ttl 1h --storage 1000000000");
        assert_eq!(full.breaks_first, Limit::Storage);
        let many = plan("--workloads 1000000 --ttl 1h --cores 1 --cpu-us 1000");
        assert_eq!(many.servers, 2);
    }
}
