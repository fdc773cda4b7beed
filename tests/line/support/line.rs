//! A directory with a token, a configuration and what it names.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rootbridge::x509::{Certificate, parse_pem_chain};
use serde_json::Value;
use tempfile::TempDir;

use super::jwt::Issuer;
use super::server::Server;
use super::{TD, openssl};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Everything that `rootbridge serve` needs.
pub(crate) struct Line {
    directory: TempDir,
    pub(crate) issuer: Issuer,
    pub(crate) operator: String,
    pub(crate) other_operator: String,
}

impl Line {
    /// A token and a configuration; no authority yet.
    pub(crate) fn bare() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("rb-line-")
            .tempdir()
            .unwrap();
        let path = directory.path();
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("softhsm/new-token");
        openssl::run(Command::new(make).arg(path.join("token")));
        let line = Self {
            issuer: Issuer::new(&path.join("jwks.json")),
            operator: operator(&path.join("operator.token")),
            other_operator: operator(&path.join("other.token")),
            directory,
        };
        fs::write(line.config(), line.configuration()).unwrap();
        line
    }

    /// With a root and an active issuing CA of [`TD`].
    pub(crate) fn new() -> Self {
        let line = Self::bare();
        line.init(TD, &[]);
        line
    }

    /// The same, after its configuration was changed.
    pub(crate) fn with(edits: &[(&str, &str)]) -> Self {
        let line = Self::new();
        for (from, to) in edits {
            line.edit(from, to);
        }
        line
    }

    fn configuration(&self) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        format!(
            r#"
[instance]
name = "line-0"
lease = "5s"

[ledger]
path = "{ledger}"

[hsm]
module = "{MODULE}"
environment = {{ SOFTHSM2_CONF = "{softhsm}" }}
workers = 2
queue = 256
deadline = "5s"
probe_interval = "500ms"

[hsm.tokens.main]
label = "rootbridge"
pin_file = "{pin}"

[listeners.mesh]
address = "127.0.0.1:0"
apis = ["istio", "certificates", "bundles"]
jwt = ["cluster", "people"]
operators = ["admin"]
client_certificates = {{ trust_domains = ["{TD}"], reauthenticate_after = "30d" }}

[listeners.mesh.tls]
trust_domain = "{TD}"
dns = ["localhost"]
ip = ["127.0.0.1"]

[jwt.cluster]
issuer = "https://kubernetes.default.svc.cluster.local"
trust_domain = "{TD}"
subject = "kubernetes"
audiences = {{ istio = "istio-ca", certificates = "rootbridge" }}
jwks_file = "{jwks}"
refresh = "1s"

[jwt.people]
issuer = "https://people.example"
trust_domain = "{TD}"
subject = "opaque"
audiences = {{ certificates = "rootbridge" }}
jwks_file = "{jwks}"

[operators.admin]
trust_domain = "{TD}"
credential_file = "{operator}"

[operators.other]
trust_domain = "{TD}"
credential_file = "{other}"

[profiles.workload]
default_ttl = "24h"
max_ttl = "90d"
backdate = "2m"

[profiles.short]
default_ttl = "10s"
max_ttl = "1h"
backdate = "1s"

[profiles.ignore]
csr_names = "ignore"

[profiles.gold]
usages = ["client"]

[istio]
profile = "workload"

[[policy.rules]]
callers = ["operator:admin"]
profiles = ["workload", "short", "ignore"]
names = ["spiffe://{TD}/ns/*/sa/*", "dns:*.shop.svc", "ip:10.0.0.1"]

[[policy.rules]]
callers = ["spiffe://{TD}/ns/*/sa/*"]
profiles = ["short", "gold", "workload"]
names = ["self"]

[admin]
address = "127.0.0.1:0"
operators = ["admin"]

[log]
format = "json"
level = "trace"
"#,
            ledger = at("ledger.db"),
            softhsm = at("token/softhsm2.conf"),
            pin = at("token/pin"),
            jwks = at("jwks.json"),
            operator = at("operator.token"),
            other = at("other.token"),
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

    /// `ca init`; the root that it made.
    pub(crate) fn init(&self, domain: &str, more: &[&str]) -> Certificate {
        let mut arguments = vec!["ca", "init", "--trust-domain", domain, "-o", "json"];
        arguments.extend(more);
        let report: Value = serde_json::from_str(&self.cli(&arguments)).unwrap();
        let pem = report["root"]["pem"].as_str().unwrap();
        let roots = self.path(&format!("{domain}.pem"));
        fs::write(&roots, pem).unwrap();
        parse_pem_chain(pem.as_bytes()).unwrap().remove(0)
    }

    /// The root that `ca init` made, or what a test has put there, in PEM.
    pub(crate) fn roots(&self, domain: &str) -> String {
        fs::read_to_string(self.path(&format!("{domain}.pem"))).unwrap()
    }

    /// `rootbridge`, which finds this configuration and nothing of the machine's own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rootbridge"));
        command
            .args(arguments)
            .env("ROOTBRIDGE_CONFIG", self.config())
            .env("XDG_STATE_HOME", "/nonexistent")
            .env_remove("RUST_LOG")
            .env_remove("ROOTBRIDGE_CLIENT");
        command
    }

    /// A command that must succeed; its standard output.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        openssl::run(&mut self.command(arguments))
    }

    /// A command that may fail.
    pub(crate) fn try_cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command that must fail; what it says on standard error.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_cli(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} succeeded: {said}");
        // Read as one line, however it was broken for the screen.
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What `cert list` shows of everything recorded.
    pub(crate) fn certificates(&self, filter: &[&str]) -> Vec<Value> {
        let mut arguments = vec!["cert", "list", "-o", "json", "--limit", "10000"];
        arguments.extend(filter);
        serde_json::from_str(&self.cli(&arguments)).unwrap()
    }

    /// Serves and waits until traffic may come.
    pub(crate) async fn serve(&self) -> Server {
        let server = self.start().await;
        server.ready().await;
        server
    }

    /// Serves; it listens when this returns.
    pub(crate) async fn start(&self) -> Server {
        self.start_by(self.command(&["serve"])).await
    }

    /// The same by a command of the caller's.
    pub(crate) async fn start_by(&self, command: Command) -> Server {
        let pin = |name: &str| fs::read_to_string(self.path(name)).unwrap();
        let secrets = vec![
            pin("token/pin"),
            pin("token/so-pin"),
            self.operator.clone(),
            self.other_operator.clone(),
        ];
        Server::start(
            command,
            &self.directory,
            secrets,
            self.issuer.minted.clone(),
        )
        .await
    }
}

fn operator(path: &Path) -> String {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let token = format!("rb_op_{}", super::jwt::b64(&random));
    let mut file = fs::OpenOptions::new();
    let mut file = file
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    std::io::Write::write_all(&mut file, token.as_bytes()).unwrap();
    token
}
