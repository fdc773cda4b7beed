//! Extensions of CA certificates that Go, BoringSSL or rustls refuse.

use der::{Tag, Tagged as _};

use super::{Objections, Position, Verifier};
use crate::x509::cert::Certificate;
use crate::x509::extension::{self, ExtendedKeyUsage, Extension, KeyUsage, NAME_CONSTRAINTS};
use crate::x509::name_constraints::NameConstraints;
use crate::x509::read::{self, DerReader};

const AUTHORITY_INFO_ACCESS: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x01\x01";
const CERTIFICATE_POLICIES: &[u8] = b"\x55\x1d\x20";
const POLICY_MAPPINGS: &[u8] = b"\x55\x1d\x21";
const POLICY_CONSTRAINTS: &[u8] = b"\x55\x1d\x24";
const INHIBIT_ANY_POLICY: &[u8] = b"\x55\x1d\x36";

pub(super) fn examine(
    list: &[u8],
    certificate: &Certificate,
    position: Position,
    found: &mut Objections,
) {
    for one in extension::list(list, usize::MAX).unwrap_or_default() {
        examine_one(one, position, found);
    }
    if certificate
        .key_usage()
        .is_some_and(|usage| !usage.contains(KeyUsage::KEY_CERT_SIGN))
    {
        let why = "its keyUsage lacks keyCertSign";
        found.add(Verifier::Go, why);
        found.add(Verifier::BoringSsl, why);
    }
    if let Some(usage) = certificate.extensions.extended_key_usage
        && !usage.contains(ExtendedKeyUsage::SERVER_AND_CLIENT)
    {
        let why = "its extKeyUsage does not allow both serverAuth and clientAuth";
        if !usage.contains(ExtendedKeyUsage::ANY) {
            found.add(Verifier::Go, why);
        }
        // anyExtendedKeyUsage does not count as either.
        if position == Position::Intermediate {
            found.add(Verifier::BoringSsl, why);
            found.add(Verifier::Rustls, why);
        }
    }
}

fn examine_one(one: Extension<'_>, position: Position, found: &mut Objections) {
    let critical = |name: &str| format!("{name} is critical, which RFC 5280 forbids");
    match one.oid {
        extension::SUBJECT_KEY_ID if one.critical => {
            found.add(Verifier::Go, critical("subjectKeyIdentifier"));
        }
        extension::AUTHORITY_KEY_ID if one.critical => {
            found.add(Verifier::Go, critical("authorityKeyIdentifier"));
        }
        AUTHORITY_INFO_ACCESS if one.critical => {
            found.add(Verifier::Go, critical("authorityInfoAccess"));
        }
        AUTHORITY_INFO_ACCESS | CERTIFICATE_POLICIES | extension::CRL_DISTRIBUTION_POINTS
            if !is_list_of_sequences(one.value) =>
        {
            let name = extension::oid_text(one.oid);
            let why = format!("the extension {name} is malformed");
            if one.oid == CERTIFICATE_POLICIES && position == Position::Intermediate {
                found.add(Verifier::BoringSsl, why.clone());
            }
            found.add(Verifier::Go, why);
        }
        NAME_CONSTRAINTS => examine_constraints(one, found),
        extension::SUBJECT_ALT_NAME => {
            if let Some(problem) = alternative_name_problem(one.value) {
                found.add(Verifier::Go, problem);
            }
        }
        _ => {}
    }
    if one.critical && !is_understood_by_rustls(one.oid) {
        let oid = extension::oid_text(one.oid);
        let why = format!("it has a critical extension that is not understood ({oid})");
        if !is_policy(one.oid) {
            found.add(Verifier::Go, why.clone());
            if position == Position::Intermediate {
                found.add(Verifier::BoringSsl, why.clone());
            }
        }
        let why = match position {
            Position::Intermediate => why,
            Position::Anchor => format!("{why}; in a trust anchor, versions before 0.103.14"),
        };
        found.add(Verifier::Rustls, why);
    }
}

fn is_understood_by_rustls(oid: &[u8]) -> bool {
    matches!(
        oid,
        extension::KEY_USAGE
            | extension::SUBJECT_ALT_NAME
            | extension::BASIC_CONSTRAINTS
            | NAME_CONSTRAINTS
            | extension::CRL_DISTRIBUTION_POINTS
            | extension::EXTENDED_KEY_USAGE
    )
}

fn is_policy(oid: &[u8]) -> bool {
    matches!(
        oid,
        CERTIFICATE_POLICIES | POLICY_MAPPINGS | POLICY_CONSTRAINTS | INHIBIT_ANY_POLICY
    )
}

fn examine_constraints(one: Extension<'_>, found: &mut Objections) {
    let constraints = match NameConstraints::from_der(one.value) {
        Ok(constraints) => constraints,
        Err(error) => {
            for verifier in [Verifier::Go, Verifier::BoringSsl, Verifier::Rustls] {
                found.add(verifier, error.to_string());
            }
            return;
        }
    };
    if constraints.constrains_uris() {
        let why =
            "it has a name constraint on URIs, so that no SPIFFE certificate below it verifies";
        found.add(Verifier::Rustls, why);
    }
    if constraints.constrains_directory_names() {
        let why =
            "it has a name constraint on directory names, so that no certificate below it verifies";
        found.add(Verifier::Rustls, why);
    }
    if one.critical && constraints.has_kinds_unknown_to_go() {
        let why = "it has a critical name constraint on a kind of name other than DNS, IP, e-mail and URI";
        found.add(Verifier::Go, why);
    }
    if let Some(problem) = constraints.go_problem() {
        found.add(Verifier::Go, problem);
    }
}

fn is_list_of_sequences(value: &[u8]) -> bool {
    let Ok(mut list) = DerReader::within(value, Tag::Sequence, "extension") else {
        return false;
    };
    while !list.is_empty() {
        if list.expect(Tag::Sequence).is_err() {
            return false;
        }
    }
    true
}

/// What Go's parser refuses in subjectAltName.
fn alternative_name_problem(value: &[u8]) -> Option<String> {
    let mut names = DerReader::within(value, Tag::Sequence, "subjectAltName extension").ok()?;
    while !names.is_empty() {
        let name = names.any().ok()?;
        let (tag, octets) = (name.tag(), name.value());
        let is = |number| tag == read::context(number, false);
        if (is(1) || is(2) || is(6)) && !octets.is_ascii() {
            return Some("a subjectAltName is not ASCII".into());
        }
        if is(7) && !matches!(octets.len(), 4 | 16) {
            return Some("an IP address in subjectAltName has neither 4 nor 16 octets".into());
        }
    }
    None
}
