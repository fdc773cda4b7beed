//! Policies and certification requests for the tables.

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rootbridge::policy::{Config, Policy, RawConfig};
use rootbridge::x509::{Csr, San, SpiffeId};

/// The configuration of `[profiles]` and `[policy]` in `text`.
pub(crate) fn config(text: &str) -> Result<Config, String> {
    let mut tables: toml::Table = toml::from_str(text).unwrap();
    let mut section = |name: &str| {
        tables
            .remove(name)
            .unwrap_or_else(|| toml::Table::new().into())
    };
    let raw = RawConfig {
        profiles: section("profiles").try_into().unwrap(),
        policy: section("policy").try_into().unwrap(),
    };
    assert!(tables.is_empty(), "{tables:?}");
    Config::try_from(raw).map_err(|error| error.to_string())
}

pub(crate) fn policy(text: &str) -> Policy {
    config(text).unwrap().into_policy()
}

/// A request with these names, as clients make one, for a key of this algorithm.
pub(crate) fn csr_with(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Csr {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(|name| rcgen_name(name)).collect();
    let key = KeyPair::generate_for(algorithm).unwrap();
    Csr::from_der(params.serialize_request(&key).unwrap().der()).unwrap()
}

pub(crate) fn csr(names: &[&str]) -> Csr {
    csr_with(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

pub(crate) fn san(text: &str) -> San {
    match text.strip_prefix("dns:") {
        Some(name) => San::Dns(rootbridge::x509::DnsName::parse(name).unwrap()),
        None => San::Spiffe(SpiffeId::parse(text).unwrap()),
    }
}

fn rcgen_name(text: &str) -> rcgen::SanType {
    match text.strip_prefix("dns:") {
        Some(name) => rcgen::SanType::DnsName(name.try_into().unwrap()),
        None => rcgen::SanType::URI(text.try_into().unwrap()),
    }
}
