//! No test looks for a bare number in a text: a log line's time, a port or an id may hold it by chance.

use std::path::Path;

use super::tokens::flatten;

/// One line for each `contains("403")` below `root/tests`.
fn sought(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in super::sources(&root.join("tests")) {
        let name = file.strip_prefix(root).unwrap().display();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = in_text(&text).into_iter();
        found.extend(lines.map(|line| format!("{name}:{line}: say what the number stands in")));
    }
    found
}

fn in_text(text: &str) -> Vec<usize> {
    let flat = flatten(text).unwrap();
    flat.windows(3)
        .filter(|row| row[0].0 == "contains" && row[1].0 == "(" && is_number(&row[2].0))
        .map(|row| row[2].1)
        .collect()
}

/// Whether a token is a string of digits, with what parts them in times and addresses.
fn is_number(token: &str) -> bool {
    let inner = token.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.is_some_and(|inner| {
        inner.contains(|c: char| c.is_ascii_digit())
            && inner
                .chars()
                .all(|c| c.is_ascii_digit() || ".:-".contains(c))
            && inner.len() < 6
    })
}

#[test]
fn no_text_is_searched_for_a_bare_number() {
    let found = sought(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn such_searches_are_found() {
    let text = "fn f() {\n\
                log.contains(\"403\");\n\
                log.contains(\"403 Forbidden\");\n\
                !log\n.contains(\n\"1.5\");\n\
                all.contains(&\"403\");\n\
                log.contains(\"127.0.0.1\"); }";
    assert_eq!(in_text(text), [2, 6]);
}
