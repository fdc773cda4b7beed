//! The additional checks of OpenSSL's `-x509_strict` (`check_extensions` in crypto/x509/x509_vfy.c).

use super::{Objections, Position, Verifier};
use crate::x509::cert::Certificate;
use crate::x509::dn;
use crate::x509::extension::{self, BASIC_CONSTRAINTS, KEY_USAGE, SUBJECT_KEY_ID};
use crate::x509::{KeyUsage, extension::AUTHORITY_KEY_ID};

pub(super) fn examine(
    list: &[u8],
    certificate: &Certificate,
    position: Position,
    found: &mut Objections,
) {
    let mut object = |why: &str| found.add(Verifier::OpensslStrict, why);
    let extensions = extension::list(list, usize::MAX).unwrap_or_default();
    let of = |oid: &[u8]| extensions.iter().find(|each| each.oid == oid);
    if of(BASIC_CONSTRAINTS).is_none_or(|basic| !basic.critical) {
        object("basicConstraints is not critical");
    }
    match certificate.key_usage() {
        None => object("it has no keyUsage"),
        Some(usage)
            if certificate.path_len().is_some() && !usage.contains(KeyUsage::KEY_CERT_SIGN) =>
        {
            object("it has a path length, and keyUsage lacks keyCertSign");
        }
        Some(_) => {}
    }
    if of(KEY_USAGE).is_none() && certificate.path_len().is_some() {
        object("it has a path length without keyUsage");
    }
    match of(SUBJECT_KEY_ID) {
        None => object("it has no subjectKeyIdentifier"),
        Some(id) if id.critical => object("subjectKeyIdentifier is critical"),
        Some(_) => {}
    }
    match of(AUTHORITY_KEY_ID) {
        // A self-signed one has no issuer to identify.
        None if position == Position::Intermediate || !certificate.is_self_issued() => {
            object("it has no authorityKeyIdentifier");
        }
        Some(id) if id.critical => object("authorityKeyIdentifier is critical"),
        _ => {}
    }
    if dn::has_no_attribute(certificate.subject_der()) {
        object("its subject is empty");
    }
    if dn::has_no_attribute(certificate.issuer_der()) {
        object("its issuer is empty");
    }
}
