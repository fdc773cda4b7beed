//! Messages in turn, of one transaction.

use std::sync::Arc;
use std::time::Duration;

use der::asn1::{Any, GeneralizedTime, Null, OctetString};
use der::{Decode as _, Encode as _, Tagged as _};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use spki::AlgorithmIdentifierOwned;

use super::config::CmpConfig;
use super::message::{
    self, Certified, Confirmation, ErrorContent, Header, IMPLICIT_CONFIRM, Info, Kind, Message,
    Polled, VERSION, contents, directory_name, protected,
};
use super::protection::Keys;
use super::status::{ACCEPTED, GRANTED_WITH_CHANGES, WAITING, refusal, said, said_status};
use crate::clock::{Clock as _, SystemClock};
use crate::digest::{from_hex, hex};
use crate::upstream::answer::{Answer, Unreachable};
use crate::upstream::http::HttpClient;
use crate::x509::{Certificate, SignatureAlgorithm, to_pem};

const MEDIA_TYPE: &str = "application/pkixcmp";
/// Bytes of transactionID and senderNonce (RFC 9483 §3.1).
const NONCE: usize = 16;
/// certReqId of a request that has none (RFC 9483 §4.1.4).
const NO_REQUEST: i64 = -1;

/// What a request is known by, from its first message to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transaction {
    id: Vec<u8>,
    /// The last nonce of the CA's.
    nonce: Vec<u8>,
    pub(super) request: i64,
}

impl Transaction {
    pub(super) fn new() -> Result<Self, Unreachable> {
        Ok(Self {
            id: random()?,
            nonce: Vec::new(),
            request: NO_REQUEST,
        })
    }

    /// For the record of the request; [`Transaction::parse`] reads it.
    fn reference(&self) -> String {
        format!("{}.{}.{}", hex(&self.id), hex(&self.nonce), self.request)
    }

    pub(super) fn parse(reference: &str) -> Option<Self> {
        let mut parts = reference.split('.');
        let transaction = Self {
            id: bytes(parts.next()?)?,
            nonce: bytes(parts.next()?)?,
            request: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(transaction)
    }
}

/// An answer that the CA has protected.
pub(super) struct Reply {
    pub(super) kind: Kind,
    pub(super) body: Any,
    /// The CA waits for no confirmation.
    is_confirmed: bool,
    extra: Vec<Any>,
}

/// One exchange of messages after another, with the keys and the roots that are in the files now.
pub(super) struct Dialogue<'c> {
    config: &'c CmpConfig,
    client: HttpClient,
    keys: Arc<Keys>,
    pub(super) transaction: Transaction,
}

impl<'c> Dialogue<'c> {
    pub(super) async fn new(
        config: &'c CmpConfig,
        transaction: Transaction,
    ) -> Result<Self, Unreachable> {
        Ok(Self {
            config,
            client: config.http.client().await?,
            keys: Arc::new(config.protection.load().await?),
            transaction,
        })
    }

    /// Sends one message, and returns the answer if the CA has protected it, in this transaction and
    /// after this message.
    pub(super) async fn exchange(
        &mut self,
        kind: Kind,
        body: Vec<u8>,
    ) -> Result<Reply, Unreachable> {
        let nonce = random()?;
        let keys = Arc::clone(&self.keys);
        let (transaction, recipient) = (self.transaction.clone(), self.config.recipient.clone());
        let sent = nonce.clone();
        // The key of a shared secret is made by many rounds of a hash.
        let message = blocking(move || {
            let message = write(&keys, &transaction, &recipient, &sent, kind.with(body)?)?;
            Ok(message.to_der()?)
        });
        let call = self.client.post_to_address();
        let call = call.header(CONTENT_TYPE, MEDIA_TYPE).body(message.await?);
        let answer = self.client.send(call).await?;
        let said = || String::from_utf8_lossy(&answer.body).into_owned();
        // An error may come with a status of its own (RFC 9811 §3.3).
        if answer.status != StatusCode::OK && !answer.is(MEDIA_TYPE) {
            return Err(answer.unreachable("the CA", &said()));
        }
        let message = Message::from_der(&answer.body).map_err(|error| {
            answer.unreachable("the CA", &format!("no CMP message ({error}): {}", said()))
        })?;
        let keys = Arc::clone(&self.keys);
        let transaction = self.transaction.id.clone();
        let (header, reply) = blocking(move || read(&keys, message, &transaction, &nonce)).await?;
        self.transaction.nonce = header
            .sender_nonce
            .map_or_else(Vec::new, |nonce| nonce.as_bytes().to_vec());
        Ok(reply)
    }

    /// What an answer to a request or a poll says.
    pub(super) async fn decide(&mut self, reply: Reply) -> Result<Answer, Unreachable> {
        match reply.kind {
            Kind::CertificateResponse => {
                let certified: Certified = contents(&reply.body).map_err(malformed)?;
                let response = certified.responses.first().ok_or_else(|| {
                    Unreachable::new("the CA answered a request with no response in it")
                })?;
                self.transaction.request = response.request;
                match response.status.status {
                    ACCEPTED | GRANTED_WITH_CHANGES => {}
                    WAITING => return Ok(self.pending(None)),
                    _ => return refusal(&response.status, said_status(&response.status)),
                }
                let certificate = response.pair.as_ref().and_then(message::Pair::certificate);
                let certificate = certificate.ok_or_else(|| {
                    Unreachable::new(
                        "the CA accepted the request, and gave no certificate in plain",
                    )
                })?;
                let mut all = vec![certificate.to_vec()];
                for above in certified.authorities.iter().flatten().chain(&reply.extra) {
                    all.push(above.to_der().map_err(malformed)?);
                }
                if !reply.is_confirmed {
                    self.confirm(certificate).await?;
                }
                let pem = all.iter().map(|der| to_pem("CERTIFICATE", der));
                Ok(Answer::Issued(pem.collect::<String>().into_bytes()))
            }
            Kind::PollResponse => {
                let polled: Vec<Polled> = contents(&reply.body).map_err(malformed)?;
                let after = polled.first().map(|first| first.check_after);
                let after = after.and_then(|secs| u64::try_from(secs).ok());
                Ok(self.pending(after.map(Duration::from_secs)))
            }
            Kind::Error => {
                let error: ErrorContent = contents(&reply.body).map_err(malformed)?;
                match error.status.status {
                    WAITING => Ok(self.pending(None)),
                    _ => refusal(&error.status, said(&error)),
                }
            }
            other => Err(Unreachable::new(format!(
                "the CA answered a request with a message of the kind {other:?}"
            ))),
        }
    }

    fn pending(&self, retry_after: Option<Duration>) -> Answer {
        Answer::Pending {
            reference: self.transaction.reference(),
            retry_after,
        }
    }

    /// A CA that asks for it may revoke a certificate whose receipt nobody confirms.
    async fn confirm(&mut self, certificate: &[u8]) -> Result<(), Unreachable> {
        let hash = hash_for(certificate);
        let hash = aws_lc_rs::digest::digest(hash, certificate);
        let confirmation = vec![Confirmation {
            hash: OctetString::new(hash.as_ref()).map_err(malformed)?,
            request: self.transaction.request,
        }];
        let confirmation = confirmation.to_der().map_err(malformed)?;
        let reply = self
            .exchange(Kind::CertificateConfirm, confirmation)
            .await?;
        match reply.kind {
            Kind::Confirmed => Ok(()),
            Kind::Error => {
                let error: ErrorContent = contents(&reply.body).map_err(malformed)?;
                Err(Unreachable::new(format!(
                    "the CA did not take the confirmation of its certificate: {}",
                    said(&error)
                )))
            }
            other => Err(Unreachable::new(format!(
                "the CA answered a confirmation with a message of the kind {other:?}"
            ))),
        }
    }
}

/// What can fail in the writing and the reading of a message.
struct Failed(Unreachable);

impl From<der::Error> for Failed {
    fn from(error: der::Error) -> Self {
        Self(malformed(error))
    }
}

impl From<Unreachable> for Failed {
    fn from(error: Unreachable) -> Self {
        Self(error)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Unreachable> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|Failed(error)| error),
        Err(_) => Err(Unreachable::new("the server is stopping")),
    }
}

fn write(
    keys: &Keys,
    transaction: &Transaction,
    recipient: &[u8],
    nonce: &[u8],
    body: Any,
) -> Result<Message, Failed> {
    let (sender, sender_key) = keys.sender()?;
    let algorithm = keys.algorithm()?;
    let octets = |bytes: &[u8]| match bytes {
        [] => Ok(None),
        bytes => OctetString::new(bytes).map(Some),
    };
    let now = u64::try_from(SystemClock.now().secs()).unwrap_or_default();
    let now = GeneralizedTime::from_unix_duration(Duration::from_secs(now))?;
    let header = Header {
        version: VERSION,
        sender,
        recipient: directory_name(recipient)?,
        message_time: Some(now),
        protection: Some(algorithm.clone()),
        sender_key: octets(&sender_key)?,
        recipient_key: None,
        transaction: octets(&transaction.id)?,
        sender_nonce: octets(nonce)?,
        recipient_nonce: octets(&transaction.nonce)?,
        free_text: None,
        general_info: Some(vec![implicit_confirm()?]),
    };
    let header = Any::from_der(&header.to_der()?)?;
    let protection = keys.protect(&algorithm, &protected(&header, &body)?)?;
    Ok(Message {
        header,
        body,
        protection: Some(der::asn1::BitString::from_bytes(&protection)?),
        extra_certificates: keys.chain()?,
    })
}

fn implicit_confirm() -> der::Result<Info> {
    Ok(AlgorithmIdentifierOwned {
        oid: IMPLICIT_CONFIRM,
        parameters: Some(Any::from_der(&Null.to_der()?)?),
    })
}

/// Only what the CA has protected is read, if it answers this message of this transaction.
fn read(
    keys: &Keys,
    message: Message,
    transaction: &[u8],
    nonce: &[u8],
) -> Result<(Header, Reply), Failed> {
    let header: Header = Header::from_der(&message.header.to_der()?)?;
    let kind = Kind::of(&message.body);
    let bytes = protected(&message.header, &message.body)?;
    let verified = match (&header.protection, &message.protection) {
        (Some(algorithm), Some(protection)) => {
            keys.verify(algorithm, &bytes, protection.raw_bytes())
        }
        _ => Err("it is not protected".to_owned()),
    };
    if let Err(why) = verified {
        let claims = match kind {
            Some(Kind::Error) => contents(&message.body).ok().map(|error| said(&error)),
            _ => None,
        };
        let claims = claims.map_or_else(String::new, |said| format!("; it says: {said}"));
        let text = format!("an answer is not known to be the CA's: {why}{claims}");
        return Err(Unreachable::new(text).into());
    }
    let same = |given: &Option<OctetString>, own: &[u8]| {
        given.as_ref().map(OctetString::as_bytes) == Some(own)
    };
    if !same(&header.transaction, transaction) || !same(&header.recipient_nonce, nonce) {
        let text = "the CA's answer is one to another message";
        return Err(Unreachable::new(text).into());
    }
    let kind = kind.ok_or_else(|| {
        let tag = message.body.tag();
        Unreachable::new(format!("the CA answered with a message of the kind {tag}"))
    })?;
    let infos = header.general_info.iter().flatten();
    let reply = Reply {
        kind,
        is_confirmed: infos.into_iter().any(|info| info.oid == IMPLICIT_CONFIRM),
        body: message.body,
        extra: message.extra_certificates.unwrap_or_default(),
    };
    Ok((header, reply))
}

/// The hash of the certificate's own signature (RFC 9810 §5.3.18).
fn hash_for(certificate: &[u8]) -> &'static aws_lc_rs::digest::Algorithm {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512};
    let parsed = Certificate::parse(certificate).ok();
    match parsed.and_then(|parsed| parsed.signature_algorithm()) {
        Some(
            SignatureAlgorithm::EcdsaSha384
            | SignatureAlgorithm::RsaSha384
            | SignatureAlgorithm::RsaPssSha384,
        ) => &SHA384,
        Some(
            SignatureAlgorithm::EcdsaSha512
            | SignatureAlgorithm::RsaSha512
            | SignatureAlgorithm::RsaPssSha512
            | SignatureAlgorithm::Ed25519,
        ) => &SHA512,
        _ => &SHA256,
    }
}

pub(super) fn malformed(error: der::Error) -> Unreachable {
    Unreachable::new(format!("a CMP message is malformed: {error}"))
}

fn random() -> Result<Vec<u8>, Unreachable> {
    let mut bytes = vec![0; NONCE];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Unreachable::new("no random numbers"))?;
    Ok(bytes)
}

/// Of hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    from_hex(text).filter(|bytes| bytes.len() <= 64)
}
