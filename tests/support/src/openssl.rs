//! Keys, requests and CAs that the openssl command makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::command::run;

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Kinds of keys that a client may have, as `openssl genpkey` spells them.
pub const KEYS: &[(&str, &[&str])] = &[
    (
        "ecdsa-p256",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ),
    (
        "ecdsa-p384",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ),
    (
        "ecdsa-p521",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    ),
    (
        "rsa-2048",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ),
    (
        "rsa-3072",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    ),
    (
        "rsa-4096",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    ),
    ("ed25519", &["-algorithm", "ED25519"]),
];

/// A key (PKCS#8) in `directory/name.key`.
pub fn key(directory: &Path, name: &str, kind: &str) -> PathBuf {
    let (_, arguments) = KEYS.iter().find(|(known, _)| *known == kind).unwrap();
    let path = directory.join(format!("{name}.key"));
    let mut command = Command::new("openssl");
    command.arg("genpkey").args(*arguments).arg("-out");
    run(command.arg(&path));
    path
}

/// A CSR with an empty subject and the given names, beside its key.
pub fn csr(key: &Path, names: &str) -> PathBuf {
    let path = key.with_extension("csr");
    let names = format!("subjectAltName=critical,{names}");
    let mut command = Command::new("openssl");
    command.args(["req", "-new", "-subj", "/", "-addext", &names, "-key"]);
    run(command.arg(key).arg("-out").arg(&path));
    path
}

/// The SubjectPublicKeyInfo of a request in PEM, which is left in `file`.
pub fn public_key(file: &Path, csr: &str) -> Vec<u8> {
    fs::write(file, csr).unwrap();
    let mut command = Command::new("openssl");
    command.args(["req", "-pubkey", "-noout", "-in"]);
    let pem = run(command.arg(file));
    let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    STANDARD.decode(body).unwrap()
}

/// What a TLS endpoint needs: certificates without the root, key, roots to trust.
#[derive(Clone)]
pub struct Material {
    pub chain: PathBuf,
    pub key: PathBuf,
    pub roots: PathBuf,
}

/// A CA with its key and its certificate in files.
pub struct OpensslCa {
    directory: PathBuf,
}

impl OpensslCa {
    /// A P-256 root, valid for ten years.
    pub fn new(directory: &Path, name: &str) -> Self {
        let root = Self::in_directory(directory.join(name));
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-nodes", "-days", "3650"])
            .args(P256)
            .args(["-subj", &format!("/O=Enterprise/CN={name}")])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        command.arg("-keyout").arg(root.path("key"));
        run(command.arg("-out").arg(root.pem_file()));
        root
    }

    fn in_directory(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.directory.join("ca").with_extension(extension)
    }

    /// Its certificate.
    pub fn pem_file(&self) -> PathBuf {
        self.path("pem")
    }

    /// Its private key, PKCS#8 in PEM.
    pub fn key_file(&self) -> PathBuf {
        self.path("key")
    }

    pub fn pem(&self) -> String {
        fs::read_to_string(self.pem_file()).unwrap()
    }

    /// Signs a request in PEM with these lines of openssl's extension file and more arguments.
    pub fn sign(&self, csr: &str, extensions: &str, more: &[&str]) -> String {
        let (request, extfile) = (self.path("csr"), self.path("ext"));
        fs::write(&request, csr).unwrap();
        let ids = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        fs::write(&extfile, format!("{extensions}\n{ids}")).unwrap();
        let mut command = Command::new("openssl");
        command.args(["x509", "-req", "-CAcreateserial", "-in"]);
        command.arg(&request).arg("-CA").arg(self.pem_file());
        command.arg("-CAkey").arg(self.path("key"));
        command.arg("-extfile").arg(&extfile);
        if !more.contains(&"-not_after") && !more.contains(&"-days") {
            command.args(["-days", "365"]);
        }
        run(command.args(more))
    }

    /// Signs a request for an issuing CA.
    pub fn certify(&self, csr: &str, path_len: u8) -> String {
        self.sign(csr, &ca(Some(path_len)), &[])
    }

    /// A P-256 CA below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, &P256, None)
    }

    /// A CA below this one, with these arguments of `openssl req` for its key.
    pub fn intermediate_with(&self, name: &str, key: &[&str], path_len: Option<u8>) -> Self {
        let below = Self::in_directory(self.directory.join(name));
        let mut command = Command::new("openssl");
        command.args(["req", "-new", "-nodes"]).args(key);
        command.args(["-subj", &format!("/O=Enterprise/CN={name}")]);
        command.arg("-keyout").arg(below.path("key"));
        run(command.arg("-out").arg(below.path("csr")));
        let csr = fs::read_to_string(below.path("csr")).unwrap();
        let certificate = self.sign(&csr, &ca(path_len), &[]);
        fs::write(below.pem_file(), certificate).unwrap();
        below
    }

    /// Certifies a CA below this one again, for so many days.
    pub fn recertify(&self, below: &Self, days: u32) {
        let csr = fs::read_to_string(below.path("csr")).unwrap();
        let certificate = self.sign(&csr, &ca(None), &["-days", &days.to_string()]);
        fs::write(below.pem_file(), certificate).unwrap();
    }

    /// Signs a workload's CSR for a day, beside it; `san` and `usage` are what follows `=` in
    /// openssl's extension file.
    pub fn sign_leaf(&self, csr: &Path, san: &str, usage: &str) -> PathBuf {
        let extensions = format!(
            "subjectAltName={san}\nkeyUsage={usage}\nbasicConstraints=critical,CA:FALSE\n\
             extendedKeyUsage=serverAuth,clientAuth"
        );
        let request = fs::read_to_string(csr).unwrap();
        let certificate = self.sign(&request, &extensions, &["-days", "1"]);
        let path = csr.with_extension("pem");
        fs::write(&path, certificate).unwrap();
        path
    }

    /// Key, CSR and certificate of a workload.
    pub fn workload(&self, name: &str, id: &str) -> Material {
        let key = key(&self.directory, name, "ecdsa-p256");
        let san = format!("critical,URI:{id}");
        let csr = csr(&key, &format!("URI:{id}"));
        Material {
            chain: self.sign_leaf(&csr, &san, "critical,digitalSignature"),
            key,
            roots: self.pem_file(),
        }
    }
}

/// The extensions of a CA.
pub fn ca(path_len: Option<u8>) -> String {
    let length = path_len
        .map(|n| format!(",pathlen:{n}"))
        .unwrap_or_default();
    format!("basicConstraints=critical,CA:TRUE{length}\nkeyUsage=critical,keyCertSign,cRLSign")
}
