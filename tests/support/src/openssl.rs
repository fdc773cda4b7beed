//! CAs whose keys openssl holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// An enterprise's CA.
pub struct EnterpriseCa {
    directory: PathBuf,
}

impl EnterpriseCa {
    /// A P-256 root that is valid for ten years.
    pub fn new(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        fs::create_dir_all(&directory).unwrap();
        let root = Self { directory };
        run(Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args([
                "-days",
                "3650",
                "-subj",
                &format!("/O=EnterpriseCa/CN={name}"),
            ])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
            .arg("-keyout")
            .arg(root.path("key"))
            .arg("-out")
            .arg(root.path("pem")));
        root
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.directory.join("ca").with_extension(extension)
    }

    pub fn pem(&self) -> String {
        fs::read_to_string(self.path("pem")).unwrap()
    }

    /// Signs a request for a CA, with these lines of openssl's extension file and more arguments.
    pub fn sign(&self, csr: &str, extensions: &str, more: &[&str]) -> String {
        let (request, extfile) = (self.path("csr"), self.path("ext"));
        fs::write(&request, csr).unwrap();
        let ids = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        fs::write(&extfile, format!("{extensions}\n{ids}")).unwrap();
        let mut command = Command::new("openssl");
        command
            .args(["x509", "-req", "-CAcreateserial", "-in"])
            .arg(&request);
        command
            .arg("-CA")
            .arg(self.path("pem"))
            .arg("-CAkey")
            .arg(self.path("key"));
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

    /// An intermediate CA below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_for(name, 365)
    }

    /// An intermediate CA that is valid for so many days.
    pub fn intermediate_for(&self, name: &str, days: u32) -> Self {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).unwrap();
        let below = Self { directory };
        run(Command::new("openssl")
            .args([
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-subj", &format!("/O=EnterpriseCa/CN={name}")])
            .arg("-keyout")
            .arg(below.path("key"))
            .arg("-out")
            .arg(below.path("csr")));
        let csr = fs::read_to_string(below.path("csr")).unwrap();
        fs::write(
            below.path("pem"),
            self.sign(&csr, &ca(None), &["-days", &days.to_string()]),
        )
        .unwrap();
        below
    }
}

/// The extensions of a CA.
pub fn ca(path_len: Option<u8>) -> String {
    let length = path_len
        .map(|n| format!(",pathlen:{n}"))
        .unwrap_or_default();
    format!("basicConstraints=critical,CA:TRUE{length}\nkeyUsage=critical,keyCertSign,cRLSign")
}
