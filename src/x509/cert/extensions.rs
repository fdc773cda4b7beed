//! The extensions of a parsed certificate.

use std::ops::Range;

use der::Tag;

use super::error::CertError;
use super::{MAX_EXTENSIONS, MAX_NAMES};
use crate::x509::extension::{self, BasicConstraints, ExtendedKeyUsage, Extension, KeyUsage};
use crate::x509::name_constraints::NameConstraints;
use crate::x509::read::{self, DerReader, range_of};
use crate::x509::san::San;

#[derive(Clone, Debug, Default)]
pub(in crate::x509) struct Extensions {
    pub(in crate::x509) names: Vec<San>,
    pub(in crate::x509) names_critical: bool,
    pub(in crate::x509) other_names: bool,
    pub(in crate::x509) basic_constraints: Option<BasicConstraints>,
    pub(in crate::x509) key_usage: Option<KeyUsage>,
    pub(in crate::x509) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(super) subject_key_id: Option<Range<usize>>,
    pub(super) authority_key_id: Option<Range<usize>>,
    pub(in crate::x509) name_constraints: Option<NameConstraints>,
    /// The OID of the first critical extension that is not understood.
    pub(in crate::x509) unhandled_critical: Option<String>,
    /// The number of all extensions.
    pub(in crate::x509) count: usize,
}

impl Extensions {
    pub(super) fn read(contents: &[u8], whole: &[u8]) -> Result<Self, CertError> {
        let mut found = Self::default();
        for one in extension::list(contents, MAX_EXTENSIONS)? {
            found.count += 1;
            found.read_one(one, whole)?;
        }
        Ok(found)
    }

    fn read_one(&mut self, one: Extension<'_>, whole: &[u8]) -> Result<(), CertError> {
        match one.oid {
            extension::SUBJECT_ALT_NAME => {
                self.names_critical = one.critical;
                self.read_names(one.value)?;
            }
            extension::BASIC_CONSTRAINTS => {
                self.basic_constraints = Some(BasicConstraints::from_der(one.value)?);
            }
            extension::KEY_USAGE => self.key_usage = Some(KeyUsage::from_der(one.value)?),
            extension::EXTENDED_KEY_USAGE => {
                self.extended_key_usage = Some(ExtendedKeyUsage::from_der(one.value)?);
            }
            extension::SUBJECT_KEY_ID => {
                let id = read::whole(
                    one.value,
                    Tag::OctetString,
                    "subjectKeyIdentifier extension",
                )?;
                self.subject_key_id = Some(range_of(whole, id));
            }
            extension::AUTHORITY_KEY_ID => {
                self.authority_key_id =
                    extension::authority_key_id(one.value)?.map(|id| range_of(whole, id));
            }
            extension::NAME_CONSTRAINTS => {
                self.name_constraints = Some(NameConstraints::from_der(one.value)?);
            }
            extension::CRL_DISTRIBUTION_POINTS => {}
            // This includes certificate policies: rustls refuses critical ones.
            other if one.critical && self.unhandled_critical.is_none() => {
                self.unhandled_critical = Some(extension::oid_text(other));
            }
            _ => {}
        }
        Ok(())
    }

    fn read_names(&mut self, value: &[u8]) -> Result<(), CertError> {
        let mut names = DerReader::within(value, Tag::Sequence, "subjectAltName extension")?;
        while !names.is_empty() {
            let name = names.any()?;
            match San::from_general_name(name) {
                Some(Ok(_)) if self.names.len() == MAX_NAMES => {
                    return Err(CertError::TooManyNames);
                }
                Some(Ok(name)) => self.names.push(name),
                Some(Err(_)) | None => self.other_names = true,
            }
        }
        Ok(())
    }
}
