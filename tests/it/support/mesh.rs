//! A CA of our own: a token, a configuration, the ledger, and the process that serves.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::http::wait_ready;
use super::jwt::{ISSUER, Issuer};
use super::process::Process;
use super::{free_port, repository, run};

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A directory with all that `rootbridge serve` needs.
pub(crate) struct Mesh {
    directory: TempDir,
    pub issuer: Issuer,
    pub port: u16,
    pub admin: u16,
}

/// The program under test: the one just built, or another, such as an installed one.
pub(crate) fn rootbridge() -> Command {
    let built = env!("CARGO_BIN_EXE_rootbridge").into();
    let mut command = Command::new(std::env::var_os("ROOTBRIDGE_BIN").unwrap_or(built));
    // Nothing of the machine's own may be found.
    command
        .env_remove("RUST_LOG")
        .env_remove("ROOTBRIDGE_CLIENT")
        .env("XDG_STATE_HOME", "/nonexistent");
    command
}

impl Mesh {
    /// A token and a configuration; no keys yet.
    pub(crate) fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        run(Command::new(repository("softhsm/new-token")).arg(path.join("token")));
        let issuer = Issuer::new(&path.join("callers"));
        let mut secret = fs::OpenOptions::new();
        secret.create_new(true).write(true).mode(0o600);
        let mut file = secret.open(path.join("operator.token")).unwrap();
        let random = run(Command::new("openssl").args(["rand", "-hex", "32"]));
        write!(file, "rb_op_{random}").unwrap();
        let mesh = Self {
            directory,
            issuer,
            port: free_port(),
            admin: free_port(),
        };
        fs::write(mesh.config(), mesh.configuration()).unwrap();
        mesh
    }

    /// With a root and an active issuing CA.
    pub(crate) fn new() -> Self {
        Self::with_keys(&[])
    }

    /// The same, with flags of `ca init` about the CA's keys.
    pub(crate) fn with_keys(flags: &[&str]) -> Self {
        let mesh = Self::bare();
        let mut arguments = vec!["ca", "init", "--trust-domain", TRUST_DOMAIN];
        arguments.extend(flags);
        mesh.cli(&arguments);
        mesh
    }

    fn configuration(&self) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        format!(
            r#"
[instance]
name = "test-0"

[ledger]
path = "{ledger}"

[hsm]
module = "{MODULE}"
environment = {{ SOFTHSM2_CONF = "{softhsm}" }}
workers = 2
queue = 256
deadline = "5s"

[hsm.tokens.main]
label = "rootbridge"
pin_file = "{pin}"

[listeners.mesh]
address = "127.0.0.1:{port}"
apis = ["istio", "certificates", "bundles"]
jwt = ["cluster"]
operators = ["admin"]
client_certificates = {{ trust_domains = ["{TRUST_DOMAIN}"], reauthenticate_after = "30d" }}

[listeners.mesh.tls]
trust_domain = "{TRUST_DOMAIN}"
dns = ["rootbridge.rootbridge.svc"]
ip = ["127.0.0.1"]

[jwt.cluster]
issuer = "{ISSUER}"
trust_domain = "{TRUST_DOMAIN}"
subject = "kubernetes"
audiences = {{ istio = "istio-ca", certificates = "rootbridge" }}
jwks_file = "{jwks}"

[operators.admin]
trust_domain = "{TRUST_DOMAIN}"
credential_file = "{operator}"

[profiles.workload]
default_ttl = "24h"
max_ttl = "90d"
backdate = "2m"

[istio]
profile = "workload"

[[policy.rules]]
callers = ["operator:admin"]
profiles = ["workload"]
names = ["spiffe://{TRUST_DOMAIN}/ns/*/sa/*"]

[admin]
address = "127.0.0.1:{admin}"

[log]
format = "json"
level = "info"
"#,
            ledger = at("ledger.db"),
            softhsm = at("token/softhsm2.conf"),
            pin = at("token/pin"),
            port = self.port,
            jwks = self.issuer.jwks().display(),
            operator = at("operator.token"),
            admin = self.admin,
        )
    }

    /// Something in this CA's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("rootbridge.toml")
    }

    /// Changes the configuration's text; the old words must be there.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "the configuration has no `{from}`");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// A `rootbridge` that finds this configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = rootbridge();
        command
            .args(arguments)
            .env("ROOTBRIDGE_CONFIG", self.config());
        command
    }

    /// `rootbridge serve` with the module's variables set beforehand, so that it need not start
    /// itself again with them: not every tool in front of it outlives that.
    pub(crate) fn serve_command(&self) -> Command {
        let mut command = self.command(&["serve"]);
        command
            .env("SOFTHSM2_CONF", self.path("token/softhsm2.conf"))
            .env("PKCS11SPY", MODULE);
        command
    }

    /// A command that must succeed; its standard output.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// `rootbridge` as a client of this server, with the operator's credential; `path` follows the
    /// arguments.
    pub(crate) fn operator(&self, arguments: &[&str], path: &Path) -> Command {
        let mut command = self.command(arguments);
        command
            .arg(path)
            .arg("--endpoint")
            .arg(format!("https://127.0.0.1:{}", self.port))
            .arg("--bundle")
            .arg(self.roots())
            .arg("--credential-file")
            .arg(self.path("operator.token"));
        command
    }

    /// The CA certificates of active issuers with the path above them, and their roles.
    pub(crate) fn ca_chains(&self) -> Vec<(String, PathBuf)> {
        let text = ledger_judge(&["--chains".as_ref(), self.ledger().as_ref()]);
        let chains: Vec<(String, String)> = serde_json::from_str(&text).unwrap();
        let write = |(at, (role, pem)): (usize, (String, String))| {
            let path = self.path(&format!("{role}-{at}.pem"));
            fs::write(&path, pem).unwrap();
            (role, path)
        };
        chains.into_iter().enumerate().map(write).collect()
    }

    /// The active trust anchors, taken from the ledger by other means than the server's.
    pub(crate) fn roots(&self) -> PathBuf {
        let path = self.path("roots.pem");
        fs::write(
            &path,
            ledger_judge(&["--anchors".as_ref(), self.ledger().as_ref()]),
        )
        .unwrap();
        path
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.path("ledger.db")
    }

    /// The invariants I1 to I4 and I6; the counts by state. The witnesses hold what clients got.
    pub(crate) fn judge_ledger(&self, witnesses: &[PathBuf]) -> Value {
        let ledger = self.ledger();
        let mut arguments: Vec<&OsStr> = vec![ledger.as_ref()];
        arguments.extend(witnesses.iter().map(|path| path.as_os_str()));
        let verdict: Value = serde_json::from_str(&ledger_judge(&arguments)).unwrap();
        assert_eq!(verdict["findings"], Value::Array(Vec::new()), "{verdict:#}");
        verdict
    }

    /// What was signed, as the HSM sees it: digest, serial, signature and kind of each intent.
    pub(crate) fn signed(&self) -> Vec<Signed> {
        let text = ledger_judge(&["--signed".as_ref(), self.ledger().as_ref()]);
        serde_json::from_str(&text).unwrap()
    }

    /// Serves, and waits until traffic may come.
    pub(crate) fn serve(&self) -> Process {
        self.serve_by(self.command(&["serve"]))
    }

    /// Starts serving, ready or not.
    pub(crate) fn start(&self) -> Process {
        Process::start(
            "rootbridge",
            &mut self.command(&["serve"]),
            &self.path("serve.log"),
        )
    }

    /// The same by a command of the caller's: under a tracer, with another environment.
    pub(crate) fn serve_by(&self, mut command: Command) -> Process {
        let mut process = Process::start("rootbridge", &mut command, &self.path("serve.log"));
        wait_ready(self.admin, "/readyz", Duration::from_secs(30), || {
            process.ended()
        })
        .unwrap_or_else(|e| panic!("not ready: {e}\n{}", process.log()));
        process
    }
}

/// Lower hex, empty where there is none.
#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    pub digest: String,
    pub serial: String,
    pub signature: String,
    pub kind: u8,
}

fn ledger_judge(arguments: &[&OsStr]) -> String {
    run(Command::new(repository("build/venv/bin/python"))
        .arg(repository("tests/judges/ledger.py"))
        .args(arguments))
}
