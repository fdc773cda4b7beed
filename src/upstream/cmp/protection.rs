//! Who sends a message and who answered it: a shared secret, or a certificate's signature.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use der::Encode as _;
use der::asn1::Any;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::Signer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::mac::{self, MacKind};
use super::message::directory_name;
use crate::upstream::answer::Unreachable;
use crate::upstream::http::IdentityFiles;
use crate::upstream::secret::SecretSource;
use crate::x509::{Certificate, SignatureAlgorithm, ca_name, read_certificates};

/// How the CA knows this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Secret {
        /// What the CA calls the secret.
        reference: String,
        secret: SecretSource,
        kind: MacKind,
    },
    Certificate(IdentityFiles),
}

/// With what messages are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Protection {
    pub(super) credential: Credential,
    /// The only certificates whose keys sign answers.
    pub(super) servers: Option<PathBuf>,
}

/// The same, as it is in the files now.
pub(super) struct Keys {
    own: Own,
    servers: Vec<Certificate>,
}

enum Own {
    Secret {
        reference: String,
        secret: SecretString,
        kind: MacKind,
    },
    Certificate {
        chain: Vec<Certificate>,
        signer: Box<dyn Signer>,
        algorithm: SignatureAlgorithm,
    },
}

impl Protection {
    pub(super) async fn load(&self) -> Result<Keys, Unreachable> {
        let servers = match &self.servers {
            Some(path) => certificates(path).await?,
            None => Vec::new(),
        };
        let own = match &self.credential {
            Credential::Secret {
                reference,
                secret,
                kind,
            } => Own::Secret {
                reference: reference.clone(),
                secret: secret.read()?,
                kind: *kind,
            },
            Credential::Certificate(files) => certificate(files).await?,
        };
        Ok(Keys { own, servers })
    }
}

impl Keys {
    /// The sender, and the identifier of its key.
    pub(super) fn sender(&self) -> der::Result<(Any, Vec<u8>)> {
        match &self.own {
            Own::Secret { reference, .. } => {
                // The configuration was checked: it fits.
                let name = ca_name(reference, None).unwrap_or_else(|_| vec![0x30, 0]);
                Ok((directory_name(&name)?, reference.as_bytes().to_vec()))
            }
            Own::Certificate { chain, .. } => {
                let own = chain.first();
                let subject = own.map_or(&[0x30, 0][..], Certificate::subject_der);
                let key = own.and_then(Certificate::subject_key_id);
                Ok((directory_name(subject)?, key.unwrap_or_default().to_vec()))
            }
        }
    }

    /// What goes into extraCerts: this server's own certificate, and those above it.
    pub(super) fn chain(&self) -> der::Result<Option<Vec<Any>>> {
        let Own::Certificate { chain, .. } = &self.own else {
            return Ok(None);
        };
        let certificates = chain.iter();
        let all: der::Result<_> = certificates
            .map(|each| der::Decode::from_der(each.der()))
            .collect();
        all.map(Some)
    }

    pub(super) fn algorithm(&self) -> Result<AlgorithmIdentifierOwned, Unreachable> {
        match &self.own {
            Own::Secret { kind, .. } => kind.algorithm().map_err(|error| failed(&error)),
            Own::Certificate { algorithm, .. } => {
                der::Decode::from_der(algorithm.der()).map_err(|error| failed(&error))
            }
        }
    }

    pub(super) fn protect(
        &self,
        algorithm: &AlgorithmIdentifierOwned,
        bytes: &[u8],
    ) -> Result<Vec<u8>, Unreachable> {
        match &self.own {
            Own::Secret { secret, .. } => {
                match mac::key(algorithm, secret.expose_secret().as_bytes()) {
                    Some(Ok(key)) => Ok(hmac::sign(&key, bytes).as_ref().to_vec()),
                    Some(Err(error)) => Err(failed(&error)),
                    None => Err(failed(&"another algorithm")),
                }
            }
            Own::Certificate { signer, .. } => signer.sign(bytes).map_err(|error| failed(&error)),
        }
    }

    /// Why a message is not known to be the CA's.
    pub(super) fn verify(
        &self,
        algorithm: &AlgorithmIdentifierOwned,
        bytes: &[u8],
        protection: &[u8],
    ) -> Result<(), String> {
        if let Own::Secret { secret, .. } = &self.own
            && let Some(key) = mac::key(algorithm, secret.expose_secret().as_bytes())
        {
            let key = key.map_err(|error| error.to_string())?;
            let verified = hmac::verify(&key, bytes, protection);
            return verified.map_err(|_| "it was not made with this shared secret".to_owned());
        }
        let der = algorithm.to_der().map_err(|error| error.to_string())?;
        let algorithm = SignatureAlgorithm::from_der(&der).map_err(|error| error.to_string())?;
        if self.servers.is_empty() {
            return Err("it is signed, and no server_certificate_file says by whom".to_owned());
        }
        let mut keys = self.servers.iter().map(Certificate::public_key);
        match keys.any(|key| key.verify(algorithm, bytes, protection).is_ok()) {
            true => Ok(()),
            false => Err("no certificate of server_certificate_file has signed it".to_owned()),
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Unreachable {
    Unreachable::new(format!("the message cannot be protected: {error}"))
}

async fn certificates(path: &Path) -> Result<Vec<Certificate>, Unreachable> {
    let failed = |why: String| Unreachable::new(format!("cannot use {}: {why}", path.display()));
    let file = tokio::fs::read(path).await;
    let file = file.map_err(|error| failed(error.to_string()))?;
    read_certificates(&file).map_err(|error| failed(error.to_string()))
}

async fn certificate(files: &IdentityFiles) -> Result<Own, Unreachable> {
    let chain = certificates(files.certificate()).await?;
    let path = files.key();
    let file = tokio::fs::read(path).await.map(Zeroizing::new);
    let file =
        file.map_err(|error| Unreachable::new(format!("cannot read {}: {error}", path.display())))?;
    // A reason could quote the key.
    let key = PrivateKeyDer::from_pem_slice(&file).ok();
    let key = key.and_then(|key| any_supported_type(&key).ok());
    let signer = key.and_then(|key| key.choose_scheme(&SCHEMES));
    let unusable = || {
        Unreachable::new(format!(
            "{} holds no private key in PEM, not encrypted, that signs messages",
            path.display()
        ))
    };
    let signer = signer.ok_or_else(unusable)?;
    let algorithm = match signer.scheme() {
        SignatureScheme::ECDSA_NISTP256_SHA256 => SignatureAlgorithm::EcdsaSha256,
        SignatureScheme::ECDSA_NISTP384_SHA384 => SignatureAlgorithm::EcdsaSha384,
        SignatureScheme::ECDSA_NISTP521_SHA512 => SignatureAlgorithm::EcdsaSha512,
        SignatureScheme::ED25519 => SignatureAlgorithm::Ed25519,
        SignatureScheme::RSA_PKCS1_SHA256 => SignatureAlgorithm::RsaSha256,
        _ => return Err(unusable()),
    };
    Ok(Own::Certificate {
        chain,
        signer,
        algorithm,
    })
}

const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PKCS1_SHA256,
];
