//! Keeps the direction of imports: every path in `src/` that leads to another room is held against
//! the floors, wherever it stands: `use`, an inline path, a macro's tokens, an
//! attribute's string. Test code counts like any other.

mod paths;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use paths::{Mention, mentions};
use tokens::{find, flatten};

/// The floors, from the ground up. A room may name itself and whatever lies on lower floors; rooms of
/// one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["clock"],
    &["x509"],
    &["hsm", "authn", "policy", "ledger"],
    &["issuance", "trust", "cluster"],
    &["net"],
    &["controllers", "mesh", "admin"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Edges that one file may have although its room may not: (file, room, why).
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Tokens that only some files may hold: (tokens in a row, where they may stand, why).
const TOKENS: &[(&str, &[&str], &str)] = &[
    (
        ". reserve ( )",
        &["src/hsm/", "src/issuance/"],
        "only what goes to the door takes a place there",
    ),
    // Without a place in the queue there is nothing to sign with: in `cli` it is another `sign`, and
    // in the tests of pod certificates it is the pod's.
    (
        ". sign (",
        &[
            "src/hsm/",
            "src/issuance/door/",
            "src/cli/",
            "src/controllers/pod/validate/tests.rs",
        ],
        "every HSM signature passes through the one door that has recorded it",
    ),
    (
        "SystemTime :: now",
        &["src/clock.rs"],
        "time is a parameter everywhere else",
    ),
    ("cryptoki ::", &["src/hsm"], "PKCS#11 is spoken in one room"),
    ("sqlx ::", &["src/ledger"], "SQL is spoken in one room"),
    (
        "kube ::",
        &["src/cluster", "src/controllers"],
        "Kubernetes is spoken in two rooms",
    ),
];

/// Items of a room that only some files may name: (room, item, where, why).
const ITEMS: &[(&str, &str, &[&str], &str)] = &[(
    "hsm",
    "Permit",
    &["src/hsm/", "src/issuance/door/"],
    "a permit is the right to one signature, and nothing may be signed unrecorded",
)];

/// Holds every file under `root/src` against the tables; one line for each offence.
fn check(root: &Path) -> Vec<String> {
    let mut offences = Vec::new();
    for file in sources(&root.join("src")) {
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap();
        let mut offend =
            |line: usize, what: String| offences.push(format!("{name}:{line}: {what}"));
        if name == "src/lib.rs" {
            for (line, what) in paths::not_a_module(&text).unwrap() {
                offend(
                    line,
                    format!(
                        "{what}, because lib.rs declares modules only, or an edge could hide there"
                    ),
                );
            }
            continue;
        }
        let module = module_of(&name);
        let room = module.first().cloned().unwrap_or_else(|| "main".to_owned());
        let found = mentions(&module, &text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for Mention { line, path } in found {
            if let Some(offence) = judge(&name, &room, &path) {
                offend(line, offence);
            }
        }
        let flat = flatten(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (pattern, places, why) in TOKENS {
            if !places.iter().any(|place| name.starts_with(place)) {
                for line in find(&flat, pattern) {
                    offend(line, format!("`{pattern}`, because {why}"));
                }
            }
        }
    }
    offences.sort();
    offences.dedup();
    offences
}

fn judge(file: &str, room: &str, path: &[String]) -> Option<String> {
    let whole = || format!("{room} -> the crate root as a whole, because a room must be named");
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
        return Some(format!("{room} -> {owner}::{item}, because {why}"));
    }
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let Some(own) = floor(room) else {
        return Some(format!("{room}, because this room is on no floor"));
    };
    let excepted = EXCEPTIONS
        .iter()
        .any(|(name, to, _)| *name == file && *to == target);
    // `main` is the command line's door and nothing else.
    let below = match room {
        "main" => target == "cli",
        _ => floor(target).is_some_and(|floor| floor < own),
    };
    let fine = target == room || excepted || below;
    (!fine).then(|| format!("{room} -> {target}"))
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
    let offences = check(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(offences.is_empty(), "wrong edges:\n{}", offences.join("\n"));
}

/// The checker itself: each way to name a room that was ever thought of, and each must be found.
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
        .map(|offence| offence.split(", because ").next().unwrap().to_owned())
        .collect();
    assert_eq!(found, expected);
    assert!(
        expected.len() > 20,
        "the fixture has shrunk to {}",
        expected.len()
    );
}
