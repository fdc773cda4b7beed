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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::x509::{San, TrustDomain};

    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn wanted(names: &[&str]) -> OwnCertificate {
        OwnCertificate {
            trust_domain: TrustDomain::parse("td").unwrap(),
            names: names
                .iter()
                .map(|name| name.parse::<San>().unwrap())
                .collect(),
        }
    }

    #[test]
    fn only_the_wanted_certificate_with_its_key_and_before_its_end_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let kept = KeptCertificate::new(directory.path().join("serving.pem"));
        let now = UnixTime::from_secs(1_790_000_000);
        let both = wanted(&["dns:b.example", "dns:a.example"]);
        assert!(kept.read(&both, now).unwrap().is_none(), "no file");

        let (certificate, key) = made(&["a.example", "b.example"]);
        kept.write(&format!("{certificate}{key}")).unwrap();
        let found = kept.read(&both, now).unwrap().unwrap();
        assert_eq!(found.entry.names, ["b.example", "a.example"]);
        // rcgen's last day.
        let end = found.not_after;
        assert!(
            kept.read(&both, UnixTime::from_secs(end.secs() - 1))
                .unwrap()
                .is_some()
        );
        assert!(kept.read(&both, end).unwrap().is_none(), "it has expired");
        for other in [&["dns:a.example"][..], &["dns:a.example", "dns:c.example"]] {
            assert!(
                kept.read(&wanted(other), now).unwrap().is_none(),
                "{other:?}"
            );
        }

        let (_, another) = made(&["a.example"]);
        for (text, why) in [
            (format!("{certificate}{another}"), "TLS: "),
            (certificate.clone(), "its key cannot be read"),
            (key.clone(), "it has no certificate"),
        ] {
            kept.write(&text).unwrap();
            let error = kept.read(&both, now).err().unwrap();
            assert!(error.contains(why), "{why}: {error}");
            assert!(!error.contains("PRIVATE KEY"), "{error}");
        }
    }
}
