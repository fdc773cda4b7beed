//! Certification requests as clients make them.

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

/// A key and a request for it.
pub struct KeyAndCsr {
    pub key: KeyPair,
    pub der: Vec<u8>,
    pub pem: String,
}

impl KeyAndCsr {
    /// A P-256 key, an empty subject, these names (`spiffe://…` or DNS).
    pub fn new(names: &[&str]) -> Self {
        Self::with(
            KeyPair::generate().unwrap(),
            names,
            DistinguishedName::new(),
        )
    }

    /// The key and name of a service account of [`TD`](crate::TD).
    pub fn workload(namespace: &str, account: &str) -> Self {
        Self::new(&[&id(namespace, account)])
    }

    /// As Istio's Go agent makes it: one RDN, `O=""`.
    pub fn istio(key: KeyPair, name: &str) -> Self {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "");
        Self::with(key, &[name], subject)
    }

    pub fn with(key: KeyPair, names: &[&str], subject: DistinguishedName) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let text = || Ia5String::try_from(*name).unwrap();
                match name.starts_with("spiffe:") {
                    true => SanType::URI(text()),
                    false => SanType::DnsName(text()),
                }
            })
            .collect();
        let request = params.serialize_request(&key).unwrap();
        Self {
            der: request.der().to_vec(),
            pem: request.pem().unwrap(),
            key,
        }
    }
}

/// The SPIFFE ID of a service account of [`TD`](crate::TD).
pub fn id(namespace: &str, account: &str) -> String {
    format!("spiffe://{}/ns/{namespace}/sa/{account}", crate::TD)
}
