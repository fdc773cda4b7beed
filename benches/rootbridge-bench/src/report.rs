//! The result, for people and for programs.

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::baseline::Baseline;
use crate::load::Window;
use crate::run::Run;
use crate::{Args, Format};

/// The figures of one run; docs/benchmarks.md explains them.
#[derive(Serialize)]
pub(crate) struct Report {
    raw_signs_per_second: f64,
    floor_cpu_us: f64,
    csrs_per_second: f64,
    cores: u32,
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
    other_cpu_percent: f64,
    sign_cpu_us: f64,
    possession_cpu_us: f64,
    check_cpu_us: f64,
    certificates: u32,
    answers_checked: usize,
    prepared: usize,
    window_seconds: f64,
    connections: u32,
    rows: u64,
    #[serde(skip)]
    first_errors: Vec<String>,
}

impl Report {
    pub(crate) fn new(args: &Args, prepared: usize, baseline: &Baseline, run: &Run) -> Self {
        let (window, floor) = (&run.window, baseline.floor_cpu_us());
        let cores = f64::from(baseline.cores);
        let seconds = window.elapsed.as_secs_f64();
        Self {
            raw_signs_per_second: round(baseline.raw_signs_per_second, 0),
            floor_cpu_us: round(floor, 1),
            csrs_per_second: round(window.per_second(), 0),
            cores: baseline.cores,
            efficiency: round(window.per_second() * floor / 1e6 / cores, 3),
            server_cpu_us_per_csr: round(window.server_cpu_us(), 1),
            client_cpu_us_per_csr: round(window.client_cpu_us(), 1),
            cpu_ratio: round(window.server_cpu_us() / floor, 2),
            rss_idle_mib: round(run.rss_idle_mib, 1),
            rss_load_mib: round(run.rss_load_mib, 1),
            start_to_first_certificate_ms: round(run.first_certificate.as_secs_f64() * 1e3, 0),
            p50_ms: round(window.percentile_ms(50), 2),
            p99_ms: round(window.percentile_ms(99), 2),
            errors: window.calls.errors,
            other_cpu_percent: round(window.other_cpu.as_secs_f64() / seconds / cores * 100.0, 1),
            sign_cpu_us: round(baseline.sign_cpu_us, 1),
            possession_cpu_us: round(baseline.possession_cpu_us, 1),
            check_cpu_us: round(baseline.check_cpu_us, 1),
            certificates: window.certificates(),
            answers_checked: window.checked,
            prepared,
            window_seconds: round(seconds, 2),
            connections: args.connections,
            rows: args.rows,
            first_errors: window.calls.first_errors.clone(),
        }
    }

    pub(crate) fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Json => print_json(self)?,
            Format::Table => self.print_table(),
        }
        fail_on_errors(self.errors, &self.first_errors)
    }

    fn print_table(&self) {
        let Self {
            raw_signs_per_second,
            floor_cpu_us,
            csrs_per_second,
            cores,
            efficiency,
            server_cpu_us_per_csr,
            client_cpu_us_per_csr,
            cpu_ratio,
            rss_idle_mib,
            rss_load_mib,
            start_to_first_certificate_ms,
            p50_ms,
            p99_ms,
            errors,
            other_cpu_percent,
            sign_cpu_us,
            possession_cpu_us,
            check_cpu_us,
            certificates,
            answers_checked,
            prepared,
            window_seconds,
            connections,
            rows,
            first_errors: _,
        } = self;
        println!("token alone         {raw_signs_per_second} signatures/s on {cores} cores");
        println!(
            "floor               {floor_cpu_us} µs CPU: C_Sign {sign_cpu_us}, proof of possession \
             {possession_cpu_us}, check {check_cpu_us}"
        );
        println!(
            "end to end          {csrs_per_second} CSR/s: {certificates} certificates in \
             {window_seconds} s over {connections} connections, {answers_checked} answers checked, \
             {prepared} calls prepared, {rows} rows before"
        );
        println!("latency             p50 {p50_ms} ms, p99 {p99_ms} ms");
        println!(
            "CPU per CSR         server {server_cpu_us_per_csr} µs, callers {client_cpu_us_per_csr} µs"
        );
        println!(
            "cpu_ratio           {cpu_ratio} (server's CPU per CSR ÷ floor; goal 2.5 or less)"
        );
        println!("efficiency          {efficiency} (CSR/s × floor ÷ cores; goal 0.33 or more)");
        println!("memory              {rss_idle_mib} MiB idle, {rss_load_mib} MiB at most");
        println!("first certificate   {start_to_first_certificate_ms} ms after the start");
        println!("other programs      {other_cpu_percent} % of the cores");
        println!("errors              {errors}");
    }
}

/// Prints what the second of two servers costs relative to the first.
pub(crate) fn compare(args: &Args, pairs: &[(Window, Window)]) -> Result<()> {
    let percent = |figure: fn(&Window) -> f64| {
        let ratio = |(first, second): &(Window, Window)| figure(second) / figure(first);
        (median(pairs.iter().map(ratio).collect()) - 1.0) * 100.0
    };
    let slowdown = round(-percent(Window::per_second), 2);
    let cpu = round(percent(Window::server_cpu_us), 2);
    let windows = || pairs.iter().flat_map(|(first, second)| [first, second]);
    let errors: u64 = windows().map(|window| window.calls.errors).sum();
    match args.output {
        Format::Json => {
            let figures =
                |(first, second): &(Window, Window)| json!([figures(first), figures(second)]);
            print_json(&json!({
                "rows": args.rows,
                "pairs": pairs.iter().map(figures).collect::<Vec<_>>(),
                "slowdown_percent": slowdown,
                "server_cpu_percent": cpu,
                "errors": errors,
            }))?;
        }
        Format::Table => {
            println!("rows           {}", args.rows);
            println!("pairs          {}", pairs.len());
            println!("slower by      {slowdown} % (median)");
            println!("server's CPU   {cpu:+} % (median)");
            println!("errors         {errors}");
        }
    }
    let first_errors: Vec<_> = windows()
        .flat_map(|window| window.calls.first_errors.clone())
        .collect();
    fail_on_errors(errors, &first_errors)
}

fn figures(window: &Window) -> Value {
    json!({
        "csrs_per_second": round(window.per_second(), 0),
        "server_cpu_us_per_csr": round(window.server_cpu_us(), 1),
        "p99_ms": round(window.percentile_ms(99), 2),
    })
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Figures with errors among the calls are not valid.
fn fail_on_errors(errors: u64, first_errors: &[String]) -> Result<()> {
    if errors > 0 {
        bail!(
            "{errors} calls or answers failed\n{}",
            first_errors.join("\n")
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(at(middle.saturating_sub(1)), at(middle)),
        _ => at(middle),
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}
