//! The messages of the Certificate Management Protocol (RFC 9810) that an enrolment with a PKCS#10
//! request needs.

use der::asn1::{Any, BitString, GeneralizedTime, ObjectIdentifier, OctetString};
use der::{Decode, Encode, Sequence, Tag, TagNumber, Tagged as _};
use spki::AlgorithmIdentifierOwned;

/// Of PKIMessage, before anything in RFC 9480 is used (§2.20 of it).
pub(super) const VERSION: u8 = 2;
/// implicitConfirm of generalInfo.
pub(super) const IMPLICIT_CONFIRM: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.4.13");
/// The certificates of CAs, of a general message.
pub(super) const CA_CERTIFICATES: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.4.17");

/// The alternatives of PKIBody that are used here, by their tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    CertificateResponse = 3,
    Pkcs10Request = 4,
    Confirmed = 19,
    General = 21,
    GeneralResponse = 22,
    Error = 23,
    CertificateConfirm = 24,
    PollRequest = 25,
    PollResponse = 26,
}

impl Kind {
    const ANSWERS: [Self; 5] = [
        Self::CertificateResponse,
        Self::Confirmed,
        Self::GeneralResponse,
        Self::Error,
        Self::PollResponse,
    ];

    fn tag(self) -> Tag {
        Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(self as u32),
        }
    }

    /// PKIBody with these contents, in DER.
    pub(super) fn with(self, contents: Vec<u8>) -> der::Result<Any> {
        Any::new(self.tag(), contents)
    }

    pub(super) fn of(body: &Any) -> Option<Self> {
        let mut kinds = Self::ANSWERS.into_iter();
        kinds.find(|kind| kind.tag() == body.tag())
    }
}

/// PKIMessage. Header and body stay as they came, because the protection is over these bytes.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Message {
    pub(super) header: Any,
    pub(super) body: Any,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) protection: Option<BitString>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) extra_certificates: Option<Vec<Any>>,
}

/// ProtectedPart: what the protection is over.
#[derive(Debug, Sequence)]
pub(super) struct Protected {
    pub(super) header: Any,
    pub(super) body: Any,
}

/// InfoTypeAndValue, which has the form of an AlgorithmIdentifier.
pub(super) type Info = AlgorithmIdentifierOwned;

/// PKIHeader.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Header {
    pub(super) version: u8,
    pub(super) sender: Any,
    pub(super) recipient: Any,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) message_time: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) protection: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) sender_key: Option<OctetString>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) recipient_key: Option<OctetString>,
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) transaction: Option<OctetString>,
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) sender_nonce: Option<OctetString>,
    #[asn1(context_specific = "6", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) recipient_nonce: Option<OctetString>,
    #[asn1(context_specific = "7", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) free_text: Option<Any>,
    #[asn1(context_specific = "8", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) general_info: Option<Vec<Info>>,
}

/// PKIStatusInfo.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Status {
    pub(super) status: i64,
    pub(super) text: Option<Vec<String>>,
    pub(super) failure: Option<BitString>,
}

/// ErrorMsgContent.
#[derive(Debug, Clone, Sequence)]
pub(super) struct ErrorContent {
    pub(super) status: Status,
    pub(super) code: Option<i64>,
    pub(super) details: Option<Vec<String>>,
}

/// CertRepMessage.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Certified {
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) authorities: Option<Vec<Any>>,
    pub(super) responses: Vec<Response>,
}

/// CertResponse.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Response {
    pub(super) request: i64,
    pub(super) status: Status,
    pub(super) pair: Option<Pair>,
    pub(super) info: Option<OctetString>,
}

/// CertifiedKeyPair.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Pair {
    /// A certificate, in [0], or an encrypted one.
    pub(super) certificate: Any,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) private_key: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) publication: Option<Any>,
}

impl Pair {
    /// The certificate, in DER.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        let plain = Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(0),
        };
        (self.certificate.tag() == plain).then(|| self.certificate.value())
    }
}

/// CertStatus.
#[derive(Debug, Sequence)]
pub(super) struct Confirmation {
    pub(super) hash: OctetString,
    pub(super) request: i64,
}

/// What a poll asks for.
#[derive(Debug, Sequence)]
pub(super) struct Poll {
    pub(super) request: i64,
}

/// What it is answered with, while the CA has not decided.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Polled {
    pub(super) request: i64,
    pub(super) check_after: i64,
    pub(super) reason: Option<Vec<String>>,
}

/// GeneralName of the directoryName that is a Name in DER.
pub(super) fn directory_name(name: &[u8]) -> der::Result<Any> {
    let tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(4),
    };
    Any::new(tag, name)
}

/// The contents of a body, or of a structure whose tag says no more.
pub(super) fn contents<'a, T>(body: &'a Any) -> der::Result<T>
where
    T: Decode<'a, Error = der::Error>,
{
    T::from_der(body.value())
}

/// The bytes that the protection of a message is over.
pub(super) fn protected(header: &Any, body: &Any) -> der::Result<Vec<u8>> {
    let part = Protected {
        header: header.clone(),
        body: body.clone(),
    };
    part.to_der()
}
