//! docs/architecture.md, held against the tree: its layers are those that are enforced, the files
//! that it names exist, and so do the tests that it cites as proof.

use std::fs;
use std::path::Path;

/// One line for each claim of the document that the tree does not bear out. `layers` is the table
/// that the imports are checked against.
pub(super) fn wrong_claims(root: &Path, layers: &[&[&str]]) -> Vec<String> {
    let text = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let mut wrong = Vec::new();
    let rows = table(&text);
    let expected: Vec<(String, String)> = layers
        .iter()
        .enumerate()
        .flat_map(|(layer, modules)| {
            modules
                .iter()
                .map(move |module| (layer.to_string(), (*module).to_owned()))
        })
        .filter(|(_, module)| module != "main")
        .collect();
    for row in &expected {
        if !rows.contains(row) {
            wrong.push(format!("no row for `{}` in layer {}", row.1, row.0));
        }
    }
    for row in &rows {
        if !expected.contains(row) {
            wrong.push(format!("`{}` is not in layer {}", row.1, row.0));
        }
    }
    // Code spans alternate with prose.
    for span in text.split('`').skip(1).step_by(2) {
        let (path, test) = match span.split_once("::") {
            Some((path, test)) => (path, Some(test)),
            None => (span, None),
        };
        let is_path = [
            "src/", "tests/", "benches/", "docs/", "deploy/", "proto/", "scripts/",
        ]
        .iter()
        .any(|start| path.starts_with(start));
        if !is_path || path.contains(['*', '<', ' ']) {
            continue;
        }
        let file = root.join(path);
        match test {
            _ if !file.exists() => wrong.push(format!("{path} does not exist")),
            Some(test) if !has_test(&file, test) => {
                wrong.push(format!("{path} has no test `{test}`"))
            }
            _ => {}
        }
    }
    wrong
}

/// The rows of the table of layers: `| 2 | `hsm` | … |`.
fn table(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let layer = cells.next()?;
            let module = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            layer.parse::<usize>().ok()?;
            Some((layer.to_owned(), module.to_owned()))
        })
        .collect()
}

fn has_test(file: &Path, test: &str) -> bool {
    let name = test.rsplit("::").next().unwrap();
    fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}(")))
}
