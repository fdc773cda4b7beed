//! A server of CMP that answers as it is told, protected by a shared secret. openssl's client has to be content with it, too.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use rootbridge::x509::{read_certificates, to_pem};
use rootbridge_test_support::command::run;

use crate::enterprise::{Enterprise, Said};

pub const SECRET: &str = "correct horse";

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const TEXT: u8 = 0x0c;
/// `[n]`, constructed.
pub const fn at(number: u8) -> u8 {
    0xa0 + number
}

/// An element of DER.
#[derive(Clone)]
pub struct Element {
    pub tag: u8,
    pub contents: Vec<u8>,
    pub whole: Vec<u8>,
}

/// The elements that follow each other.
pub fn elements(mut bytes: &[u8]) -> Vec<Element> {
    let mut found = Vec::new();
    while let [tag, length, ..] = bytes {
        let octets = usize::from(length & 0x7f) * usize::from(length >> 7);
        let length = match octets {
            0 => usize::from(*length),
            _ => bytes[2..2 + octets]
                .iter()
                .fold(0, |sum, octet| sum << 8 | usize::from(*octet)),
        };
        let (whole, rest) = bytes.split_at(2 + octets + length);
        found.push(Element {
            tag: *tag,
            contents: whole[2 + octets..].to_vec(),
            whole: whole.to_vec(),
        });
        bytes = rest;
    }
    found
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(contents.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            out.push(0x83);
            out.extend(&u32::try_from(contents.len()).unwrap().to_be_bytes()[1..]);
            // The shortest form.
            while out[2] == 0 {
                out.remove(2);
                out[1] -= 1;
            }
        }
    }
    out.extend(contents);
    out
}

/// What a message says.
pub struct Message {
    header: Vec<Element>,
    pub body: Element,
}

impl Message {
    pub fn parse(bytes: &[u8]) -> Self {
        let parts = elements(&elements(bytes)[0].contents);
        let message = Self {
            header: elements(&parts[0].contents),
            body: parts[1].clone(),
        };
        let protection = &elements(&parts[2].contents)[0].contents[1..];
        let signed = tlv(SEQUENCE, &[&parts[0].whole, &parts[1].whole]);
        let algorithm = elements(&message.field(1).unwrap())[0].clone();
        // A signature is openssl's to verify.
        if let Some(expected) = mac(&algorithm.contents, &signed) {
            assert_eq!(protection, expected, "the protection");
        }
        message
    }

    pub fn field(&self, number: u8) -> Option<Vec<u8>> {
        // Sender and recipient have tags of their own kind.
        let mut fields = self.header[3..].iter();
        let found = fields.find(|field| field.tag == at(number))?;
        Some(found.contents.clone())
    }

    pub fn transaction(&self) -> Vec<u8> {
        self.field(4).unwrap()
    }
}

/// The protection by the shared secret, for an AlgorithmIdentifier's contents.
fn mac(algorithm: &[u8], signed: &[u8]) -> Option<Vec<u8>> {
    let parts = elements(algorithm);
    let parameters = elements(&parts.get(1)?.contents);
    let key = match parts[0].contents.as_slice() {
        // id-PasswordBasedMac
        b"\x2a\x86\x48\x86\xf6\x7d\x07\x42\x0d" => {
            let mut key = [SECRET.as_bytes(), &parameters[0].contents].concat();
            for _ in 0..number(&parameters[2].contents) {
                key = digest::digest(&digest::SHA256, &key).as_ref().to_vec();
            }
            key
        }
        // id-PBMAC1
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0e" => {
            let derivation = elements(&elements(&parameters[0].contents)[1].contents);
            let mut kdf = Command::new("openssl");
            kdf.args([
                "kdf",
                "-keylen",
                &number(&derivation[2].contents).to_string(),
            ]);
            kdf.args([
                "-kdfopt",
                "digest:SHA256",
                "-kdfopt",
                &format!("pass:{SECRET}"),
            ]);
            let salt: String = derivation[0]
                .contents
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            kdf.args(["-kdfopt", &format!("hexsalt:{salt}")]);
            let iterations = number(&derivation[1].contents);
            kdf.args(["-kdfopt", &format!("iter:{iterations}"), "PBKDF2"]);
            let text = run(&mut kdf);
            let octets = text.trim().split(':');
            octets
                .map(|octet| u8::from_str_radix(octet, 16).unwrap())
                .collect()
        }
        _ => return None,
    };
    let function = parameters.last().unwrap();
    let algorithm = match elements(&function.contents)[0].contents.as_slice() {
        b"\x2b\x06\x01\x05\x05\x08\x01\x02" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        b"\x2a\x86\x48\x86\xf7\x0d\x02\x09" => hmac::HMAC_SHA256,
        other => panic!("another MAC: {other:?}"),
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, &key), signed);
    Some(tag.as_ref().to_vec())
}

fn number(contents: &[u8]) -> u32 {
    contents
        .iter()
        .fold(0, |sum, octet| sum << 8 | u32::from(*octet))
}

/// What the server remembers of a transaction.
struct Open {
    csr: String,
    nonce: Vec<u8>,
}

#[derive(Clone)]
struct Server {
    ca: Arc<Enterprise>,
    open: Arc<Mutex<HashMap<Vec<u8>, Open>>>,
    echo: Echo,
}

/// What an answer repeats of the message that it is to.
#[derive(Clone, Copy)]
pub enum Echo {
    Both,
    /// With another transactionID.
    Nonce,
    /// With another recipNonce.
    Transaction,
}

pub fn router(ca: Arc<Enterprise>) -> Router {
    router_with(ca, Echo::Both)
}

pub fn router_with(ca: Arc<Enterprise>, echo: Echo) -> Router {
    let open = Arc::default();
    Router::new()
        .route("/cmp/corp", post(answer))
        .with_state(Server { ca, open, echo })
}

async fn answer(State(server): State<Server>, bytes: Bytes) -> Response {
    let message = Message::parse(&bytes);
    let transaction = message.transaction();
    let is_poll = message.body.tag == at(25);
    let csr = match message.body.tag {
        tag if tag == at(4) => to_pem("CERTIFICATE REQUEST", &message.body.contents),
        _ => {
            let open = server.open.lock().unwrap();
            let open = &open[&transaction];
            let nonce = message.field(6).unwrap();
            assert_eq!(
                nonce,
                tlv(OCTETS, &[&open.nonce]),
                "the server's last nonce"
            );
            open.csr.clone()
        }
    };
    if message.body.tag == at(24) {
        let null: &[u8] = &[5, 0];
        return reply(&server, &message, csr, &tlv(at(19), &[null]), &[]);
    }
    let ca = Arc::clone(&server.ca);
    let text = "case".to_owned();
    let none = tlv(INTEGER, &[&[0xff]]);
    let status = |status: u8, text: &str, bits: &[u8]| {
        let text = tlv(SEQUENCE, &[&tlv(TEXT, &[text.as_bytes()])]);
        tlv(SEQUENCE, &[&tlv(INTEGER, &[&[status]]), &text, bits])
    };
    let certified = |parts: &[&[u8]]| {
        let response = tlv(SEQUENCE, &[&none, &parts.concat()]);
        tlv(at(3), &[&tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&response])])])
    };
    match ca.ask(csr.clone(), is_poll.then_some(text)).await {
        Said::Issued(bytes) => {
            let own = match read_certificates(&bytes) {
                Ok(certificates) if bytes.starts_with(b"root first") => certificates,
                _ => return bytes.into_response(),
            };
            let file = server.ca.file("request.csr");
            let key = rootbridge_test_support::openssl::public_key(&file, &csr);
            let (own, above): (Vec<_>, Vec<_>) = own
                .iter()
                .partition(|each| each.public_key().spki_der() == key);
            let pair = tlv(SEQUENCE, &[&tlv(at(0), &[own[0].der()])]);
            let body = certified(&[&status(0, "here it is", &[]), &pair]);
            let above: Vec<_> = above.iter().map(|each| each.der()).collect();
            reply(&server, &message, csr, &body, &above)
        }
        Said::Pending(_) => {
            let body = match is_poll {
                true => {
                    let wait = tlv(INTEGER, &[&[77]]);
                    tlv(
                        at(26),
                        &[&tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&none, &wait])])],
                    )
                }
                false => certified(&[&status(3, "in two weeks", &[])]),
            };
            reply(&server, &message, csr, &body, &[])
        }
        Said::Refused(why) => {
            let body = certified(&[&status(2, &why, &[])]);
            reply(&server, &message, csr, &body, &[])
        }
        Said::Forgotten => {
            // badRequest
            let bits = tlv(BITS, &[&[5, 0x20]]);
            let error = tlv(SEQUENCE, &[&status(2, "which one?", &bits)]);
            reply(&server, &message, csr, &tlv(at(23), &[&error]), &[])
        }
        Said::Nothing => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn reply(server: &Server, to: &Message, csr: String, body: &[u8], extra: &[&[u8]]) -> Response {
    let mut nonce = vec![0; 16];
    aws_lc_rs::rand::fill(&mut nonce).unwrap();
    let name = tlv(at(4), &[&tlv(SEQUENCE, &[])]);
    let algorithm = [
        tlv(6, &[b"\x2a\x86\x48\x86\xf6\x7d\x07\x42\x0d"]),
        tlv(
            SEQUENCE,
            &[
                &tlv(OCTETS, &[&nonce]),
                &tlv(
                    SEQUENCE,
                    &[&tlv(6, &[b"\x60\x86\x48\x01\x65\x03\x04\x02\x01"])],
                ),
                &tlv(INTEGER, &[&[100]]),
                &tlv(SEQUENCE, &[&tlv(6, &[b"\x2a\x86\x48\x86\xf7\x0d\x02\x09"])]),
            ],
        ),
    ]
    .concat();
    let (mut transaction, mut answered) = (to.transaction(), to.field(5).unwrap());
    let changed = match server.echo {
        Echo::Both => None,
        Echo::Nonce => transaction.last_mut(),
        Echo::Transaction => answered.last_mut(),
    };
    if let Some(octet) = changed {
        *octet ^= 1;
    }
    let header = tlv(
        SEQUENCE,
        &[
            &tlv(INTEGER, &[&[2]]),
            &name,
            &name,
            &tlv(at(1), &[&tlv(SEQUENCE, &[&algorithm])]),
            &tlv(at(4), &[&transaction]),
            &tlv(at(5), &[&tlv(OCTETS, &[&nonce])]),
            &tlv(at(6), &[&answered]),
        ],
    );
    let protection = mac(&algorithm, &tlv(SEQUENCE, &[&header, body])).unwrap();
    let protection = tlv(at(0), &[&tlv(BITS, &[&[0], &protection])]);
    let extra = match extra {
        [] => Vec::new(),
        extra => tlv(at(1), &[&tlv(SEQUENCE, &[&extra.concat()])]),
    };
    let whole = tlv(SEQUENCE, &[&header, body, &protection, &extra]);
    let mut open = server.open.lock().unwrap();
    open.insert(to.transaction(), Open { csr, nonce });
    ([("content-type", "application/pkixcmp")], whole).into_response()
}
