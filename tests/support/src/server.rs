//! A configured CA in a directory of its own: a token, a configuration file and the files it names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rootbridge::x509::{Certificate, parse_pem_chain};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{rootbridge, run};
use crate::files::{repository, write_secret};
use crate::jwk::{JwtKey, b64};
use crate::jwt::{ISSUER, TokenIssuer};
use crate::running::RunningServer;
use crate::softhsm;
use crate::{TD, free_port};

/// Everything that `rootbridge serve` needs. [`Self::serve`] starts it.
pub struct TestServer {
    directory: TempDir,
    pub issuer: TokenIssuer,
    pub operator: String,
    pub other_operator: String,
    /// Of the listener `mesh`. 0: the system chooses one at each start, which
    /// [`RunningServer::port`] returns.
    pub port: u16,
    /// The same of the admin endpoint, which [`RunningServer::admin`] holds.
    pub admin: u16,
}

impl TestServer {
    /// With a token and a configuration, without an authority.
    pub fn bare() -> Self {
        Self::configured(JwtKey::p256("one"), (0, 0))
    }

    /// The same for clients that outlive a server or know nothing of its log: on fixed ports, with
    /// RSA keys for tokens, a name that linters accept, logging at `info`, and the default probe
    /// interval.
    pub fn bare_on_fixed_ports() -> Self {
        let setup = Self::configured(JwtKey::rsa("one"), (free_port(), free_port()));
        setup.edit("level = \"trace\"", "level = \"info\"");
        setup.edit("probe_interval = \"500ms\"\n", "");
        setup.edit(
            "dns = [\"localhost\"]",
            "dns = [\"rootbridge.rootbridge.svc\"]",
        );
        setup
    }

    /// [`Self::bare_on_fixed_ports`] with a root and an active issuing CA.
    pub fn on_fixed_ports() -> Self {
        let setup = Self::bare_on_fixed_ports();
        setup.init(TD, &[]);
        setup
    }

    fn configured(key: JwtKey, (port, admin): (u16, u16)) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("rb-server-")
            .tempdir()
            .unwrap();
        let path = directory.path();
        let make = repository("softhsm/new-token");
        run(Command::new(make).arg(path.join("token")));
        let setup = Self {
            issuer: TokenIssuer::new(key, path),
            operator: operator(&path.join("operator.token")),
            other_operator: operator(&path.join("other.token")),
            directory,
            port,
            admin,
        };
        fs::write(setup.config(), setup.configuration()).unwrap();
        setup
    }

    /// With a root and an active issuing CA of [`TD`].
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let setup = Self::bare();
        setup.init(TD, &[]);
        setup
    }

    /// The same with an edited configuration.
    pub fn with(edits: &[(&str, &str)]) -> Self {
        let setup = Self::new();
        for (from, to) in edits {
            setup.edit(from, to);
        }
        setup
    }

    fn configuration(&self) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        format!(
            r#"
[instance]
name = "test-0"
lease = "5s"

[ledger]
path = "{ledger}"

[hsm]
module = "{module}"
environment = {{ SOFTHSM2_CONF = "{softhsm}" }}
workers = 2
queue = 256
deadline = "5s"
probe_interval = "500ms"

[hsm.tokens.main]
label = "rootbridge"
pin_file = "{pin}"

[listeners.mesh]
address = "127.0.0.1:{port}"
apis = ["istio", "certificates", "bundles"]
jwt = ["cluster", "people"]
operators = ["admin"]
client_certificates = {{ trust_domains = ["{TD}"], reauthenticate_after = "30d" }}

[listeners.mesh.tls]
trust_domain = "{TD}"
dns = ["localhost"]
ip = ["127.0.0.1"]

[jwt.cluster]
issuer = "{ISSUER}"
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
address = "127.0.0.1:{admin}"
operators = ["admin"]

[log]
format = "json"
level = "trace"
"#,
            port = self.port,
            admin = self.admin,
            module = softhsm::module().display(),
            ledger = at("ledger.db"),
            softhsm = at("token/softhsm2.conf"),
            pin = at("token/pin"),
            jwks = at("jwks.json"),
            operator = at("operator.token"),
            other = at("other.token"),
        )
    }

    /// A path in this CA's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("rootbridge.toml")
    }

    /// Replaces text of the configuration, which must contain it.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "the configuration has no `{from}`");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// Lets every caller request as much as it can, as load does that stands for many.
    pub fn lift_limits(&self) {
        const MOST: &str = "{ per_second = 1000000, burst = 1000000, concurrency = 1000000 }";
        let kinds = ["pod", "node_proxy", "identity", "cluster"];
        let limits = kinds.map(|kind| format!("{kind} = {MOST}\n")).concat();
        self.edit("[admin]\n", &format!("[admission]\n{limits}\n[admin]\n"));
    }

    /// Uses the PKCS#11 module that fails on command, from the next start on. The returned function
    /// sets the commands.
    pub fn use_faulty_module(&self) -> impl Fn(&str) + use<> {
        let (shim, control) = (self.path("shim.so"), self.path("control"));
        softhsm::build_faulty_module(&shim);
        let real = softhsm::module();
        let section =
            |module: &Path| format!("module = \"{}\"\nenvironment = {{ ", module.display());
        let environment = format!(
            "RB_SHIM_MODULE = \"{}\", RB_SHIM_CONTROL = \"{}\", ",
            real.display(),
            control.display()
        );
        self.edit(&section(&real), &(section(&shim) + &environment));
        move |commands| fs::write(&control, commands).unwrap()
    }

    /// Runs `ca init`; returns the new root.
    pub fn init(&self, domain: &str, more: &[&str]) -> Certificate {
        let mut arguments = vec!["ca", "init", "--trust-domain", domain, "-o", "json"];
        arguments.extend(more);
        let report: Value = serde_json::from_str(&self.cli(&arguments)).unwrap();
        let pem = report["root"]["pem"].as_str().unwrap();
        let roots = self.path(&format!("{domain}.pem"));
        fs::write(&roots, pem).unwrap();
        parse_pem_chain(pem.as_bytes()).unwrap().remove(0)
    }

    /// The roots that clients trust, in PEM: what `ca init` made, unless a test replaced them.
    pub fn roots(&self, domain: &str) -> String {
        fs::read_to_string(self.path(&format!("{domain}.pem"))).unwrap()
    }

    /// `rootbridge` with this configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = rootbridge();
        command
            .args(arguments)
            .env("ROOTBRIDGE_CONFIG", self.config());
        command
    }

    /// Runs a command that must succeed; returns its standard output.
    pub fn cli(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// A command that may fail.
    pub fn try_cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command that must fail; returns its standard error.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_cli(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} succeeded: {error}");
        // Without the breaks of lines that fit a terminal.
        error.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Every record that `cert list` shows.
    pub fn certificates(&self, filter: &[&str]) -> Vec<Value> {
        let mut arguments = vec!["cert", "list", "-o", "json", "--limit", "10000"];
        arguments.extend(filter);
        serde_json::from_str(&self.cli(&arguments)).unwrap()
    }

    /// Starts the server and waits until it is ready.
    pub async fn serve(&self) -> RunningServer {
        let server = self.start().await;
        server.ready().await;
        server
    }

    /// Starts the server and waits until it listens.
    pub async fn start(&self) -> RunningServer {
        self.start_with(self.command(&["serve"])).await
    }

    /// The same with the caller's command.
    pub async fn start_with(&self, command: Command) -> RunningServer {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap();
        let secrets = vec![
            read("token/pin"),
            read("token/so-pin"),
            self.operator.clone(),
            self.other_operator.clone(),
        ];
        let directory = self.directory.path().to_owned();
        let minted = self.issuer.minted.clone();
        let mut server = RunningServer::start(command, directory, secrets, minted).await;
        if self.admin != 0 {
            server.admin = self.admin;
        }
        server
    }
}

fn operator(path: &Path) -> String {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let token = format!("rb_op_{}", b64(&random));
    write_secret(path, &token);
    token
}
