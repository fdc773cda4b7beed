//! A CSR: what is accepted is what two other parsers read, with the same key and names, and policy
//! grants nothing but the authenticated name.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use rootbridge::policy::{Config, Policy, PolicyInput, RawConfig, Scope};
use rootbridge::x509::{Csr, CsrSubject, DnsName, PublicKey, San, SpiffeId, to_pem};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::request::CertReq;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::der::{der_of, signed_with_known_key};
use super::{Outcome, assert_printable};

/// The authenticated caller.
static OWN: LazyLock<SpiffeId> =
    LazyLock::new(|| SpiffeId::parse("spiffe://cluster.local/ns/foo/sa/bar").expect("a SPIFFE ID"));
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Config::try_from(RawConfig::default())
        .expect("the default policy")
        .into_policy()
});

/// A CSR in DER or in PEM.
pub fn check(data: &[u8]) -> Outcome {
    let as_sent = [Csr::from_der(data), Csr::from_pem(data)].map(|result| verify(&result));
    // A fuzzer cannot produce a valid signature: the CSR is signed again with a known key, and its
    // original key is parsed separately.
    if let Some((signed, key)) = signed_with_known_key(&der_of(data)) {
        verify(&Csr::from_der(&signed));
        match PublicKey::from_spki_der(&key) {
            Ok(read) => assert_eq!(read.spki_der(), key),
            Err(error) => assert_printable(error),
        }
    }
    Outcome::of(as_sent.contains(&true))
}

fn verify(result: &Result<Csr, rootbridge::x509::CsrError>) -> bool {
    let csr = match result {
        Ok(csr) => csr,
        Err(error) => {
            assert_printable(error);
            return false;
        }
    };
    assert!(csr.der().len() <= 16 * 1024);
    let key = PublicKey::from_spki_der(csr.public_key().spki_der()).expect("its key alone");
    assert_eq!(
        (&key, key.kind()),
        (csr.public_key(), csr.public_key().kind())
    );
    assert_eq!(
        Csr::from_der(csr.der()).expect("again").names(),
        csr.names()
    );
    let pem = to_pem("CERTIFICATE REQUEST", csr.der());
    if pem.len() <= 16 * 1024 {
        assert_eq!(
            Csr::from_pem(pem.as_bytes()).expect("in PEM").der(),
            csr.der()
        );
    }
    assert!(csr.names().len() <= 8);
    for name in csr.names() {
        assert_eq!(
            &name.to_string().parse::<San>().expect("a name's text"),
            name
        );
        assert!(!matches!(name, San::Spiffe(id) if id.path().is_empty()));
    }
    if let CsrSubject::Named(text) = csr.subject() {
        assert_printable(text);
    }
    read_by_x509_cert(csr);
    read_by_x509_parser(csr);
    policy_grants_what_was_authenticated(csr);
    true
}

fn read_by_x509_cert(csr: &Csr) {
    let parsed = CertReq::from_der(csr.der()).expect("x509-cert reads it");
    assert_eq!(parsed.to_der().expect("x509-cert"), csr.der());
    let key = parsed.info.public_key.to_der().expect("x509-cert");
    assert_eq!(key, csr.public_key().spki_der());
    let has_no_extensions = parsed
        .info
        .subject
        .iter()
        .all(|attribute| attribute.value.value().is_empty());
    assert_eq!(has_no_extensions, csr.subject() == &CsrSubject::Empty);
}

fn read_by_x509_parser(csr: &Csr) {
    let (rest, parsed) =
        X509CertificationRequest::from_der(csr.der()).expect("x509-parser reads it");
    assert!(rest.is_empty());
    let info = &parsed.certification_request_info;
    assert_eq!(info.subject_pki.raw, csr.public_key().spki_der());
    let mut names = Vec::new();
    for extension in parsed.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(list) => {
                names.extend(list.general_names.iter().map(certified));
            }
            ParsedExtension::BasicConstraints(basic) => assert!(!basic.ca),
            ParsedExtension::KeyUsage(usage) => {
                assert!(!usage.key_cert_sign() && !usage.crl_sign());
            }
            ParsedExtension::ExtendedKeyUsage(_) | ParsedExtension::SubjectKeyIdentifier(_) => {}
            other => panic!("{other:?} was accepted"),
        }
    }
    assert_eq!(names, csr.names());
}

/// The name as a [`San`]; panics for every type of name that must not be accepted.
pub(crate) fn certified(name: &GeneralName<'_>) -> San {
    match name {
        GeneralName::URI(uri) => San::Spiffe(SpiffeId::parse(uri).expect("a SPIFFE ID")),
        GeneralName::DNSName(name) => San::Dns(DnsName::parse(name).expect("a DNS name")),
        GeneralName::IPAddress(octets) => San::Ip(match octets.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(*octets).expect("four octets")),
            _ => IpAddr::from(<[u8; 16]>::try_from(*octets).expect("sixteen octets")),
        }),
        other => panic!("{other:?} was accepted"),
    }
}

/// The names of a certificate are the authenticated ones: a CSR may repeat them, not add any.
fn policy_grants_what_was_authenticated(csr: &Csr) {
    let own = San::Spiffe(OWN.clone());
    let decide = |scope| {
        let input = PolicyInput {
            trust_domain: OWN.trust_domain(),
            identity: OWN.as_str(),
            caller_name: Some(&own),
            profile: "",
            names: &[],
            ttl: None,
            scope,
        };
        POLICY.decide(&input, csr)
    };
    let requested: BTreeSet<&San> = csr.names().iter().collect();
    match decide(Scope::CallerName) {
        Ok(grant) => {
            assert_eq!(grant.names(), std::slice::from_ref(&own));
            assert!(requested.iter().all(|name| **name == own));
        }
        Err(denial) => {
            assert!(requested.iter().any(|name| **name != own), "{denial}");
        }
    }
    // Without a rule no requested name is granted, not even the caller's own.
    assert!(decide(Scope::Requested).is_err() && decide(Scope::CallerNameByRule).is_err());
}
