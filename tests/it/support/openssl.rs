//! Keys and CSRs as other processes make them, and a scratch CA: the foreign one that nobody here
//! trusts, and the control that shows a test's other parts to be sound.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{output, run};

/// Kinds of keys a client may bring, as `openssl genpkey` spells them.
pub(crate) const KEYS: &[(&str, &[&str])] = &[
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

pub(crate) fn openssl() -> Command {
    Command::new("openssl")
}

/// A key (PKCS#8) in `directory/name.key`.
pub(crate) fn key(directory: &Path, name: &str, kind: &str) -> PathBuf {
    let (_, arguments) = KEYS.iter().find(|(known, _)| *known == kind).unwrap();
    let path = directory.join(format!("{name}.key"));
    run(openssl()
        .arg("genpkey")
        .args(*arguments)
        .arg("-out")
        .arg(&path));
    path
}

/// A CSR with an empty subject and the given names, as a workload's own process makes it.
pub(crate) fn csr(key: &Path, names: &str) -> PathBuf {
    let path = key.with_extension("csr");
    let names = format!("subjectAltName=critical,{names}");
    run(openssl()
        .args(["req", "-new", "-subj", "/", "-addext", &names, "-key"])
        .arg(key)
        .arg("-out")
        .arg(&path));
    path
}

/// What a TLS endpoint needs: certificates up to the root, key, roots to trust.
#[derive(Clone)]
pub(crate) struct Material {
    pub chain: PathBuf,
    pub key: PathBuf,
    pub roots: PathBuf,
}

/// A one-level CA with its key in a file.
pub(crate) struct ScratchCa {
    directory: PathBuf,
}

impl ScratchCa {
    pub(crate) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let key = key(directory, "root", "ecdsa-p256");
        run(openssl()
            .args([
                "req",
                "-x509",
                "-new",
                "-days",
                "2",
                "-subj",
                "/O=Scratch/CN=Scratch root",
            ])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-key"])
            .arg(key)
            .arg("-out")
            .arg(directory.join("root.pem")));
        Self {
            directory: directory.to_owned(),
        }
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.directory.join("root.pem")
    }

    /// A workload's certificate; `san` and `usage` are what follows `=` in openssl's config.
    pub(crate) fn sign(&self, csr: &Path, san: &str, usage: &str) -> PathBuf {
        let text = format!(
            "subjectAltName={san}\nkeyUsage={usage}\nbasicConstraints=critical,CA:FALSE\n\
             extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\n\
             authorityKeyIdentifier=keyid:always\n"
        );
        self.sign_with(csr, &text)
    }

    fn sign_with(&self, csr: &Path, text: &str) -> PathBuf {
        let chain = csr.with_extension("pem");
        let extensions = csr.with_extension("ext");
        fs::write(&extensions, text).unwrap();
        run(openssl()
            .args(["x509", "-req", "-days", "1", "-set_serial"])
            .arg(format!(
                "0x3f{:030x}",
                u128::from(std::process::id()) << 64 | fresh()
            ))
            .arg("-CA")
            .arg(self.roots())
            .arg("-CAkey")
            .arg(self.directory.join("root.key"))
            .arg("-extfile")
            .arg(&extensions)
            .arg("-in")
            .arg(csr)
            .arg("-out")
            .arg(&chain));
        chain
    }

    /// A CA below this one, which may have `path_len` more below itself.
    pub(crate) fn subordinate(&self, directory: &Path, path_len: u8) -> Self {
        fs::create_dir_all(directory).unwrap();
        let csr = directory.join("root.csr");
        run(openssl()
            .args(["req", "-new", "-subj", "/O=Scratch/CN=Scratch CA", "-key"])
            .arg(key(directory, "root", "rsa-2048"))
            .arg("-out")
            .arg(&csr));
        self.sign_ca(&csr, path_len);
        Self {
            directory: directory.to_owned(),
        }
    }

    /// A CA's certificate.
    pub(crate) fn sign_ca(&self, csr: &Path, path_len: u8) -> PathBuf {
        let text = format!(
            "basicConstraints=critical,CA:TRUE,pathlen:{path_len}\n\
             keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n\
             authorityKeyIdentifier=keyid:always\n"
        );
        self.sign_with(csr, &text)
    }

    /// Key, CSR and certificate for one SPIFFE ID.
    pub(crate) fn workload(&self, name: &str, id: &str) -> Material {
        let key = key(&self.directory, name, "ecdsa-p256");
        let csr = csr(&key, &format!("URI:{id}"));
        let chain = self.sign(
            &csr,
            &format!("critical,URI:{id}"),
            "critical,digitalSignature",
        );
        Material {
            chain,
            key,
            roots: self.roots(),
        }
    }
}

/// `sha256:…` of a certificate.
pub(crate) fn fingerprint(certificate: &Path) -> String {
    let text = run(openssl()
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(certificate));
    let digits = text.trim().rsplit('=').next().unwrap().replace(':', "");
    format!("sha256:{}", digits.to_lowercase())
}

/// Whether a TLS handshake with a server on this machine succeeds now.
pub(crate) fn handshake(port: u16) -> bool {
    let mut command = openssl();
    command
        .args([
            "s_client",
            "-servername",
            "rootbridge.rootbridge.svc",
            "-alpn",
            "h2",
            "-connect",
        ])
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null());
    output(&mut command).status.success()
}

/// The chain that a TLS server on this machine shows, in a file.
pub(crate) fn shown_by(port: u16, directory: &Path) -> PathBuf {
    let shown = run(openssl()
        .args([
            "s_client",
            "-showcerts",
            "-servername",
            "rootbridge.rootbridge.svc",
            "-alpn",
            "h2",
            "-connect",
        ])
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null()));
    let begin = "-----BEGIN CERTIFICATE-----";
    let end = "-----END CERTIFICATE-----\n";
    let blocks = shown
        .split(begin)
        .skip(1)
        .filter_map(|rest| rest.split_once(end));
    let chain: Vec<String> = blocks
        .map(|(body, _)| format!("{begin}{body}{end}"))
        .collect();
    let path = directory.join(format!("shown-{port}.pem"));
    fs::write(&path, chain.concat()).unwrap();
    path
}

fn fresh() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}
