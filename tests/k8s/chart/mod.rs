//! The chart: what helm makes of it, and what a real API server says of that.

mod install;
mod linkerd;
mod monitoring;
mod objects;
mod reference;
mod rights;
pub(crate) mod rules;
mod settings;
mod vault;

pub(crate) use install::{apply, rights};
pub(crate) use linkerd::service as linkerd_service;
pub(crate) use settings::configuration_in as configuration;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::server::built;

/// The release's name and namespace in these tests.
pub(crate) const RELEASE: &str = "rb";

/// A file of the chart.
fn chart(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("deploy/charts/rootbridge").join(name)
}

/// A set of values that is kept beside the chart.
pub(crate) fn values(name: &str) -> Vec<String> {
    let path = chart(&format!("ci/{name}-values.yaml"));
    assert!(path.exists(), "{}", path.display());
    vec!["-f".to_owned(), path.display().to_string()]
}

/// The names of all of them.
fn value_sets() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(chart("ci"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix("-values.yaml").unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    names
}

/// `--set` for each pair, in evaluation's mode.
pub(crate) fn set(pairs: &[&str]) -> Vec<String> {
    let pairs = ["hsm.mode=softhsm"].iter().chain(pairs);
    pairs
        .flat_map(|pair| ["--set".to_owned(), (*pair).to_owned()])
        .collect()
}

fn helm(arguments: &[&str], more: &[String]) -> Output {
    Command::new(built("helm"))
        .args(arguments)
        .args(more)
        // Nothing of this machine's own is read or written.
        .env("HELM_CACHE_HOME", "/nonexistent")
        .env("HELM_CONFIG_HOME", "/nonexistent")
        .env("HELM_DATA_HOME", "/nonexistent")
        .output()
        .unwrap()
}

/// Every object that a set of values makes, in a namespace.
pub(crate) fn render(namespace: &str, values: &[String]) -> Vec<Value> {
    render_as(RELEASE, namespace, values)
}

/// The same for a release of another name.
fn render_as(release: &str, namespace: &str, values: &[String]) -> Vec<Value> {
    rendered(&chart(""), release, namespace, values)
}

/// The same of any chart.
pub(crate) fn rendered(
    chart: &Path,
    release: &str,
    namespace: &str,
    values: &[String],
) -> Vec<Value> {
    let arguments = [
        "template",
        release,
        chart.to_str().unwrap(),
        "-n",
        namespace,
    ];
    let output = helm(&arguments, values);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{values:?}: {message}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("\n---")
        .map(|document| document.trim_start_matches("---"))
        .filter(|document| document.lines().any(|line| line.starts_with("kind:")))
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{e}\n{document}"))
        })
        .collect()
}

/// Why a set of values cannot be used.
fn refused(values: &[String]) -> String {
    let chart = chart("");
    let output = helm(&["template", RELEASE, chart.to_str().unwrap()], values);
    assert!(!output.status.success(), "{values:?} are accepted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one object of a kind.
fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    one
}
