//! `make help` against the Makefile.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_target_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let mut lines = makefile.lines();
    let targets = lines
        .find_map(|line| line.strip_prefix(".PHONY: "))
        .unwrap();
    let targets: BTreeSet<_> = targets.split(' ').collect();
    let output = Command::new("make")
        .args(["-s", "help"])
        .current_dir(root)
        // Of a `make` that runs this test.
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    let explained = page.lines().filter_map(|line| {
        let (target, meaning) = line.strip_prefix("make ")?.split_once(' ')?;
        (!meaning.trim().is_empty()).then_some(target)
    });
    assert_eq!(explained.collect::<BTreeSet<_>>(), targets);
}
