//! A listener's last certificate and its key in a file: while the token is away after a restart, the
//! listener serves with it what needs no signature.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::config::OwnCertificate;
use crate::clock::UnixTime;
use crate::net::{Entry, certified_key};
use crate::private_file;
use crate::x509::{Certificate, PublicKey};

/// The file of one certificate of a listener: PEM, the chain and then the key.
#[derive(Debug, Clone)]
pub struct KeptCertificate {
    path: PathBuf,
}

/// A certificate that was read back.
pub(super) struct Kept {
    pub(super) entry: Entry,
    pub(super) public_key: PublicKey,
    pub(super) not_after: UnixTime,
}

impl KeptCertificate {
    /// In this file, which only its owner may read.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept, if it is still the wanted certificate and has not expired. Blocks.
    ///
    /// # Errors
    /// Why a file that exists cannot be used, without anything of its content.
    pub(super) fn read(
        &self,
        wanted: &OwnCertificate,
        now: UnixTime,
    ) -> Result<Option<Kept>, String> {
        let problem = |why: &dyn std::fmt::Display| format!("{}: {why}", self.path.display());
        let text = match std::fs::read(&self.path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(problem(&error)),
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|_| problem(&"its certificates cannot be read"))?;
        let first = chain
            .first()
            .ok_or_else(|| problem(&"it has no certificate"))?;
        let leaf = Certificate::parse(first.to_vec()).map_err(|error| problem(&error))?;
        let mut names = [leaf.names().to_vec(), wanted.names.clone()];
        for each in &mut names {
            each.sort();
            each.dedup();
        }
        let [held, expected] = names;
        if held != expected || leaf.not_after() <= now {
            return Ok(None);
        }
        let key = PrivateKeyDer::from_pem_slice(&text);
        let key = key.map_err(|_| problem(&"its key cannot be read"))?;
        let key = certified_key(chain, key).map_err(|error| problem(&error))?;
        Ok(Some(Kept {
            entry: Entry {
                names: wanted.dns_names(),
                key,
            },
            public_key: leaf.public_key().clone(),
            not_after: leaf.not_after(),
        }))
    }

    /// Keeps a new one instead. Blocks.
    pub(super) fn write(&self, pem: &str) -> io::Result<()> {
        private_file::replace(&self.path, pem.as_bytes())
    }
}
