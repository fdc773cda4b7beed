//! Small files that others write: kubeconfigs, certificates, tokens.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// No Secret or ConfigMap is longer, and a kubeconfig is often one.
const MAX_BYTES: usize = 1024 * 1024;

/// Why a file cannot be read. The path is in the message, the content is not.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {why}", .path.display())]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{} is longer than 1 MiB", .0.display())]
    TooLong(PathBuf),
    #[error("{} is not text in UTF-8 or UTF-16", .0.display())]
    NotText(PathBuf),
}

pub(super) async fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Zeroizing::new(Vec::new());
        // Opened by path each time: behind a `..data` symlink it may be a new file.
        let file = std::fs::File::open(owned)?;
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let read = read
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    let bytes = read.map_err(|why| FileError::Unreadable {
        path: path.to_owned(),
        why,
    })?;
    match bytes.len() > MAX_BYTES {
        true => Err(FileError::TooLong(path.to_owned())),
        false => Ok(bytes),
    }
}

/// A text, without its byte order mark. Editors of Windows write UTF-16.
pub(super) async fn read_text(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let bytes = read_bytes(path).await?;
    text(&bytes).ok_or_else(|| FileError::NotText(path.to_owned()))
}

fn text(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes.as_chunks::<2>();
        let units = units.iter().map(|pair| unit(*pair));
        let text = char::decode_utf16(units).collect::<Result<String, _>>();
        text.ok().filter(|_| rest.is_empty())
    };
    let text = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        all => String::from_utf8(all.to_vec()).ok(),
    };
    text.map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_any_byte_order_mark() {
        let read = |bytes: &[u8]| text(bytes).map(|text| text.to_string());
        for bytes in [
            &b"a\n"[..],
            b"\xef\xbb\xbfa\n",
            b"\xff\xfea\0\n\0",
            b"\xfe\xff\0a\0\n",
        ] {
            assert_eq!(read(bytes).as_deref(), Some("a\n"), "{bytes:?}");
        }
        for bytes in [&b"\xff\xfea"[..], b"\x80", b"\xfe\xff\xd8\0"] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
