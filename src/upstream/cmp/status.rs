//! What a CA says of a request (RFC 9810 §5.2.3).

use super::message::{ErrorContent, Status};
use crate::upstream::answer::{Answer, Unreachable, one_line};

const SHOWN: usize = 1000;

// PKIStatus.
pub(super) const ACCEPTED: i64 = 0;
pub(super) const GRANTED_WITH_CHANGES: i64 = 1;
pub(super) const WAITING: i64 = 3;

/// A bit of PKIFailureInfo, with its name.
pub(super) type Failure = (usize, &'static str);

/// The CA does not accept the credential, or this server's clock: an operator has to do something, and
/// the request can then be accepted.
pub(super) const CREDENTIAL: [Failure; 5] = [
    (1, "badMessageCheck"),
    (3, "badTime"),
    (12, "wrongIntegrity"),
    (20, "signerNotTrusted"),
    (22, "unsupportedVersion"),
];
/// It will later.
const TROUBLE: [Failure; 3] = [
    (21, "transactionIdInUse"),
    (24, "systemUnavail"),
    (25, "systemFailure"),
];
/// What a poll for something unknown is answered with.
pub(super) const FORGOTTEN: [Failure; 3] = [
    (2, "badRequest"),
    (4, "badCertId"),
    (13, "badRecipientNonce"),
];
const OTHERS: [Failure; 11] = [
    (0, "badAlg"),
    (5, "badDataFormat"),
    (6, "wrongAuthority"),
    (7, "incorrectData"),
    (9, "badPOP"),
    (15, "unacceptedPolicy"),
    (16, "unacceptedExtension"),
    (18, "badSenderNonce"),
    (19, "badCertTemplate"),
    (23, "notAuthorized"),
    (26, "duplicateCertReq"),
];

fn is_set(status: &Status, bit: usize) -> bool {
    let bits = status.failure.as_ref();
    bits.is_some_and(|bits| bits.bits().nth(bit) == Some(true))
}

pub(super) fn has(status: &Status, failures: &[Failure]) -> bool {
    failures.iter().any(|(bit, _)| is_set(status, *bit))
}

/// The CA's decision, unless its reason is one that passes.
pub(super) fn refusal(status: &Status, said: String) -> Result<Answer, Unreachable> {
    match has(status, &CREDENTIAL) || has(status, &TROUBLE) {
        true => Err(Unreachable::new(said)),
        false => Ok(Answer::Refused(said)),
    }
}

pub(super) fn said_status(status: &Status) -> String {
    let all = [&CREDENTIAL[..], &TROUBLE, &FORGOTTEN, &OTHERS];
    let names = all.into_iter().flatten();
    let names = names.filter(|(bit, _)| is_set(status, *bit));
    let names: Vec<_> = names.map(|(_, name)| *name).collect();
    let text = status.text.iter().flatten().cloned();
    let text: Vec<_> = text.collect();
    let text = one_line(&text.join("; "), SHOWN);
    match (names.as_slice(), text.as_str()) {
        ([], "") => format!("the CA answered status {} without a reason", status.status),
        ([], text) => text.to_owned(),
        (names, "") => names.join(", "),
        (names, text) => format!("{text} ({})", names.join(", ")),
    }
}

pub(super) fn said(error: &ErrorContent) -> String {
    let details: Vec<_> = error.details.iter().flatten().cloned().collect();
    let status = said_status(&error.status);
    match one_line(&details.join("; "), SHOWN).as_str() {
        "" => status,
        details => format!("{status}: {details}"),
    }
}
