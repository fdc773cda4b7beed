//! The names of new CAs.

use der::Encode as _;

use super::dn::{COMMON_NAME, attributes, string};
use super::name::{NameError, printable};
use super::write;

const ORGANIZATION: &[u8] = b"\x55\x04\x0a";
/// In characters (RFC 5280 Appendix A.1).
const MAX_CHARACTERS: usize = 64;

/// A CA's Name in DER: the organization, if any, then the common name, as UTF8Strings. Each has 1
/// to 64 characters, none of them a control character.
pub fn ca_name(common_name: &str, organization: Option<&str>) -> Result<Vec<u8>, NameError> {
    let mut rdns = Vec::with_capacity(160);
    for (oid, value) in organization
        .map(|organization| (ORGANIZATION, organization))
        .into_iter()
        .chain([(COMMON_NAME, common_name)])
    {
        if value.trim().is_empty()
            || value.chars().count() > MAX_CHARACTERS
            || value.chars().any(char::is_control)
        {
            return Err(NameError::CaName {
                name: printable(value),
            });
        }
        let oid = write::element(write::OID, &[oid]);
        let value = write::element(write::UTF8_STRING, &[value.as_bytes()]);
        let attribute = write::element(write::SEQUENCE, &[&oid, &value]);
        write::tlv(&mut rdns, write::SET, &[&attribute]);
    }
    Ok(write::element(write::SEQUENCE, &[&rdns]))
}

/// The name of a CA's successor: ` G2` after the last common name, ` G3` after that, and so on.
/// Verifiers that look for an issuer by its name alone fail with two keys of one name. `None` for what is
/// no Name.
pub fn successor_name(name: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let mut common_name = None;
    for (oid, value) in attributes(name)? {
        if let Some(text) = string(value).filter(|_| oid == COMMON_NAME) {
            common_name = Some((parts.len(), text));
        }
        parts.push((oid, value.to_der().ok()?));
    }
    let (at, text) = common_name.unwrap_or_else(|| (parts.len(), "CA".to_owned()));
    let numbered = text.rsplit_once(" G").and_then(|(stem, number)| {
        let number = number.parse::<u32>().ok().filter(|number| *number > 1)?;
        Some((stem, number.checked_add(1)?))
    });
    let (stem, number) = numbered.unwrap_or((&text, 2));
    let suffix = format!(" G{number}");
    let stem: String = stem.chars().take(MAX_CHARACTERS - suffix.len()).collect();
    let value = write::element(write::UTF8_STRING, &[stem.as_bytes(), suffix.as_bytes()]);
    match parts.get_mut(at) {
        Some(part) => part.1 = value,
        None => parts.push((COMMON_NAME, value)),
    }
    let mut rdns = Vec::with_capacity(160);
    for (oid, value) in parts {
        let oid = write::element(write::OID, &[oid]);
        let attribute = write::element(write::SEQUENCE, &[&oid, &value]);
        write::tlv(&mut rdns, write::SET, &[&attribute]);
    }
    Some(write::element(write::SEQUENCE, &[&rdns]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use der::Tag;

    use super::super::{dn, read};
    use super::*;

    fn shown(der: &[u8]) -> String {
        dn::text(read::whole(der, Tag::Sequence, "name").unwrap()).unwrap()
    }

    #[test]
    fn a_ca_name_is_shown_last_part_first() {
        let name = ca_name("Root, \"1\"\u{e4}", Some(" Example+Co ")).unwrap();
        assert_eq!(
            shown(&name),
            "CN=Root\\, \\\"1\\\"\u{e4},O=\\ Example\\+Co\\ "
        );
        for bad in ["", "  ", "a\0b", "a\nb", &"x".repeat(65)] {
            assert!(ca_name(bad, None).is_err());
            assert!(ca_name("Root", Some(bad)).is_err());
        }
    }

    #[test]
    fn a_successor_is_numbered() {
        let after = |common_name: &str| {
            let name = ca_name(common_name, Some("Example")).unwrap();
            shown(&successor_name(&name).unwrap())
        };
        assert_eq!(after("Root"), "CN=Root G2,O=Example");
        assert_eq!(after("Root G2"), "CN=Root G3,O=Example");
        assert_eq!(after("Root G9"), "CN=Root G10,O=Example");
        assert_eq!(after("Root G1"), "CN=Root G1 G2,O=Example");
        assert_eq!(
            after("Root G4294967295"),
            "CN=Root G4294967295 G2,O=Example"
        );
        let long = "\u{e4}".repeat(64);
        let kept = "\u{e4}".repeat(61);
        assert_eq!(after(&long), format!("CN={kept} G2,O=Example"));
        let unnamed = write::element(write::SEQUENCE, &[]);
        assert_eq!(shown(&successor_name(&unnamed).unwrap()), "CN=CA G2");
        assert_eq!(successor_name(b"\x31\x00"), None);
    }
}
