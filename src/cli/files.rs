//! Files that are written whole or not at all, and never over others unasked.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};

/// What goes into a file.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// For everybody: 0644.
    Public(&'a [u8]),
    /// For the owner: 0600 from the first byte on.
    Secret(&'a [u8]),
}

/// No chain and no bundle is longer; the parsers have their own, smaller bounds.
const MAX_INPUT: u64 = 2 * 1024 * 1024;

/// What a file holds, or standard input for `-`: for commands that are run where no file can be put.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if path.as_os_str() == "-" {
        let stdin = io::stdin().lock();
        stdin.take(MAX_INPUT + 1).read_to_end(&mut content)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_INPUT + 1).read_to_end(&mut content))
    };
    let read = read.map_err(|error| Failure::file("read", path, &error))?;
    // A part of it would be another bundle.
    if u64::try_from(read).is_ok_and(|read| read <= MAX_INPUT) {
        return Ok(content);
    }
    let error = io::Error::new(io::ErrorKind::FileTooLarge, "more than 2 MiB");
    Err(Failure::file("read", path, &error))
}

/// Files to be made in one directory.
#[derive(Debug)]
pub(super) struct NewFiles<const N: usize> {
    dir: PathBuf,
    paths: [PathBuf; N],
    force: bool,
}

impl<const N: usize> NewFiles<N> {
    /// Makes `dir` and looks that none of `names` is there, unless `force`.
    pub(super) fn new(dir: &Path, names: [&str; N], force: bool) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|error| Failure::file("make", dir, &error))?;
        let paths = names.map(|name| dir.join(name));
        match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) if !force => Err(is_there(path)),
            _ => Ok(Self {
                dir: dir.to_owned(),
                paths,
                force,
            }),
        }
    }

    /// Writes all of them, in order, and says where they are.
    pub(super) fn write(self, contents: [Content<'_>; N]) -> Result<[PathBuf; N], Failure> {
        for (path, content) in self.paths.iter().zip(contents) {
            write(path, content, self.force)?;
        }
        Ok(self.paths.clone())
    }
}

impl<const N: usize> Drop for NewFiles<N> {
    /// A directory that was made for nothing goes again; one with anything in it cannot.
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Writes `path` so that it is seen whole or not at all.
pub(super) fn write(path: &Path, content: Content<'_>, force: bool) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let result = fill(&new, content).and_then(|()| match force {
        true => fs::rename(&new, path),
        // Unlike rename, link fails when the name is taken, even since we looked.
        false => fs::hard_link(&new, path),
    });
    let _ = fs::remove_file(&new);
    result.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => Failure::file("write", path, &error),
    })
}

fn fill(path: &Path, content: Content<'_>) -> io::Result<()> {
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

fn is_there(path: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} is there already", path.display()))
        .next("choose another place, or replace it with --force")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A bundle that is cut off would be another bundle.
    #[test]
    fn what_is_too_long_is_not_read_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let most = usize::try_from(MAX_INPUT).unwrap();
        fs::write(&path, vec![b'a'; most]).unwrap();
        assert_eq!(super::read(&path).unwrap().len(), most);
        fs::write(&path, vec![b'a'; most + 1]).unwrap();
        let said = format!("{:?}", super::read(&path).unwrap_err());
        assert!(said.contains("2 MiB"), "{said}");
    }

    #[test]
    fn secrets_are_the_owners_and_nothing_is_replaced_unasked() {
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
