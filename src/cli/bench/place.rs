//! The directory that a benchmark lives in, and the files that its parts read.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::BenchArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::{self, Content};

/// Where packages put SoftHSM.
const USUAL: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];
const PLAN: &str = "plan.json";

pub(super) const TRUST_DOMAIN: &str = "bench.invalid";
pub(super) const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(super) const AUDIENCE: &str = "istio-ca";
/// The name under which the configuration knows the token; its label too.
pub(super) const TOKEN: &str = "bench";
/// Opens a token that is gone in a minute and lies in a directory that is the owner's alone.
pub(super) const PIN: &str = "bench-4711";

/// One server's files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Site {
    pub(super) config: PathBuf,
    pub(super) ledger: PathBuf,
    pub(super) root: PathBuf,
    pub(super) log: PathBuf,
    /// What the ledger holds beforehand.
    pub(super) rows: u64,
    /// The server's program, when it is not this one.
    pub(super) program: Option<PathBuf>,
}

/// What is in the directory, for the process that prepares it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) module: PathBuf,
    /// What SoftHSM reads: it leads to the throwaway token and to no other.
    pub(super) softhsm: PathBuf,
    pub(super) sites: Vec<Site>,
}

impl Plan {
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(PLAN);
        let text = fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
    }
}

/// The directory; removed when this is dropped, or when the process is told to end.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    plan: Plan,
    /// The servers that are to end with this process.
    servers: Arc<Mutex<Vec<u32>>>,
}

impl Place {
    pub(super) fn make(args: &BenchArgs) -> Result<Self, Failure> {
        let module = module(args.module.as_deref())?;
        let dir = args.dir.join(format!("rootbridge-bench-{}", process::id()));
        // Made new and the owner's alone: what somebody else has put there is refused.
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| Failure::file("make", &dir, &error))?;
        let site = |name: &str, rows, program| Site {
            config: dir.join(format!("{name}.toml")),
            ledger: dir.join(format!("{name}.db")),
            root: dir.join(format!("{name}-root.pem")),
            log: dir.join(format!("{name}.log")),
            rows,
            program,
        };
        let sites = match (args.pairs, &args.against) {
            (0, _) => vec![site("bench", args.rows, None)],
            (_, None) => vec![site("fresh", 0, None), site("filled", args.rows, None)],
            (_, Some(other)) => vec![
                site("other", args.rows, Some(other.clone())),
                site("this", args.rows, None),
            ],
        };
        let softhsm = dir.join("softhsm2.conf");
        let place = Self {
            plan: Plan {
                module,
                softhsm,
                sites,
            },
            dir,
            servers: Arc::default(),
        };
        place.fill()?;
        place.remove_on_signal()?;
        Ok(place)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A server that is not to outlive this process.
    pub(super) fn note_server(&self, pid: u32) {
        held(&self.servers).push(pid);
    }

    /// It has ended.
    pub(super) fn forget_server(&self, pid: u32) {
        held(&self.servers).retain(|noted| *noted != pid);
    }

    /// The public half of what signs the callers' tokens.
    pub(super) fn write_jwks(&self, jwks: &Value) -> Result<(), Failure> {
        self.write("jwks.json", &jwks.to_string())
    }

    fn fill(&self) -> Result<(), Failure> {
        let tokens = self.dir.join("tokens");
        fs::create_dir(&tokens).map_err(|error| Failure::file("make", &tokens, &error))?;
        let softhsm = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        self.write("softhsm2.conf", &softhsm)?;
        self.write("pin", PIN)?;
        // The server reads it when the keys of the callers' issuer have been made.
        self.write("jwks.json", r#"{"keys":[]}"#)?;
        let plan = serde_json::to_string(&self.plan).map_err(|e| failed(e.to_string()))?;
        self.write(PLAN, &plan)?;
        for site in &self.plan.sites {
            let config = toml::to_string(&self.config(site)).map_err(|e| failed(e.to_string()))?;
            files::write(&site.config, Content::Secret(config.as_bytes()), true)?;
        }
        Ok(())
    }

    /// What an operator would write, and nothing that makes it faster than the defaults.
    fn config(&self, site: &Site) -> Value {
        json!({
            "instance": { "name": "bench" },
            "ledger": { "path": site.ledger },
            "hsm": {
                "module": self.plan.module,
                "environment": { "SOFTHSM2_CONF": self.plan.softhsm },
                "tokens": { TOKEN: { "label": TOKEN, "pin_file": self.dir.join("pin") } },
            },
            "listeners": { "mesh": {
                "address": "127.0.0.1:0",
                "apis": ["istio"],
                "jwt": ["cluster"],
                "tls": { "trust_domain": TRUST_DOMAIN, "dns": ["localhost"] },
            } },
            "jwt": { "cluster": {
                "issuer": TOKEN_ISSUER,
                "trust_domain": TRUST_DOMAIN,
                "subject": "kubernetes",
                "audiences": { "istio": AUDIENCE },
                "jwks_file": self.dir.join("jwks.json"),
            } },
            "profiles": { "workload": {} },
            "istio": { "profile": "workload" },
            "admin": { "address": "127.0.0.1:0" },
            "log": { "format": "json", "level": "info" },
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        files::write(&self.dir.join(name), Content::Secret(text.as_bytes()), true)
    }

    /// Ctrl-C must leave neither keys nor a server behind.
    fn remove_on_signal(&self) -> Result<(), Failure> {
        let (dir, servers) = (self.dir.clone(), Arc::clone(&self.servers));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        thread::spawn(move || {
            runtime.block_on(async {
                let kinds = (SignalKind::interrupt(), SignalKind::terminate());
                let (Ok(mut interrupt), Ok(mut terminate)) = (signal(kinds.0), signal(kinds.1))
                else {
                    return;
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                for server in held(&servers).drain(..) {
                    if let Some(pid) = pid(server) {
                        let _ = kill_process(pid, Signal::KILL);
                    }
                }
                let _ = fs::remove_dir_all(&dir);
                process::exit(130);
            });
        });
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// SoftHSM alone takes its tokens from where it is told to; any other module would lead to
/// somebody's real ones.
fn module(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let refuse = |what: String| {
        Failure::new(Exit::Hsm, what).next(
            "install SoftHSM (Debian: apt-get install softhsm2), or name it with --module PATH",
        )
    };
    match given {
        None => USUAL
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or_else(|| refuse("no SoftHSM where packages put it".to_owned())),
        Some(path) if !path.exists() => Err(refuse(format!("{} is not there", path.display()))),
        Some(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match name.contains("softhsm") {
                true => Ok(path.to_owned()),
                false => Err(refuse(format!(
                    "{} is not SoftHSM, and a benchmark makes its own token",
                    path.display()
                ))),
            }
        }
    }
}

/// As rustix wants it.
pub(super) fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

fn held(servers: &Mutex<Vec<u32>>) -> MutexGuard<'_, Vec<u32>> {
    servers.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn failed(why: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, why)
}
