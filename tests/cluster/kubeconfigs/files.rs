//! The files that the kubeconfigs of the table name.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rootbridge::digest::{hex, sha256};
use tempfile::TempDir;

/// Credentials in the table, which no message may hold.
pub(crate) const SECRETS: [&str; 3] = ["t0ken-of-a-file", "t0ken-written-here", "passw0rd"];

pub(crate) struct Files {
    directory: TempDir,
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Files {
    pub(crate) fn new() -> Self {
        let (ca, _) = certificate(true);
        let (client, key) = certificate(false);
        let (_, other_key) = certificate(false);
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
            ca,
            certificate: client,
            key,
        };
        fs::create_dir(files.path("pki")).unwrap();
        files.write("ca.crt", &files.ca);
        files.write("pki/ca.crt", &files.ca);
        files.write("client.crt", &files.certificate);
        files.write("client.key", &files.key);
        files.write("other.key", &other_key);
        files.write("both.pem", format!("{}{}", files.certificate, files.key));
        files.write(
            "two.crt",
            format!("comment\n{}\n{}", files.ca, files.certificate),
        );
        files.write("crlf.crt", files.ca.replace('\n', "\r\n"));
        files.write("empty", "");
        files.write("text", "no certificate\n");
        files.write("token", "t0ken-of-a-file");
        files.write("token-newline", "t0ken-of-a-file\n");
        files.write("token-crlf", "\n t0ken-of-a-file\r\n");
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }
}

fn certificate(is_ca: bool) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["test.example".to_owned()]).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

pub(crate) fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}
