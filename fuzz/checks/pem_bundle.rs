//! Certificates in PEM: what is read is written again byte for byte, as PEM and as SPIFFE's JSON, and
//! other parsers read the same certificates from it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::clock::UnixTime;
use rootbridge::x509::{
    Certificate, PublicKey, San, TrustBundle, TrustDomain, parse_pem_chain, to_pem, verify_ca_path,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_cert::der::{Decode as _, Encode as _};
use x509_parser::prelude::FromDer as _;

use super::csr::certified;
use super::{Outcome, assert_printable};

/// A chain or bundle in PEM, or one certificate in DER.
pub fn check(data: &[u8]) -> Outcome {
    if data.first() == Some(&0x30) {
        let pem = to_pem("CERTIFICATE", data);
        let parsed = Certificate::parse(data);
        let chain = parse_pem_chain(pem.as_bytes());
        assert_eq!(parsed.is_ok(), chain.is_ok());
        return Outcome::of(verify(pem.as_bytes()));
    }
    Outcome::of(verify(data))
}

fn verify(pem: &[u8]) -> bool {
    let chain = match parse_pem_chain(pem) {
        Ok(chain) => chain,
        Err(error) => {
            assert_printable(error);
            return false;
        }
    };
    assert!((1..=100).contains(&chain.len()));
    chain.iter().for_each(certificate);
    // What another parser finds in the same text must have been read here: no certificate is hidden
    // in skipped text.
    for other in CertificateDer::pem_slice_iter(pem).flatten() {
        assert!(chain.iter().any(|one| one.der() == other.as_ref()));
    }
    let written: String = chain.iter().map(Certificate::to_pem).collect();
    assert_eq!(parse_pem_chain(written.as_bytes()).expect("written"), chain);
    for now in [0, 1_790_000_000, i64::MAX] {
        let now = UnixTime::from_secs(now);
        if let Err(error) = verify_ca_path(&chain, &chain, now) {
            assert_printable(error);
        }
    }
    bundle(&chain);
    true
}

fn bundle(chain: &[Certificate]) {
    let domain = TrustDomain::parse("cluster.local").expect("a trust domain");
    let new = |anchors| TrustBundle::new(domain.clone(), 7, anchors);
    let twice = (1..chain.len()).any(|at| chain[..at].contains(&chain[at]));
    let bundle = match new(chain.iter().map(|one| one.der().to_vec()).collect()) {
        Ok(bundle) => bundle,
        Err(error) => {
            assert!(twice, "{error}");
            return assert_printable(error);
        }
    };
    assert!(!twice);
    assert_eq!((bundle.trust_domain(), bundle.sequence()), (&domain, 7));
    assert_eq!(bundle.anchors(), chain);
    let pem = bundle.to_pem();
    let ours = parse_pem_chain(pem.as_bytes()).expect("its own PEM");
    let theirs: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .expect("another reader of its PEM");
    assert!(
        ours.iter()
            .map(Certificate::der)
            .eq(theirs.iter().map(|der| der.as_ref()))
    );
    let again = new(ours.iter().map(|one| one.der().to_vec()).collect()).expect("again");
    assert_eq!((&again, again.digest()), (&bundle, bundle.digest()));

    let json = bundle.to_spiffe_json(Duration::from_secs(300));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let keys = json["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), chain.len());
    for (key, anchor) in keys.iter().zip(chain) {
        let x5c = key["x5c"].as_array().expect("x5c");
        assert_eq!(x5c.len(), 1);
        let der = STANDARD.decode(x5c[0].as_str().expect("text"));
        assert_eq!(der.expect("base64"), anchor.der());
        let parameters: &[&str] = match key["kty"].as_str() {
            Some("RSA") => &["n", "e"],
            Some("EC") => &["crv", "x", "y"],
            Some("OKP") => &["crv", "x"],
            other => panic!("{other:?} is no kty"),
        };
        for name in parameters {
            assert!(key[*name].as_str().is_some_and(|text| !text.is_empty()));
        }
    }
}

fn certificate(one: &Certificate) {
    let again = Certificate::parse_with_key(one.der(), Some(one.public_key())).expect("again");
    assert_eq!((&again, again.names()), (one, one.names()));
    let key = PublicKey::from_spki_der(one.public_key().spki_der()).expect("its key alone");
    assert_eq!(&key, one.public_key());
    for text in [one.issuer(), one.subject()] {
        assert!(!text.chars().any(|c| c.is_control()), "{text:?}");
    }
    for name in one.names() {
        assert_eq!(
            &name.to_string().parse::<San>().expect("a name's text"),
            name
        );
    }
    if let Err(error) = one.verify_signed_by(&key) {
        assert_printable(error);
    }
    // These parsers may refuse a foreign anchor; if they read it, they must agree.
    if let Ok(parsed) = x509_cert::Certificate::from_der(one.der()) {
        let tbs = parsed.tbs_certificate();
        assert_eq!(
            tbs.subject().to_der().expect("x509-cert"),
            one.subject_der()
        );
        let not_after = tbs.validity().not_after.to_unix_duration().as_secs();
        assert_eq!(i64::try_from(not_after), Ok(one.not_after().secs()));
    }
    if let Ok((rest, parsed)) = x509_parser::certificate::X509Certificate::from_der(one.der()) {
        assert!(rest.is_empty());
        assert_eq!(parsed.public_key().raw, one.public_key().spki_der());
        assert_eq!(parsed.subject().as_raw(), one.subject_der());
        assert_eq!(parsed.issuer().as_raw(), one.issuer_der());
        if let Ok(basic) = parsed.basic_constraints() {
            assert_eq!(basic.is_some_and(|basic| basic.value.ca), one.is_ca());
        }
        if let (false, Ok(Some(names))) = (one.has_other_names(), parsed.subject_alternative_name())
        {
            let theirs: Vec<San> = names.value.general_names.iter().map(certified).collect();
            assert_eq!(theirs, one.names());
        }
    }
}
