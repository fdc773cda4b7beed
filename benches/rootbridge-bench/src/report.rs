//! The result, for people and for programs; docs/benchmarks.md explains the figures.

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::baseline::Baseline;
use crate::load::Window;
use crate::run::Run;
use crate::{Args, Format};

/// Prints one run, and fails if a call failed.
pub(crate) fn single(args: &Args, prepared: usize, baseline: &Baseline, run: &Run) -> Result<()> {
    let (window, floor) = (&run.window, baseline.floor_cpu_us());
    let (cores, seconds) = (f64::from(baseline.cores), window.elapsed.as_secs_f64());
    let other = window.other_cpu.as_secs_f64() / seconds / cores * 100.0;
    let efficiency = window.per_second() * floor / 1e6 / cores;
    let start_ms = run.first_certificate.as_secs_f64() * 1e3;
    let figures = [
        (
            "raw_signs_per_second",
            round(baseline.raw_signs_per_second, 0),
        ),
        ("cores", baseline.cores.into()),
        ("sign_cpu_us", round(baseline.sign_cpu_us, 1)),
        ("possession_cpu_us", round(baseline.possession_cpu_us, 1)),
        ("check_cpu_us", round(baseline.check_cpu_us, 1)),
        ("floor_cpu_us", round(floor, 1)),
        ("rows", args.rows.into()),
        ("connections", args.connections.into()),
        ("prepared", prepared.into()),
        ("window_seconds", round(seconds, 2)),
        ("certificates", window.certificates().into()),
        ("answers_checked", window.checked.into()),
        ("errors", window.calls.errors.into()),
        ("csrs_per_second", round(window.per_second(), 0)),
        ("p50_ms", round(window.percentile_ms(50), 2)),
        ("p99_ms", round(window.percentile_ms(99), 2)),
        ("server_cpu_us_per_csr", round(window.server_cpu_us(), 1)),
        ("client_cpu_us_per_csr", round(window.client_cpu_us(), 1)),
        ("other_cpu_percent", round(other, 1)),
        ("cpu_ratio", round(window.server_cpu_us() / floor, 2)),
        ("efficiency", round(efficiency, 3)),
        ("rss_idle_mib", round(run.rss_idle_mib, 1)),
        ("rss_load_mib", round(run.rss_load_mib, 1)),
        ("start_to_first_certificate_ms", round(start_ms, 0)),
    ];
    print(args.output, &figures)?;
    fail_on_errors(&[window])
}

/// Prints what the second of two servers costs relative to the first.
pub(crate) fn comparison(args: &Args, pairs: &[(Window, Window)]) -> Result<()> {
    let percent = |figure: fn(&Window) -> f64| {
        let ratio = |(first, second): &(Window, Window)| figure(second) / figure(first);
        (median(pairs.iter().map(ratio).collect()) - 1.0) * 100.0
    };
    let windows: Vec<&Window> = pairs.iter().flat_map(|(a, b)| [a, b]).collect();
    let errors: u64 = windows.iter().map(|window| window.calls.errors).sum();
    let each: Vec<Value> = pairs
        .iter()
        .map(|(first, second)| json!([window_figures(first), window_figures(second)]))
        .collect();
    let mut figures = vec![
        ("rows", args.rows.into()),
        ("slowdown_percent", round(-percent(Window::per_second), 2)),
        (
            "server_cpu_percent",
            round(percent(Window::server_cpu_us), 2),
        ),
        ("errors", errors.into()),
    ];
    match args.output {
        Format::Json => figures.push(("pairs", each.into())),
        Format::Table => figures.push(("pairs", each.len().into())),
    }
    print(args.output, &figures)?;
    fail_on_errors(&windows)
}

fn window_figures(window: &Window) -> Value {
    json!({
        "csrs_per_second": round(window.per_second(), 0),
        "server_cpu_us_per_csr": round(window.server_cpu_us(), 1),
        "p99_ms": round(window.percentile_ms(99), 2),
    })
}

fn print(format: Format, figures: &[(&str, Value)]) -> Result<()> {
    if format == Format::Json {
        let figures = figures
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        return print_json(&figures.collect::<Map<_, _>>());
    }
    for (name, value) in figures {
        println!("{name:<32}{value}");
    }
    Ok(())
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Figures with errors among the calls are not valid.
fn fail_on_errors(windows: &[&Window]) -> Result<()> {
    let errors: u64 = windows.iter().map(|window| window.calls.errors).sum();
    if errors > 0 {
        let first: Vec<_> = windows
            .iter()
            .flat_map(|window| window.calls.first_errors.iter().map(String::as_str))
            .collect();
        bail!("{errors} calls or answers failed\n{}", first.join("\n"));
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

fn round(value: f64, digits: i32) -> Value {
    let factor = 10_f64.powi(digits);
    ((value * factor).round() / factor).into()
}
