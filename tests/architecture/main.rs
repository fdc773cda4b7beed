//! Keeps the direction of imports: every path in `src/` that leads to another module is checked against
//! the layers, wherever it is written: `use`, an inline path, a macro's tokens, an
//! attribute's string. Test code counts like any other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod circles;
mod document;
mod log_fields;
mod make_help;
mod numbers;
mod paths;
mod tokens;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use paths::{Mention, mentions};
use tokens::{find, flatten};

/// No source file has more lines.
const MOST_LINES: usize = 400;

/// The layers, lowest first. A module may name itself and the modules of lower layers; modules of one
/// layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &[
        "backoff",
        "clock",
        "config_issue",
        "digest",
        "error_chain",
        "fair_queue",
        "file_access",
        "log_limit",
        "rate_limit",
    ],
    &["x509", "private_file"],
    &["hsm", "authn", "policy", "ledger"],
    &["issuance", "trust", "cluster"],
    &["federation", "net", "rotation", "upstream"],
    &["controllers", "mesh", "admin"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Edges that one file may have although its module may not: (file, module, why).
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Tokens that only some files may hold: (tokens in a row, where they may stand, why).
const TOKENS: &[(&str, &[&str], &str)] = &[
    (
        ". reserve ( )",
        &["src/hsm/", "src/issuance/"],
        "only what is about to be signed reserves a place in the queue",
    ),
    (
        ". reserve_for (",
        &["src/hsm/", "src/issuance/"],
        "only what is about to be signed reserves a place in the queue",
    ),
    // Only a permit signs: in `cli` it is another `sign`, in the tests of pod certificates it is the
    // pod's, step-ca's tokens are signed with its provisioner's key, and CMP's messages with a client's.
    (
        ". sign (",
        &[
            "src/hsm/",
            "src/issuance/pipeline/",
            "src/cli/",
            "src/controllers/pod/validate/tests.rs",
            "src/upstream/cmp/protection.rs",
            "src/upstream/step_ca.rs",
        ],
        "every HSM signature passes through the pipeline that has recorded it",
    ),
    (
        "SystemTime :: now",
        &["src/clock.rs"],
        "time is a parameter everywhere else",
    ),
    ("cryptoki ::", &["src/hsm"], "only one module calls PKCS#11"),
    ("sqlx ::", &["src/ledger"], "only one module holds SQL"),
    (
        "kube ::",
        &["src/cluster", "src/controllers"],
        "only two modules call Kubernetes",
    ),
];

/// Items of a module that only some files may name: (module, item, where, why).
const ITEMS: &[(&str, &str, &[&str], &str)] = &[(
    "hsm",
    "Permit",
    &["src/hsm/", "src/issuance/pipeline/"],
    "a permit is the right to one signature, and nothing may be signed unrecorded",
)];

/// Checks every file under `root/src` against the tables; one line for each violation.
fn check(root: &Path) -> Vec<String> {
    let mut violations = Vec::new();
    for file in sources(&root.join("src")) {
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap();
        let mut report =
            |line: usize, what: String| violations.push(format!("{name}:{line}: {what}"));
        if name == "src/lib.rs" {
            for (line, what) in paths::not_a_module(&text).unwrap() {
                report(
                    line,
                    format!(
                        "{what}, because lib.rs declares modules only, or an edge could hide there"
                    ),
                );
            }
            continue;
        }
        let path = module_of(&name);
        let module = path.first().cloned().unwrap_or_else(|| "main".to_owned());
        let found = mentions(&path, &text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for Mention { line, path } in found {
            if let Some(violation) = violation(&name, &module, &path) {
                report(line, violation);
            }
        }
        let flat = flatten(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (pattern, places, why) in TOKENS {
            if !places.iter().any(|place| name.starts_with(place)) {
                for line in find(&flat, pattern) {
                    report(line, format!("`{pattern}`, because {why}"));
                }
            }
        }
    }
    violations.sort();
    violations.dedup();
    violations
}

fn violation(file: &str, module: &str, path: &[String]) -> Option<String> {
    let whole = || format!("{module} -> the crate root as a whole, because a module must be named");
    let target = path.first().map(String::as_str);
    let Some(target) = target.filter(|target| *target != "*") else {
        return Some(whole());
    };
    let item = ITEMS.iter().find(|(owner, item, places, _)| {
        *owner == target
            && path.iter().any(|segment| segment == item)
            && !places.iter().any(|place| file.starts_with(place))
    });
    if let Some((owner, item, _, why)) = item {
        return Some(format!("{module} -> {owner}::{item}, because {why}"));
    }
    let layer = |module: &str| LAYERS.iter().position(|modules| modules.contains(&module));
    let Some(own) = layer(module) else {
        return Some(format!("{module}, because this module is in no layer"));
    };
    let excepted = EXCEPTIONS
        .iter()
        .any(|(name, to, _)| *name == file && *to == target);
    // `main` calls the command line and nothing else.
    let below = match module {
        "main" => target == "cli",
        _ => layer(target).is_some_and(|layer| layer < own),
    };
    let fine = target == module || excepted || below;
    (!fine).then(|| format!("{module} -> {target}"))
}

/// `src/hsm/signer.rs` is `[hsm, signer]`, `src/hsm/mod.rs` is `[hsm]`, `src/main.rs` is `[]`.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "main")) {
        module.pop();
    }
    module
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn imports_point_downwards() {
    let violations = check(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(
        violations.is_empty(),
        "wrong edges:\n{}",
        violations.join("\n")
    );
}

/// The checker itself: each known way to name another module, and each must be found.
#[test]
fn wrong_edges_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/architecture/wrong-edge");
    let mut expected = Vec::new();
    for file in sources(&root.join("src")) {
        let name = file
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            if let Some((_, edges)) = line.split_once("//~ ") {
                expected.extend(
                    edges
                        .split(", ")
                        .map(|edge| format!("{name}:{}: {edge}", number + 1)),
                );
            }
        }
    }
    expected.sort();
    let found: Vec<String> = check(&root)
        .into_iter()
        // The reason after the edge is for people.
        .map(|violation| violation.split(", because ").next().unwrap().to_owned())
        .collect();
    assert_eq!(found, expected);
    assert!(
        expected.len() > 20,
        "the fixture has shrunk to {}",
        expected.len()
    );
}

#[test]
fn files_of_one_directory_do_not_import_each_other() {
    let found = circles::circles(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(found.is_empty(), "circles:\n{}", found.join("\n"));
}

/// The checker of circles itself, with one of two files, one of three, one by a name that the
/// parent module takes in, and files that are innocent.
#[test]
fn circles_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/architecture/circles");
    let found = circles::circles(&root);
    let expected = [
        "hsm: key -> token (src/hsm/key.rs:1), token -> key (src/hsm/token.rs:1)",
        "ledger: a -> b (src/ledger/a.rs:1), b -> c (src/ledger/b/deep.rs:1), c -> a (src/ledger/c.rs:1)",
    ];
    assert_eq!(found, expected);
}

#[test]
fn no_file_is_longer_than_it_can_be_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut long = Vec::new();
    for directory in [
        "src",
        "tests",
        "benches",
        "fuzz/checks",
        "fuzz/fuzz_targets",
    ] {
        for file in sources(&root.join(directory)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > MOST_LINES {
                long.push(format!(
                    "{}: {lines}",
                    file.strip_prefix(root).unwrap().display()
                ));
            }
        }
    }
    assert!(
        long.is_empty(),
        "more than {MOST_LINES} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn names_and_prose_are_the_fields_own() {
    let found = words::banned(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(
        found.is_empty(),
        "{} of tests/fixtures/architecture/banned-words.txt:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_document_agrees_with_the_tree() {
    let wrong = document::wrong_claims(Path::new(env!("CARGO_MANIFEST_DIR")), LAYERS);
    assert!(
        wrong.is_empty(),
        "docs/architecture.md:\n{}",
        wrong.join("\n")
    );
}
