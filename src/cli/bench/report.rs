//! What was found, for people and for programs.

use serde::Serialize;
use serde_json::json;

use super::BenchArgs;
use super::load::Window;
use super::place::failed;
use super::prepare::Found;
use super::run::Run;
use crate::cli::failure::Failure;
use crate::cli::output;

/// The figures of one run; the names are documented in docs/benchmarks.md.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    raw_signs_per_second: f64,
    floor_cpu_us: f64,
    csrs_per_second: f64,
    cores: usize,
    efficiency: f64,
    server_cpu_us_per_csr: f64,
    client_cpu_us_per_csr: f64,
    cpu_ratio: f64,
    rss_idle_mib: f64,
    rss_load_mib: f64,
    start_to_first_certificate_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    errors: u64,
    /// What the rest of the machine took of the cores meanwhile.
    other_cpu_percent: f64,
    /// The floor's parts.
    sign_cpu_us: f64,
    possession_cpu_us: f64,
    check_cpu_us: f64,
    certificates: u32,
    answers_checked: usize,
    prepared: usize,
    window_seconds: f64,
    connections: u32,
    rows: u64,
}

impl Report {
    pub(super) fn new(args: &BenchArgs, prepared: usize, found: &Found, run: &Run) -> Self {
        let floor = found.floor_cpu_us();
        let other = run.window.other_cpu.as_secs_f64();
        let cores = f64::from(u32::try_from(found.cores).unwrap_or(u32::MAX));
        Self {
            raw_signs_per_second: round(found.raw_signs_per_second, 0),
            floor_cpu_us: round(floor, 1),
            csrs_per_second: round(run.window.per_second(), 0),
            cores: found.cores,
            efficiency: round(run.window.per_second() * floor / 1e6 / cores, 3),
            server_cpu_us_per_csr: round(run.window.server_cpu_us(), 1),
            client_cpu_us_per_csr: round(run.window.client_cpu_us(), 1),
            cpu_ratio: round(run.window.server_cpu_us() / floor, 2),
            rss_idle_mib: round(run.rss_idle_mib, 1),
            rss_load_mib: round(run.rss_load_mib, 1),
            start_to_first_certificate_ms: round(run.first_certificate.as_secs_f64() * 1e3, 0),
            p50_ms: round(run.window.percentile_ms(50), 2),
            p99_ms: round(run.window.percentile_ms(99), 2),
            errors: run.window.outcome.errors,
            other_cpu_percent: round(other / run.window.took.as_secs_f64() / cores * 100.0, 1),
            sign_cpu_us: round(found.sign_cpu_us, 1),
            possession_cpu_us: round(found.possession_cpu_us, 1),
            check_cpu_us: round(found.check_cpu_us, 1),
            certificates: run.window.certificates(),
            answers_checked: run.window.checked,
            prepared,
            window_seconds: round(run.window.took.as_secs_f64(), 2),
            connections: args.connections,
            rows: args.rows,
        }
    }

    pub(super) fn print(&self, as_json: bool, said: &[String]) -> Result<(), Failure> {
        match as_json {
            true => output::json(self)?,
            false => output::facts(&self.facts())?,
        }
        verdict(self.errors, said)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Self {
            sign_cpu_us,
            possession_cpu_us,
            check_cpu_us,
            ..
        } = self;
        vec![
            (
                "token, by itself",
                format!(
                    "{} signatures/s on {} cores",
                    self.raw_signs_per_second, self.cores
                ),
            ),
            (
                "floor",
                format!(
                    "{} µs CPU: C_Sign {sign_cpu_us}, proof of possession {possession_cpu_us}, check {check_cpu_us}",
                    self.floor_cpu_us
                ),
            ),
            (
                "end to end",
                format!(
                    "{} CSR/s: {} certificates in {} s over {} connections, {} answers checked, {} calls prepared, {} rows before",
                    self.csrs_per_second,
                    self.certificates,
                    self.window_seconds,
                    self.connections,
                    self.answers_checked,
                    self.prepared,
                    self.rows
                ),
            ),
            (
                "latency",
                format!("p50 {} ms, p99 {} ms", self.p50_ms, self.p99_ms),
            ),
            (
                "CPU per CSR",
                format!(
                    "server {} µs, callers {} µs",
                    self.server_cpu_us_per_csr, self.client_cpu_us_per_csr
                ),
            ),
            (
                "cpu_ratio",
                format!(
                    "{} (server's CPU per CSR ÷ floor; goal 2.5 or less)",
                    self.cpu_ratio
                ),
            ),
            (
                "efficiency",
                format!(
                    "{} (CSR/s × floor ÷ cores; goal 0.33 or more)",
                    self.efficiency
                ),
            ),
            (
                "memory",
                format!(
                    "{} MiB idle, {} MiB at most",
                    self.rss_idle_mib, self.rss_load_mib
                ),
            ),
            (
                "first certificate",
                format!("{} ms after the start", self.start_to_first_certificate_ms),
            ),
            (
                "the rest",
                format!(
                    "{} % of the cores went to everything else on the machine",
                    self.other_cpu_percent
                ),
            ),
            ("errors", self.errors.to_string()),
        ]
    }
}

/// Prints what the second of two servers costs beside the first.
pub(super) fn compare(
    args: &BenchArgs,
    pairs: &[(Window, Window)],
    as_json: bool,
) -> Result<(), Failure> {
    let percent = |figure: fn(&Window) -> f64| {
        let mut all: Vec<f64> = pairs
            .iter()
            .map(|(first, second)| (figure(second) / figure(first) - 1.0) * 100.0)
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        median(&all)
    };
    let slowdown = round(-percent(Window::per_second), 2);
    let cpu = round(percent(Window::server_cpu_us), 2);
    let windows = || pairs.iter().flat_map(|(first, second)| [first, second]);
    let errors: u64 = windows().map(|window| window.outcome.errors).sum();
    if as_json {
        let figures = |window: &Window| {
            json!({
                "csrs_per_second": round(window.per_second(), 0),
                "server_cpu_us_per_csr": round(window.server_cpu_us(), 1),
                "p99_ms": round(window.percentile_ms(99), 2),
            })
        };
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(first, second)| json!([figures(first), figures(second)]))
            .collect();
        output::json(&json!({
            "rows": args.rows, "pairs": pairs, "slowdown_percent": slowdown,
            "server_cpu_percent": cpu, "errors": errors,
        }))?;
    } else {
        output::facts(&[
            ("rows", args.rows.to_string()),
            ("pairs", pairs.len().to_string()),
            ("slower by", format!("{slowdown} % (median)")),
            ("server's CPU", format!("{cpu:+} % (median)")),
            ("errors", errors.to_string()),
        ])?;
    }
    let said: Vec<String> = windows()
        .flat_map(|window| window.outcome.said.clone())
        .collect();
    verdict(errors, &said)
}

/// A figure that was had with errors counts for nothing.
fn verdict(errors: u64, said: &[String]) -> Result<(), Failure> {
    match errors {
        0 => Ok(()),
        _ => Err(said.iter().take(5).fold(
            failed(format!("{errors} calls or answers were wrong")),
            |failure, why| failure.next(why.clone()),
        )),
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    match sorted.len() % 2 {
        0 => f64::midpoint(at(middle.saturating_sub(1)), at(middle)),
        _ => at(middle),
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}
