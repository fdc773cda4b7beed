//! `plan`, and the table that docs/explanation/capacity.md has from it.

use serde_json::Value;

use crate::support::Home;

const PAGE: &str = include_str!("../../docs/explanation/capacity.md");

#[test]
fn the_table_of_the_page_is_what_plan_says() {
    let home = Home::new();
    let mut rows = 0;
    for line in PAGE.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [
            _,
            workloads,
            ttl,
            average,
            peak,
            written,
            servers,
            storage,
            first,
            _,
        ] = cells[..]
        else {
            continue;
        };
        let number = workloads.replace(',', "");
        if number.parse::<u64>().is_err() {
            continue;
        }
        rows += 1;
        let said = home
            .run(&["plan", "--workloads", &number, "--ttl", ttl, "--hsm", "200"])
            .ok();
        let facts = [
            ("certificates, on average", average),
            ("certificates, after an outage", peak),
            ("HSM signatures", peak),
            ("database rows written", written),
            ("servers, one of them to spare", servers),
            ("storage in a year", storage),
            ("breaks first", first),
        ];
        for (name, value) in facts {
            let line = said.lines().find(|line| line.starts_with(name)).unwrap();
            let found = line[name.len()..].trim();
            assert_eq!(found, value, "{workloads}, {ttl}: {name}\n{said}");
        }
    }
    assert_eq!(rows, 12);
}

#[test]
fn own_figures_count_and_wrong_ones_are_refused() {
    let home = Home::new();
    let plan = |more: &[&str]| -> Value {
        let arguments = [&["plan", "--workloads", "100000", "-o", "json"], more].concat();
        serde_json::from_str(&home.run(&arguments).ok()).unwrap()
    };
    let plain = plan(&[]);
    assert_eq!(plain["breaks_first"], "server");
    let costly = plan(&["--cpu-us", "42100", "--row-bytes", "1"]);
    assert!(costly["servers"].as_u64() > plain["servers"].as_u64());
    assert_eq!(plan(&["--database", "10"])["breaks_first"], "database");
    for (wrong, part) in [
        (["--renew-at", "1.5"], "--renew-at must be more than 0"),
        (["--hsm", "0"], "must be more than 0"),
        (["--ttl", "1ms"], "must be at least 1s"),
    ] {
        let refused = home.run(&[&["plan", "--workloads", "5"], &wrong[..]].concat());
        let said = refused.fails(2);
        assert!(said.contains(part), "{said}");
    }
}
