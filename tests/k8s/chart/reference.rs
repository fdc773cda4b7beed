//! docs/reference/chart.md is generated from the comments in values.yaml.

use std::fs;
use std::path::Path;

use super::chart;

const HEAD: &str = "\
# The Helm chart's values

Generated from the comments in `deploy/charts/rootbridge/values.yaml`.

The values determine the server's permissions in a cluster; [rbac.md](rbac.md) explains them. The keys of
the configuration file, for `config` and the tables of the features, are in [config.md](config.md).

| value | meaning | default |
|---|---|---|
";

/// One row for each key with a `# --` line above it. A key without one that is no section is an
/// error: every value is explained.
fn reference(text: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut meaning: Option<String> = None;
    let lines: Vec<&str> = text.lines().collect();
    // Below a documented table its own keys are a default, not values to explain.
    let mut inside: Option<usize> = None;
    for (at, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if let Some(message) = bare.strip_prefix("# -- ") {
            inside = inside.filter(|depth| indent > *depth);
            meaning = Some(message.to_owned());
            continue;
        }
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        if inside.is_some_and(|depth| indent > depth) {
            continue;
        }
        inside = None;
        let (key, value) = bare
            .split_once(':')
            .unwrap_or_else(|| panic!("line {}: {line}", at + 1));
        path.retain(|(depth, _)| *depth < indent);
        path.push((indent, key.to_owned()));
        let name: Vec<&str> = path.iter().map(|(_, key)| key.as_str()).collect();
        let name = name.join(".");
        let value = value.trim();
        match meaning.take() {
            Some(message) => {
                let default = if value.is_empty() {
                    inside = Some(indent);
                    "see values.yaml".to_owned()
                } else {
                    format!("`{value}`")
                };
                page.push_str(&format!("| `{name}` | {message} | {default} |\n"));
            }
            None => assert!(value.is_empty(), "values.yaml: `{name}` has no `# --` line"),
        }
    }
    page
}

#[test]
fn the_page_is_what_the_values_say() {
    let made = reference(&fs::read_to_string(chart("values.yaml")).unwrap());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/chart.md");
    if fs::read_to_string(&page).unwrap_or_default() != made {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart.md");
        fs::write(&new, made).unwrap();
        panic!("it is stale: cp {} {}", new.display(), page.display());
    }
}

#[test]
fn a_value_without_a_comment_is_found() {
    let good = "# -- Said.\na: 1\nb:\n  # -- Said too.\n  c: {}\n# -- A table.\nd:\n  e: 1\n";
    let page = reference(good);
    for row in [
        "| `a` | Said. | `1` |",
        "| `b.c` | Said too. | `{}` |",
        "| `d` | A table. | see",
    ] {
        assert!(page.contains(row), "{page}");
    }
    assert!(!page.contains("`d.e`"));
    let bad = std::panic::catch_unwind(|| reference("b:\n  c: 1\n"));
    assert!(bad.is_err());
}
