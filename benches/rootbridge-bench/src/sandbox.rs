//! The temporary directory of one benchmark: SoftHSM's token, and each server's files.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Args;
use crate::requests::{AUDIENCE, TOKEN_ISSUER, TRUST_DOMAIN};
use crate::token::{LABEL, PIN};

/// Where packages put SoftHSM.
const SOFTHSM: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// Removes its directory when it is dropped.
pub(crate) struct Sandbox {
    dir: TempDir,
    pub(crate) module: PathBuf,
    pub(crate) servers: Vec<ServerFiles>,
}

pub(crate) struct ServerFiles {
    pub(crate) program: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) ledger: PathBuf,
    pub(crate) log: PathBuf,
    /// Certificates in the ledger before the load starts.
    pub(crate) rows: u64,
}

impl Sandbox {
    pub(crate) fn create(args: &Args) -> Result<Self> {
        let module = softhsm(args.module.as_deref())?;
        let program = program(args.server.as_deref())?;
        // Its mode is 0700: it holds a PIN and keys.
        let dir = tempfile::Builder::new()
            .prefix("rootbridge-bench-")
            .tempdir_in(&args.dir)
            .with_context(|| format!("cannot create a directory in {}", args.dir.display()))?;
        let files = |name: &str, rows, program: &Path| ServerFiles {
            program: program.to_owned(),
            config: dir.path().join(format!("{name}.toml")),
            ledger: dir.path().join(format!("{name}.db")),
            log: dir.path().join(format!("{name}.log")),
            rows,
        };
        let servers = match (args.pairs, &args.against) {
            (0, _) => vec![files("bench", args.rows, &program)],
            (_, None) => vec![
                files("empty", 0, &program),
                files("filled", args.rows, &program),
            ],
            (_, Some(other)) => vec![
                files("other", args.rows, other),
                files("this", args.rows, &program),
            ],
        };
        let sandbox = Self {
            dir,
            module,
            servers,
        };
        sandbox.write_files()?;
        Ok(sandbox)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.path().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// `program` with SoftHSM's configuration. ROOTBRIDGE_* of the caller's environment could lead
    /// to another server's ledger and is removed.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(b"ROOTBRIDGE_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command
            .env("SOFTHSM2_CONF", self.softhsm_conf())
            .stdin(Stdio::null());
        command
    }

    /// Runs `program` to its end. Its standard error is this process's.
    pub(crate) async fn output(&self, program: &Path, args: &[&OsStr]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(args).stderr(Stdio::inherit());
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        if !output.status.success() {
            bail!("{} {}", program.display(), output.status);
        }
        Ok(output)
    }

    fn softhsm_conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    fn write_files(&self) -> Result<()> {
        let tokens = self.dir.path().join("tokens");
        fs::create_dir(&tokens)?;
        let tokens = tokens.display();
        self.write(
            "softhsm2.conf",
            &format!(
                "directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
            ),
        )?;
        self.write("pin", PIN)?;
        // `ca init` checks the file; the keys are written before a server starts.
        self.write("jwks.json", r#"{"keys":[]}"#)?;
        for server in &self.servers {
            let mut config = self.config(server);
            fs::write(&server.config, toml::to_string(&config)?)?;
            // A program from before these limits has none, and refuses their section.
            if self.is_refused(server, "admission")? {
                let sections = config.as_object_mut();
                sections.and_then(|sections| sections.remove("admission"));
                fs::write(&server.config, toml::to_string(&config)?)?;
            }
        }
        Ok(())
    }

    /// Whether the server's program does not know a section of its configuration.
    fn is_refused(&self, server: &ServerFiles, section: &str) -> Result<bool> {
        let mut command = self.command(&server.program);
        command
            .args(["config", "validate", "--config"])
            .arg(&server.config);
        let output = command
            .output()
            .with_context(|| format!("cannot start {}", server.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        Ok(!output.status.success() && said.contains(section))
    }

    /// What an operator would write, and nothing that is faster than the defaults. The load is one caller,
    /// which stands for many.
    fn config(&self, server: &ServerFiles) -> Value {
        const MOST: u32 = 1_000_000;
        let unlimited = json!({ "per_second": MOST, "burst": MOST, "concurrency": MOST });
        json!({
            // Each server's own: by it the marks of two ledgers are told apart.
            "instance": { "name": server.config.file_stem().and_then(|name| name.to_str()) },
            "ledger": { "path": server.ledger },
            "hsm": {
                "module": self.module,
                "environment": { "SOFTHSM2_CONF": self.softhsm_conf() },
                "tokens": { "bench": { "label": LABEL, "pin_file": self.dir.path().join("pin") } },
            },
            "listeners": { "mesh": {
                "address": "127.0.0.1:0",
                "apis": ["istio"],
                "jwt": ["cluster"],
                "client_certificates": { "trust_domains": [TRUST_DOMAIN], "reauthenticate_after": "30d" },
                "tls": { "trust_domain": TRUST_DOMAIN, "dns": ["localhost"] },
            } },
            "jwt": { "cluster": {
                "issuer": TOKEN_ISSUER,
                "trust_domain": TRUST_DOMAIN,
                "subject": "kubernetes",
                "audiences": { "istio": AUDIENCE },
                "jwks_file": self.dir.path().join("jwks.json"),
            } },
            "admission": { "pod": unlimited, "identity": unlimited, "cluster": unlimited },
            "profiles": { "workload": {} },
            "istio": { "profile": "workload" },
            "admin": { "address": "127.0.0.1:0" },
            "log": { "format": "json", "level": "info" },
        })
    }
}

/// The server's program: the given one, or `rootbridge` beside this one.
fn program(given: Option<&Path>) -> Result<PathBuf> {
    let program = match given {
        Some(program) => program.to_owned(),
        None => std::env::current_exe()?.with_file_name("rootbridge"),
    };
    if !program.exists() {
        bail!(
            "there is no server at {}: build it (cargo build), or name it with --server PROGRAM",
            program.display()
        );
    }
    Ok(program)
}

/// Only SoftHSM uses a token directory of the caller's choice: any other module would lead to real
/// tokens.
fn softhsm(given: Option<&Path>) -> Result<PathBuf> {
    let Some(path) = given else {
        return SOFTHSM
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or_else(|| {
                anyhow!(
                    "SoftHSM is not installed where packages put it: install it \
                     (Debian: apt-get install softhsm2), or name its module with --module FILE"
                )
            });
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !path.exists() {
        bail!("there is no module at {}", path.display());
    }
    if !name.contains("softhsm") {
        bail!(
            "{} is not SoftHSM's module: the benchmark makes its own token, which needs SoftHSM",
            path.display()
        );
    }
    Ok(path.to_owned())
}
