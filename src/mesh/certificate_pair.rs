//! A listener's certificate and private key, as files hold them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::UnixTime;
use crate::net::{Entry, TlsError, certified_key};
use crate::x509::{Certificate, KeyKind, private_key_problem, read_certificate_ders};

#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not match, or TLS does not support their kind.
    #[error("certificate_file and key_file: {0}")]
    Tls(#[from] TlsError),
}

/// A certificate with its key, ready for handshakes.
#[derive(Debug)]
pub struct CertificatePair {
    pub(super) entry: Entry,
    /// `None` if it is of a form that no CA of today issues, which TLS still serves.
    leaf: Option<Certificate>,
}

impl CertificatePair {
    /// Reads both files, as a server does and `check`.
    ///
    /// # Errors
    /// [`TlsFileError`] says which file and what is wrong with it.
    pub fn read(certificate: &Path, key: &Path, for_linkerd: bool) -> Result<Self, TlsFileError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsFileError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let contents = (read(certificate)?, zeroize::Zeroizing::new(read(key)?));
        Self::parse(certificate, &contents.0, key, &contents.1, for_linkerd)
    }

    /// From the contents of the files. The leaf, which has the key, may be anywhere among the
    /// certificates.
    pub(super) fn parse(
        certificate_file: &Path,
        certificates: &[u8],
        key_file: &Path,
        key: &[u8],
        for_linkerd: bool,
    ) -> Result<Self, TlsFileError> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| TlsFileError::Content {
            path: path.to_owned(),
            why: why.to_string().replace("FILE", &path.display().to_string()),
        };
        let ders =
            read_certificate_ders(certificates).map_err(|error| wrong(certificate_file, &error))?;
        if let Some(problem) = private_key_problem(key) {
            return Err(wrong(key_file, &problem));
        }
        // The error could quote the file's content.
        let key = PrivateKeyDer::from_pem_slice(key)
            .ok()
            .or_else(|| PrivateKeyDer::try_from(key).ok().map(|key| key.clone_key()))
            .ok_or_else(|| wrong(key_file, &"its private key cannot be read"))?;
        let entry = Entry {
            names: Vec::new(),
            key: matching(ders, &key)?,
        };
        let leaf = entry.key.cert.first();
        let leaf = leaf.and_then(|leaf| Certificate::parse(leaf.as_ref()).ok());
        let is_rsa = |leaf: &Certificate| matches!(leaf.public_key().kind(), KeyKind::Rsa { .. });
        if for_linkerd && leaf.as_ref().is_some_and(is_rsa) {
            let why = "its key is RSA, which Linkerd's proxies reject from their identity service; \
                       use an ECDSA key";
            return Err(wrong(certificate_file, &why));
        }
        Ok(Self { entry, leaf })
    }

    /// The certificate that clients see first.
    pub fn leaf(&self) -> Option<&Certificate> {
        self.leaf.as_ref()
    }

    /// Why every client refuses it at `now`.
    pub fn not_valid(&self, now: UnixTime) -> Option<String> {
        let leaf = self.leaf.as_ref()?;
        let (from, until) = (leaf.not_before(), leaf.not_after());
        if now > until {
            Some(format!(
                "the certificate expired at {until}: every client refuses it"
            ))
        } else if now < from {
            Some(format!(
                "the certificate is not valid before {from}: every client refuses it"
            ))
        } else {
            None
        }
    }
}

/// The certificates with the key's own first, then each one's issuer, then the others.
fn matching(
    ders: Vec<Vec<u8>>,
    key: &PrivateKeyDer<'_>,
) -> Result<Arc<rustls::sign::CertifiedKey>, TlsError> {
    let certify = |ders: &[Vec<u8>]| {
        let chain = ders.iter().map(|der| CertificateDer::from(der.clone()));
        certified_key(chain.collect(), key.clone_key())
    };
    let as_given = certify(&ders);
    let own = (0..ders.len()).find(|index| {
        ders.get(*index..=*index)
            .is_some_and(|one| certify(one).is_ok())
    });
    match own {
        Some(own) => certify(&from_leaf(ders, own)),
        None => as_given,
    }
}

fn from_leaf(mut ders: Vec<Vec<u8>>, leaf: usize) -> Vec<Vec<u8>> {
    let mut chain = vec![ders.remove(leaf)];
    while let Some(last) = chain
        .last()
        .and_then(|der| Certificate::parse(der.as_slice()).ok())
    {
        let issuer = ders.iter().position(|der| {
            Certificate::parse(der.as_slice())
                .is_ok_and(|other| other.subject_der() == last.issuer_der())
        });
        match issuer {
            Some(index) => chain.push(ders.remove(index)),
            None => break,
        }
    }
    chain.append(&mut ders);
    chain
}
