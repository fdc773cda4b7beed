//! Software keys, a small CA, hand-made DER and the openssl command.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use rootbridge::clock::UnixTime;
use rootbridge::x509::{
    Certificate, CertificateSpec, Csr, CsrError, ExtendedKeyUsage, IssuerIdentity, KeyKind,
    PublicKey, San, Serial, SignatureAlgorithm, SubjectSpec, assemble, ca_name, check_issued,
};

/// A moment at which the openssl command, which uses the machine's clock, agrees.
pub(crate) fn now() -> UnixTime {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    UnixTime::from_secs(i64::try_from(since.as_secs()).unwrap())
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A key in software that signs as a token's would.
pub(crate) enum SoftKey {
    Ecdsa(EcdsaKeyPair, SignatureAlgorithm),
    Rsa(RsaKeyPair),
}

impl SoftKey {
    pub(crate) fn generate(kind: KeyKind) -> Self {
        match kind {
            KeyKind::EcdsaP256 => Self::Ecdsa(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
                SignatureAlgorithm::EcdsaSha256,
            ),
            KeyKind::EcdsaP384 => Self::Ecdsa(
                EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap(),
                SignatureAlgorithm::EcdsaSha384,
            ),
            KeyKind::Rsa { bits: 2048 } => {
                Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
            }
            KeyKind::Rsa { bits: 4096 } => {
                Self::Rsa(RsaKeyPair::generate(KeySize::Rsa4096).unwrap())
            }
            other => panic!("no software key of kind {other}"),
        }
    }

    pub(crate) fn p256() -> Self {
        Self::generate(KeyKind::EcdsaP256)
    }

    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::Ecdsa(_, algorithm) => *algorithm,
            Self::Rsa(_) => SignatureAlgorithm::RsaSha256,
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        let spki: PublicKeyX509Der<'_> = match self {
            Self::Ecdsa(pair, _) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
        };
        PublicKey::from_spki_der(spki.as_ref()).unwrap()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ecdsa(pair, _) => pair
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .unwrap();
                signature
            }
        }
    }

    pub(crate) fn issue(&self, spec: &CertificateSpec) -> Certificate {
        let tbs = spec.to_tbs().unwrap();
        let certificate = Certificate::parse(self.seal(&tbs)).unwrap();
        check_issued(&certificate, &tbs, spec).unwrap();
        certificate
    }

    /// `tbs` with this key's signature.
    pub(crate) fn seal(&self, tbs: &[u8]) -> Vec<u8> {
        assemble(tbs, self.algorithm(), &self.sign(tbs)).unwrap()
    }
}

/// A CA in software.
pub(crate) struct Ca {
    pub(crate) key: SoftKey,
    pub(crate) certificate: Certificate,
}

/// What a CA certificate is to say, where it is not the usual.
#[derive(Clone, Copy)]
pub(crate) struct CaTerms {
    pub(crate) kind: KeyKind,
    pub(crate) path_len: Option<u8>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

impl CaTerms {
    pub(crate) fn usual(kind: KeyKind, path_len: Option<u8>) -> Self {
        Self {
            kind,
            path_len,
            not_before: now().minus(DAY),
            not_after: now().plus(DAY * 30),
        }
    }
}

impl Ca {
    pub(crate) fn root(name: &str, terms: CaTerms) -> Self {
        let key = SoftKey::generate(terms.kind);
        let name_der = ca_name(name, Some("Rootbridge test")).unwrap();
        let issuer = IssuerIdentity::root(name_der.clone(), &key.public_key(), key.algorithm());
        let certificate = issue_ca(&key, issuer, name_der, &key, terms);
        Self { key, certificate }
    }

    pub(crate) fn below(&self, name: &str, terms: CaTerms) -> Self {
        let key = SoftKey::generate(terms.kind);
        let subject = ca_name(name, None).unwrap();
        // The clock goes on between the two: a later "usual" must not outlive an earlier.
        let end = self.certificate.not_after();
        let terms = CaTerms {
            not_after: terms.not_after.min(end),
            ..terms
        };
        let certificate = issue_ca(&self.key, self.identity(), subject, &key, terms);
        Self { key, certificate }
    }

    pub(crate) fn identity(&self) -> IssuerIdentity {
        IssuerIdentity::of(&self.certificate).unwrap()
    }

    pub(crate) fn leaf(
        &self,
        names: &[San],
        key: &PublicKey,
        usage: ExtendedKeyUsage,
    ) -> Certificate {
        let spec = CertificateSpec {
            serial: Serial::new(now()),
            issuer: Arc::new(self.identity()),
            not_before: now().minus(Duration::from_secs(120)),
            not_after: now().plus(DAY),
            names: names.to_vec(),
            public_key: key.clone(),
            subject: SubjectSpec::EndEntity(usage),
        };
        self.key.issue(&spec)
    }
}

fn issue_ca(
    signer: &SoftKey,
    issuer: IssuerIdentity,
    name_der: Vec<u8>,
    key: &SoftKey,
    terms: CaTerms,
) -> Certificate {
    signer.issue(&CertificateSpec {
        serial: Serial::new(now()),
        issuer: Arc::new(issuer),
        not_before: terms.not_before,
        not_after: terms.not_after,
        names: Vec::new(),
        public_key: key.public_key(),
        subject: SubjectSpec::Ca {
            name_der,
            path_len: terms.path_len,
        },
    })
}

pub(crate) const BOTH: ExtendedKeyUsage = ExtendedKeyUsage::SERVER_AND_CLIENT;

pub(crate) fn sans(names: &[&str]) -> Vec<San> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// One DER element.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        0x100..=0xffff => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        _ => vec![
            tag,
            0x83,
            (length >> 16) as u8,
            (length >> 8) as u8,
            length as u8,
        ],
    };
    [head, contents].concat()
}

/// The object identifiers' contents that hand-made structures need.
pub(crate) mod oid {
    pub(crate) const SAN: &[u8] = b"\x55\x1d\x11";
    pub(crate) const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
    pub(crate) const BASIC: &[u8] = b"\x55\x1d\x13";
    pub(crate) const EKU: &[u8] = b"\x55\x1d\x25";
    pub(crate) const SKI: &[u8] = b"\x55\x1d\x0e";
    pub(crate) const NAME_CONSTRAINTS: &[u8] = b"\x55\x1d\x1e";
    pub(crate) const EXTENSION_REQUEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { b"\x01\x01\xff" } else { b"" };
    tlv(0x30, &[&tlv(0x06, &[oid]), flag, &tlv(0x04, &[value])])
}

pub(crate) fn uri_san(uri: &str) -> Vec<u8> {
    extension(oid::SAN, true, &tlv(0x30, &[&tlv(0x86, &[uri.as_bytes()])]))
}

pub(crate) fn attribute(oid: &[u8], values: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x06, &[oid]), &tlv(0x31, values)])
}

/// A hand-made request, each part of which a test may spoil.
pub(crate) struct Request {
    pub(crate) version: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) attributes: Vec<Vec<u8>>,
}

impl Request {
    pub(crate) fn of(key: &SoftKey, extensions: &[Vec<u8>]) -> Self {
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let list = tlv(0x30, &extensions);
        Self {
            version: vec![2, 1, 0],
            subject: tlv(0x30, &[]),
            spki: key.public_key().spki_der().to_vec(),
            attributes: vec![attribute(oid::EXTENSION_REQUEST, &[&list])],
        }
    }

    pub(crate) fn info(&self) -> Vec<u8> {
        let attributes: Vec<&[u8]> = self.attributes.iter().map(Vec::as_slice).collect();
        tlv(
            0x30,
            &[
                &self.version,
                &self.subject,
                &self.spki,
                &tlv(0xa0, &attributes),
            ],
        )
    }

    pub(crate) fn signed(&self, key: &SoftKey) -> Vec<u8> {
        key.seal(&self.info())
    }
}

pub(crate) const ID: &str = "spiffe://cluster.local/ns/foo/sa/bar";

/// A request that is accepted.
pub(crate) fn good(key: &SoftKey) -> Request {
    Request::of(key, &[uri_san(ID)])
}

/// The error for a request that asks for `extensions`.
pub(crate) fn asking(extensions: &[Vec<u8>]) -> CsrError {
    let key = SoftKey::p256();
    Csr::from_der(&Request::of(&key, extensions).signed(&key)).unwrap_err()
}

pub(crate) fn says(error: &CsrError, part: &str) {
    assert!(
        error.to_string().contains(part),
        "{part:?} is not in: {error}"
    );
}

/// Runs the openssl command, which must be there; gives its whole output.
pub(crate) fn openssl(arguments: &[&str], directory: &Path) -> Result<String, String> {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the openssl command is needed: apt-get install openssl");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}
