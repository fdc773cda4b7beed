//! The alerts and the dashboard of the chart: by Prometheus' own tools, and against a running server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::process::Process;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, free_port};
use serde_json::Value;

use crate::outage::Lock;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap()
}

const ALERTS: &str = "deploy/charts/rootbridge/monitoring/alerts.yaml";
const DASHBOARD: &str = "deploy/charts/rootbridge/monitoring/dashboard.json";
const SCENARIOS: &str = "tests/fixtures/monitoring/scenarios.yaml";

/// What follows `mark` in its lines.
fn named<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix(mark)).collect()
}

/// The names of our metrics in a text, as they are on the page of metrics' documentation.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("rootbridge_"));
    ours.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned())
        .collect()
}

/// Every expression of the dashboard, for all servers.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array());
    let expressions = targets
        .flatten()
        .map(|target| target["expr"].as_str().unwrap());
    let filled = expressions.map(|each| {
        let each = each.replace("$instance", ".*");
        each.replace("$__rate_interval", "1m")
    });
    filled.collect()
}

/// Each alert fires for its fault and no other, and ends; and somebody has written what to do about it.
#[test]
fn each_alert_has_a_scenario_and_a_runbook() {
    run(Command::new("promtool")
        .args(["check", "rules"])
        .arg(file(ALERTS)));
    run(Command::new("promtool")
        .args(["test", "rules"])
        .arg(file(SCENARIOS)));
    let (alerts, scenarios) = (text(ALERTS), text(SCENARIOS));
    let alerts = named(&alerts, "- alert: ");
    assert!(alerts.len() >= 20, "{alerts:?}");
    for alert in &alerts {
        let mark = format!("alertname: {alert}\n");
        let parts: Vec<_> = scenarios.split(&mark).collect();
        let [_, fires, ends] = parts[..] else {
            panic!("{alert}: {} scenarios", parts.len() - 1)
        };
        assert!(
            fires
                .trim_start()
                .starts_with("exp_alerts:\n          - exp_labels"),
            "{alert}: {fires}"
        );
        assert!(
            ends.trim_start().starts_with("exp_alerts: []"),
            "{alert}: {ends}"
        );
    }
    let runbook = text("docs/how-to/answer-alerts.md");
    let sections = named(&runbook, "### ");
    assert_eq!(
        sections, alerts,
        "the sections of docs/how-to/answer-alerts.md"
    );
}

/// docs/reference/metrics.md is compared with the server's page by another test.
#[test]
fn what_alerts_and_dashboard_ask_for_exists() {
    let documented = text("docs/reference/metrics.md");
    for path in [ALERTS, DASHBOARD] {
        let names = metrics(&text(path));
        assert!(names.len() > 15, "{path}: {names:?}");
        for name in names {
            assert!(
                documented.contains(&format!("| `{name}` |")),
                "{path}: {name}"
            );
        }
    }
}

/// A Prometheus that scrapes a server, with the chart's alerts, which do not wait before they fire.
struct Prometheus {
    url: String,
    http: reqwest::Client,
    _process: Process,
}

impl Prometheus {
    fn start(setup: &TestServer, server: &RunningServer) -> Self {
        let alerts = text(ALERTS);
        let at_once = alerts
            .lines()
            .filter(|line| !line.trim().starts_with("for: "));
        let at_once: String = at_once.map(|line| format!("{line}\n")).collect();
        fs::write(setup.path("alerts.yaml"), at_once).unwrap();
        let config = format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\nrule_files: [alerts.yaml]\n\
             scrape_configs:\n  - job_name: rootbridge\n    static_configs: [{{targets: [\"127.0.0.1:{}\"]}}]\n",
            server.admin
        );
        let path = setup.path("prometheus.yaml");
        fs::write(&path, config).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(&path);
        command
            .arg("--storage.tsdb.path")
            .arg(setup.path("prometheus"));
        command.arg(format!("--web.listen-address={address}"));
        Self {
            url: format!("http://{address}/api/v1"),
            http: reqwest::Client::new(),
            _process: Process::start(&mut command, &setup.path("prometheus.log")),
        }
    }

    /// The `data` of an answer; `None` until Prometheus listens.
    async fn get(&self, path: &str) -> Option<Value> {
        let answer = self
            .http
            .get(format!("{}/{path}", self.url))
            .send()
            .await
            .ok()?;
        let answer: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        assert_ne!(answer["status"], "error", "{path}: {answer}");
        Some(answer["data"].clone())
    }

    async fn firing(&self) -> BTreeSet<String> {
        let data = self.get("alerts").await.unwrap_or_default();
        let alerts = data["alerts"].as_array().into_iter().flatten();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Whether the query has a result.
    async fn has(&self, query: &str) -> bool {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let data = self.get(&format!("query?query={encoded}")).await;
        data.is_some_and(|data| !data["result"].as_array().unwrap().is_empty())
    }

    /// Waits until the alert fires, and until it has ended after `repair`.
    async fn fire_and_end<T>(&self, alert: &str, fault: T, repair: impl FnOnce(T)) {
        eventually(PATIENCE, alert, async || {
            self.firing().await.contains(alert)
        })
        .await;
        repair(fault);
        eventually(PATIENCE, &format!("the end of {alert}"), async || {
            !self.firing().await.contains(alert) && self.has("rootbridge_build_info").await
        })
        .await;
    }
}

/// The token and the ledger go away and come back; every panel whose metrics the server has shows them.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_each_state_of_an_outage() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    // A counter that begins at one shows no growth.
    for counter in [
        "rootbridge_certificates_refused_total{cause=\"internal\"}",
        "rootbridge_listener_dropped_total{listener=\"mesh\",reason=\"memory\"}",
    ] {
        assert_eq!(server.metric(counter).await, Some(0.0), "{counter}");
    }
    let prometheus = Prometheus::start(&setup, &server);
    let scraped = "rootbridge_certificates_issued_total == 1";
    eventually(PATIENCE, "a scrape", async || prometheus.has(scraped).await).await;
    let quiet = "no alert of a server that is well";
    let outage = [
        "RootbridgeAbsent",
        "RootbridgeTokenDown",
        "RootbridgeLedgerDown",
    ];
    eventually(PATIENCE, quiet, async || {
        let firing = prometheus.firing().await;
        outage.iter().all(|alert| !firing.contains(*alert))
    })
    .await;

    let (here, away) = (setup.path("token/tokens"), setup.path("token/away"));
    fs::rename(&here, &away).unwrap();
    let back = |_| fs::rename(&away, &here).unwrap();
    prometheus
        .fire_and_end("RootbridgeTokenDown", (), back)
        .await;
    let lock = Lock::take(&setup);
    prometheus
        .fire_and_end("RootbridgeLedgerDown", lock, drop)
        .await;

    let (_, page) = server.get("/metrics").await;
    let has_samples = |name: &String| {
        let mut lines = page.lines();
        lines.any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
        })
    };
    let mut shown = 0;
    for query in queries() {
        // A fault of its syntax fails in any case.
        let found = prometheus.has(&query).await;
        if metrics(&query).iter().all(has_samples) {
            eventually(PATIENCE, &query, async || prometheus.has(&query).await).await;
            shown += 1;
        } else {
            assert!(!found, "{query}");
        }
    }
    assert!(shown >= 15, "{shown} panels");
    server.stop().await;
}
