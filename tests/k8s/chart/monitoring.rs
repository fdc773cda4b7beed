//! The alerts and the dashboard as the chart makes objects of them.

use std::fs;

use serde_json::Value;

use super::{chart, only, render, set};

/// Every alert is in the PrometheusRule, with the templates of its annotations as they are.
#[test]
fn the_rule_holds_every_alert() {
    let values = set(&[
        "prometheus.rules.enabled=true",
        "prometheus.rules.runbookUrl=https://wiki.example/alerts",
        "prometheus.rules.disabled={RootbridgeSigningSlow}",
        "prometheus.rules.labels.release=monitoring",
    ]);
    let objects = render("default", &values);
    let rule = only(&objects, "PrometheusRule");
    assert_eq!(rule["metadata"]["labels"]["release"], "monitoring");
    let groups = rule["spec"]["groups"].as_array().unwrap().iter();
    let rules: Vec<&Value> = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    let file = fs::read_to_string(chart("monitoring/alerts.yaml")).unwrap();
    let lines = file.lines().map(str::trim);
    let mut names: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("- alert: "))
        .collect();
    names.retain(|name| *name != "RootbridgeSigningSlow");
    let made: Vec<_> = rules
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    assert_eq!(made, names);
    for rule in rules {
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        let anchor = rule["alert"].as_str().unwrap().to_lowercase();
        assert_eq!(url, format!("https://wiki.example/alerts#{anchor}"));
    }
    assert!(file.contains("{{ $labels.token }}"));
    let token = rule.to_string();
    assert!(
        token.contains("Token {{ $labels.token }} has failed"),
        "{token}"
    );
}

#[test]
fn the_dashboard_is_the_file() {
    let objects = render("default", &set(&["prometheus.dashboard.enabled=true"]));
    let maps = objects.iter().filter(|object| {
        object["kind"] == "ConfigMap" && object["metadata"]["labels"]["grafana_dashboard"] == "1"
    });
    let maps: Vec<_> = maps.collect();
    let [map] = maps[..] else {
        panic!("{} dashboards", maps.len())
    };
    let made: Value =
        serde_json::from_str(map["data"]["rootbridge.json"].as_str().unwrap()).unwrap();
    let file = fs::read_to_string(chart("monitoring/dashboard.json")).unwrap();
    assert_eq!(made, serde_json::from_str::<Value>(&file).unwrap());
    // Neither is there unless it is asked for.
    let objects = render("default", &set(&[]));
    let text = serde_json::to_string(&objects).unwrap();
    assert!(!text.contains("PrometheusRule") && !text.contains("grafana_dashboard"));
}
