//! Names and phrases that are not the field's own stay out of the tree. The list holds only what
//! cannot be meant otherwise: a common word such as `line` is right in most of its uses.

use std::fs;
use std::path::{Path, PathBuf};

/// Where text is searched: files and directories, from the root.
const SEARCHED: &[&str] = &[
    "src",
    "tests",
    "benches",
    "docs",
    "deploy",
    "proto",
    "fuzz/checks",
    "fuzz/fuzz_targets",
    "scripts",
    "README.md",
    "CHANGELOG.md",
    "Cargo.toml",
    "Makefile",
    "build.rs",
];
/// The list itself, and trees that only the checker reads.
const EXCEPT: &str = "tests/fixtures/architecture/";
const LIST: &str = "tests/fixtures/architecture/banned-words.txt";

/// One entry of the list: an identifier counts as a whole word, a phrase in any case and across
/// white space.
enum Entry {
    Identifier(String),
    Phrase(Vec<String>),
}

/// One line for each banned name or phrase in the tree below `root`.
pub(super) fn banned(root: &Path) -> Vec<String> {
    let list = fs::read_to_string(root.join(LIST)).unwrap();
    let entries: Vec<Entry> = list.lines().filter_map(entry).collect();
    assert!(
        entries.len() > 50,
        "the list has shrunk to {}",
        entries.len()
    );
    let mut files = Vec::new();
    for place in SEARCHED {
        texts(&root.join(place), &mut files);
    }
    let mut found = Vec::new();
    for file in files {
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        // The changelog may name what was renamed, between backticks.
        let quoted = name == "CHANGELOG.md";
        if name.starts_with(EXCEPT) {
            continue;
        }
        if let Ok(text) = fs::read_to_string(&file) {
            found.extend(
                in_text(&entries, &text, quoted)
                    .into_iter()
                    .map(|(line, what)| format!("{name}:{line}: {what}")),
            );
        }
    }
    found
}

fn entry(line: &str) -> Option<Entry> {
    let line = line.trim();
    match line {
        "" => None,
        line if line.starts_with('#') => None,
        line if line.contains(' ') => Some(Entry::Phrase(
            line.to_lowercase().split(' ').map(str::to_owned).collect(),
        )),
        line => Some(Entry::Identifier(line.to_owned())),
    }
}

fn in_text(entries: &[Entry], text: &str, quoted: bool) -> Vec<(usize, String)> {
    let text = match quoted {
        true => text.split('`').step_by(2).collect::<Vec<_>>().join(" "),
        false => text.to_owned(),
    };
    let mut words: Vec<(usize, &str)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let parts = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'');
        words.extend(
            parts
                .filter(|part| !part.is_empty())
                .map(|part| (index + 1, part)),
        );
    }
    let lower: Vec<String> = words.iter().map(|(_, word)| word.to_lowercase()).collect();
    let mut found = Vec::new();
    for entry in entries {
        match entry {
            Entry::Identifier(name) => found.extend(
                words
                    .iter()
                    .filter(|(_, word)| word == name)
                    .map(|(line, _)| (*line, name.clone())),
            ),
            Entry::Phrase(phrase) => found.extend(
                lower
                    .windows(phrase.len())
                    .enumerate()
                    .filter(|(_, window)| window == phrase)
                    .map(|(at, _)| (words[at].0, phrase.join(" "))),
            ),
        }
    }
    found.sort();
    found
}

fn texts(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            // What a build leaves behind in a nested crate.
            if path.file_name().is_none_or(|name| name != "target") {
                texts(&path, found);
            }
        }
    } else if path.exists() {
        found.push(path.to_owned());
    }
}

#[test]
fn names_and_phrases_are_found() {
    let entries: Vec<Entry> = ["Oldname", "way of saying it", "# a comment"]
        .into_iter()
        .filter_map(entry)
        .collect();
    let text = "use Oldname;\n// Oldnames, a way\n// of saying It.\n";
    let found = in_text(&entries, text, false);
    let expected = [
        (1, "Oldname".to_owned()),
        (2, "way of saying it".to_owned()),
    ];
    assert_eq!(found, expected);
    assert!(in_text(&entries, "`Oldname` is gone", true).is_empty());
}
