//! Files: written whole or not at all, and replaced only with --force.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};

/// What is written to a file, which determines its mode.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// Mode 0644.
    Public(&'a [u8]),
    /// Mode 0600, from creation on.
    Secret(&'a [u8]),
}

/// Longer than any chain or bundle; the parsers have smaller limits of their own.
const MAX_INPUT_BYTES: u64 = 2 * 1024 * 1024;

/// The content of a file, or of standard input for `-`, for a container into which no file can be
/// put.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if path.as_os_str() == "-" {
        let stdin = io::stdin().lock();
        stdin.take(MAX_INPUT_BYTES + 1).read_to_end(&mut content)
    } else {
        fs::File::open(path)
            .and_then(|file| file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut content))
    };
    let read = read.map_err(|error| Failure::file("read", path, &error))?;
    // Not truncated: a part of a bundle would be read as another, valid bundle.
    if u64::try_from(read).is_ok_and(|read| read <= MAX_INPUT_BYTES) {
        return Ok(content);
    }
    let error = io::Error::new(io::ErrorKind::FileTooLarge, "more than 2 MiB");
    Err(Failure::file("read", path, &error))
}

/// Files to create in one directory.
#[derive(Debug)]
pub(super) struct NewFiles<const N: usize> {
    dir: PathBuf,
    paths: [PathBuf; N],
    force: bool,
}

impl<const N: usize> NewFiles<N> {
    /// Creates `dir`; fails if one of `names` exists in it, unless `force`.
    pub(super) fn new(dir: &Path, names: [&str; N], force: bool) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|error| Failure::file("create", dir, &error))?;
        let paths = names.map(|name| dir.join(name));
        match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) if !force => Err(already_exists(path)),
            _ => Ok(Self {
                dir: dir.to_owned(),
                paths,
                force,
            }),
        }
    }

    /// Writes the files in order and returns their paths.
    pub(super) fn write(self, contents: [Content<'_>; N]) -> Result<[PathBuf; N], Failure> {
        for (path, content) in self.paths.iter().zip(contents) {
            write(path, content, self.force)?;
        }
        Ok(self.paths.clone())
    }
}

impl<const N: usize> Drop for NewFiles<N> {
    /// Removes a directory that is still empty.
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Writes `path` atomically; without `force` an existing file is an error.
pub(super) fn write(path: &Path, content: Content<'_>, force: bool) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = write_new(&temporary, content).and_then(|()| match force {
        true => fs::rename(&temporary, path),
        // Unlike rename, link fails if the name exists.
        false => fs::hard_link(&temporary, path),
    });
    let _ = fs::remove_file(&temporary);
    result.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => already_exists(path),
        _ => Failure::file("write", path, &error),
    })
}

fn write_new(path: &Path, content: Content<'_>) -> io::Result<()> {
    let (bytes, mode) = match content {
        Content::Public(bytes) => (bytes, 0o644),
        Content::Secret(bytes) => (bytes, 0o600),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn already_exists(path: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} exists already", path.display()))
        .next("choose another directory or file, or replace it with --force")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_not_truncated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let limit = usize::try_from(MAX_INPUT_BYTES).unwrap();
        fs::write(&path, vec![b'a'; limit]).unwrap();
        assert_eq!(super::read(&path).unwrap().len(), limit);
        fs::write(&path, vec![b'a'; limit + 1]).unwrap();
        let error = format!("{:?}", super::read(&path).unwrap_err());
        assert!(error.contains("2 MiB"), "{error}");
    }

    #[test]
    fn secrets_have_mode_0600_and_nothing_is_replaced_without_force() {
        let dir = tempfile::tempdir().unwrap();
        let make = |force| NewFiles::new(dir.path(), ["key", "cert"], force);
        let first = make(false).unwrap();
        let second = make(false).unwrap();
        let content = |text: &'static str| Content::Secret(text.as_bytes());
        let [key, _] = first.write([content("1"), Content::Public(b"c")]).unwrap();
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(make(false).is_err());
        assert!(second.write([content("2"), content("2")]).is_err());
        assert_eq!(fs::read(&key).unwrap(), b"1");
        make(true)
            .unwrap()
            .write([content("3"), content("3")])
            .unwrap();
        assert_eq!(fs::read(&key).unwrap(), b"3");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
