//! Fields of log lines: none has a name that the line has itself, or its value in Rust's own notation.

use std::path::Path;

use super::tokens::flatten;

/// What each line in JSON has: a field of the same name would be a second value for it.
const OWN: &[&str] = &["timestamp", "level", "message", "target", "span", "spans"];
const MACROS: &[&str] = &["trace", "debug", "info", "warn", "error", "event"];

/// One line for each such field below `root/src`.
pub(super) fn unusable(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in super::sources(&root.join("src")) {
        let name = file.strip_prefix(root).unwrap().display();
        let text = std::fs::read_to_string(&file).unwrap();
        let in_file = in_text(&text).into_iter();
        found.extend(in_file.map(|(line, what)| format!("{name}:{line}: {what}")));
    }
    found
}

fn in_text(text: &str) -> Vec<(usize, String)> {
    let flat = flatten(text).unwrap();
    let mut found = Vec::new();
    for at in 0..flat.len() {
        let called = |offset: usize| flat.get(at + offset).map(|(token, _)| token.as_str());
        let is_log = called(0) == Some("tracing")
            && called(1) == Some("::")
            && called(2).is_some_and(|name| MACROS.contains(&name))
            && called(3) == Some("!")
            && called(4) == Some("(");
        if is_log {
            found.extend(
                arguments(&flat[at + 5..])
                    .into_iter()
                    .filter_map(unusable_field),
            );
        }
    }
    found
}

/// The arguments of a call whose opening parenthesis is before `tokens`.
fn arguments(tokens: &[(String, usize)]) -> Vec<&[(String, usize)]> {
    let (mut depth, mut begin, mut all) = (0, 0, Vec::new());
    for (at, (token, _)) in tokens.iter().enumerate() {
        match token.as_str() {
            ")" if depth == 0 => {
                all.push(&tokens[begin..at]);
                return all;
            }
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            "," if depth == 0 => {
                all.push(&tokens[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    all
}

fn unusable_field(argument: &[(String, usize)]) -> Option<(usize, String)> {
    let texts: Vec<_> = argument.iter().map(|(token, _)| token.as_str()).collect();
    let line = argument.first()?.1;
    let (name, debug) = match texts.as_slice() {
        ["?", name, ..] => (*name, true),
        ["%", name, ..] => (*name, false),
        [name, "=", "?", ..] => (*name, true),
        [name, "=", ..] | [name] => (*name, false),
        _ => return None,
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
    match (OWN.contains(&name), debug && is_name) {
        (true, _) => Some((line, format!("each log line has a `{name}` of its own"))),
        (_, true) => Some((
            line,
            format!("`{name}` is in Rust's notation: give it a Display"),
        )),
        _ => None,
    }
}

#[test]
fn fields_have_names_and_values_of_their_own() {
    let found = unusable(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn such_fields_are_found() {
    let lines = |text: &str| {
        in_text(text)
            .into_iter()
            .map(|(line, _)| line)
            .collect::<Vec<_>>()
    };
    let text = "fn f() {\n\
                tracing::warn!(cluster, target, \"a\");\n\
                tracing::info!(\n%error,\ntarget = x.name(),\n\"a\");\n\
                tracing::debug!(?why, \"a\");\n\
                tracing::error!(why = ?g(a, b), \"a\");\n\
                tracing::info!(target: \"module\", why = %g(target), span_id, \"a ?x\");\n}";
    assert_eq!(lines(text), [2, 5, 7, 8]);
}
