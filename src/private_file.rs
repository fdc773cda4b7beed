//! Small files that only this program reads and writes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::digest::{hex, sha256};
use crate::file_access::give_to_owner_of;

/// Replaces the file, and creates its directory if necessary; durable when it returns. Only its owner
/// may read either.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        if let Some(above) = directory.parent() {
            give_to_owner_of(above, &File::open(directory)?)?;
        }
    }
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    give_to_owner_of(directory, &file)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

/// A file name for any text: the text itself where it has plain characters only, else one with a digest.
pub fn name_for(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let mut name: String = text.chars().filter(|c| plain(*c)).take(64).collect();
    if name != text {
        let digest = hex(&sha256(text.as_bytes()));
        name.push('.');
        name.extend(digest.chars().take(16));
    }
    name
}
