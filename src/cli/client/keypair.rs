//! A new key, and the CSR for it.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use zeroize::Zeroizing;

use crate::cli::failure::{Exit, Failure};
use crate::x509::{KeyKind, San};

pub(super) struct KeyAndCsr {
    pub(super) key_pem: Zeroizing<String>,
    pub(super) csr: Vec<u8>,
}

/// A kind that [`generate`] generates, by its name.
pub(super) fn kind(name: &str) -> Result<KeyKind, String> {
    let kind = name.parse::<KeyKind>().ok();
    let kind = kind.filter(|kind| *kind != KeyKind::EcdsaP521);
    kind.ok_or_else(|| {
        "write ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096".to_owned()
    })
}

pub(super) fn generate(kind: KeyKind, names: &[San]) -> Result<KeyAndCsr, Failure> {
    let failed =
        |error: rcgen::Error| Failure::new(Exit::Failed, format!("cannot create the CSR: {error}"));
    let key = match kind {
        KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyKind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
        KeyKind::Rsa { bits: 2048 } => {
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
        }
        KeyKind::Rsa { bits: 3072 } => {
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)
        }
        KeyKind::Rsa { bits: 4096 } => {
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)
        }
        other => {
            let message = format!("{other} keys are not generated here");
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    .map_err(failed)?;
    let mut params = CertificateParams::default();
    // The server takes nothing else from the CSR.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names
        .iter()
        .map(san)
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let csr = params.serialize_request(&key).map_err(failed)?;
    Ok(KeyAndCsr {
        key_pem: Zeroizing::new(key.serialize_pem()),
        csr: csr.der().to_vec(),
    })
}

fn san(name: &San) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        San::Spiffe(id) => SanType::URI(id.as_str().try_into()?),
        San::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        San::Ip(ip) => SanType::IpAddress(*ip),
    })
}
