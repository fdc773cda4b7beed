//! Every seed of fuzzing, and every input that it found interesting, goes through the same checks as in
//! the fuzz targets (`fuzz/checks`). A file called `ok-…` must be accepted and one called `bad-…`
//! refused, so that a check that no longer reaches anything is noticed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

// By path: the fuzz package is a workspace of its own, which builds with a sanitizer.
#[path = "../fuzz/checks/mod.rs"]
#[allow(
    unreachable_pub,
    reason = "in the fuzz package these modules are the library"
)]
mod checks;

use std::panic::catch_unwind;
use std::path::Path;

use checks::Outcome;

/// More would be noise in the repository; `docs/how-to/fuzz.md` says how to keep few.
const MOST_FILES: usize = 200;
const MOST_BYTES: usize = 200 * 1024;

fn replay(target: &str, check: fn(&[u8]) -> Outcome) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let (mut files, mut bytes, mut good, mut bad) = (0, 0, 0, 0);
    let mut broken = Vec::new();
    for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let content = std::fs::read(&path).unwrap();
        let outcome = catch_unwind(|| check(&content));
        let wanted = match name.split_once('-') {
            Some(("ok", _)) => Some(Outcome::Accepted),
            Some(("bad", _)) => Some(Outcome::Refused),
            _ => None,
        };
        good += usize::from(wanted == Some(Outcome::Accepted));
        bad += usize::from(wanted == Some(Outcome::Refused));
        match outcome {
            Err(_) => broken.push(format!("{name}: breaks a rule of fuzz/checks, see above")),
            Ok(got) if wanted.is_some_and(|wanted| wanted != got) => {
                broken.push(format!("{name}: {got:?}"));
            }
            Ok(_) => {}
        }
        files += 1;
        bytes += content.len();
    }
    assert!(broken.is_empty(), "{target}: {broken:#?}");
    assert!(good > 0 && bad > 0, "{target}: {good} good, {bad} bad");
    assert!(files <= MOST_FILES, "{target}: {files} files");
    assert!(bytes <= MOST_BYTES, "{target}: {bytes} bytes");
}

#[test]
fn csr() {
    replay("csr", checks::csr::check);
}

#[test]
fn jwt() {
    replay("jwt", checks::jwt::check);
}

#[test]
fn spiffe_id() {
    replay("spiffe_id", checks::spiffe_id::check);
}

#[test]
fn pem_bundle() {
    replay("pem_bundle", checks::pem_bundle::check);
}

#[test]
fn config() {
    replay("config", checks::config::check);
}

#[test]
fn jwks() {
    replay("jwks", checks::jwks::check);
}

#[test]
fn token_review() {
    replay("token_review", checks::token_review::check);
}

#[test]
fn watch() {
    replay("watch", checks::watch::check);
}

#[test]
fn message() {
    replay("message", checks::message::check);
}

/// A target without a replay here would rot.
#[test]
fn every_target_is_replayed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let targets: Vec<&str> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap())
        .collect();
    let source = include_str!("corpora.rs");
    for target in &targets {
        assert!(
            source.contains(&format!("replay(\"{target}\", ")),
            "{target}"
        );
    }
    assert_eq!(source.matches("    replay(\"").count(), targets.len());
}
