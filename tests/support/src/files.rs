//! Files that tests read and write.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// The first block of this language in a page of docs/how-to: what it tells operators to use.
pub fn documented(page: &str, language: &str) -> String {
    let file = repository("docs/how-to").join(page);
    let text = fs::read_to_string(&file).unwrap();
    let (_, block) = text.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Writes a new file that only its owner may read.
pub fn write_secret(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    let options = options.create_new(true).write(true).mode(0o600);
    options
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}
