//! What a kubeconfig holds in base64 or in a file beside it.

use std::path::Path;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::document::Secret;
use super::error::KubeconfigError;
use crate::cluster::bounded_file::read_bytes;

/// As Go reads it: bits after the last octet do not count.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A field and its form with `-data`.
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) data_name: &'static str,
    pub(super) path: Option<&'a str>,
    pub(super) data: Option<&'a Secret>,
}

pub(super) struct Material {
    /// The field that it comes from.
    pub(super) field: &'static str,
    pub(super) content: Zeroizing<Vec<u8>>,
}

impl Field<'_> {
    fn path(&self) -> Option<&str> {
        self.path.filter(|path| !path.is_empty())
    }

    fn data(&self) -> Option<&str> {
        self.data
            .map(Secret::expose)
            .filter(|data| !data.is_empty())
    }

    /// A path is taken from the kubeconfig's directory.
    pub(super) async fn read(&self, directory: &Path) -> Result<Option<Material>, KubeconfigError> {
        match (self.path(), self.data()) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(KubeconfigError::Both(self.name)),
            (None, Some(data)) => {
                let content = decode(data).ok_or(KubeconfigError::Base64(self.data_name))?;
                Ok(Some(Material {
                    field: self.data_name,
                    content,
                }))
            }
            (Some(path), None) => {
                let content = read_bytes(&directory.join(path)).await;
                let content = content.map_err(|why| KubeconfigError::Named {
                    field: self.name,
                    why,
                })?;
                Ok(Some(Material {
                    field: self.name,
                    content,
                }))
            }
        }
    }
}

/// Whatever white space an editor, `base64` without `-w0` or a YAML block puts into it does not count.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let text = Zeroizing::new(text.collect::<Vec<u8>>());
    BASE64.decode(text.as_slice()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_with_white_space() {
        let read = |text| decode(text).map(|bytes| bytes.to_vec());
        for text in ["YWJj", "YW\nJj\n", "  YWJ\r\nj", "Y W\tJ j"] {
            assert_eq!(read(text).as_deref(), Some(&b"abc"[..]), "{text:?}");
        }
        // Go passes over bits that are left, and wants the padding.
        assert_eq!(read("YR==").as_deref(), Some(&b"a"[..]));
        for text in ["YQ", "YQ=", "YWJj-", "YWJj\u{a0}"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
