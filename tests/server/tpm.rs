//! A TPM 2.0 as the token (tpm2-pkcs11 on swtpm, behind the resource manager tpm2-abrmd): a module that
//! shares no code with SoftHSM. It keeps no attribute that contradicts another one, prints to standard
//! error, and takes milliseconds for a signature.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rootbridge_test_support::command::run;
use rootbridge_test_support::softhsm;
use rootbridge_test_support::{PATIENCE, TestServer, eventually};
use serde_json::Value;

use crate::existing_keys::a_workload_is_served;

const DOMAIN: &str = "cluster.local";

/// A simulated TPM with its resource manager, for as long as this lives.
struct Tpm {
    directory: PathBuf,
    processes: Vec<Child>,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Tpm {
    async fn start(directory: PathBuf) -> Self {
        for part in ["state", "store"] {
            fs::create_dir_all(directory.join(part)).unwrap();
        }
        let mut tpm = Self {
            directory,
            processes: Vec::new(),
        };
        let port = tpm.simulator().await;
        let bus = format!("unix:path={}", tpm.directory.join("bus").display());
        let mut command = Command::new("dbus-daemon");
        tpm.spawn(command.args(["--session", "--nofork", "--address", &bus]));
        let socket = tpm.directory.join("bus");
        eventually(PATIENCE, "a bus", async || socket.exists()).await;
        let mut manager = Command::new("tpm2-abrmd");
        manager.args(["--session", "--allow-root"]);
        manager.arg(format!("--tcti=swtpm:host=127.0.0.1,port={port}"));
        manager.env("DBUS_SESSION_BUS_ADDRESS", &bus);
        tpm.spawn(&mut manager);
        eventually(PATIENCE, "a token's slot", async || {
            // It ends when the bus or the TPM does not answer yet.
            let last = tpm.processes.last_mut().unwrap();
            if last.try_wait().unwrap().is_some() {
                tpm.processes.pop();
                tpm.spawn(&mut manager);
            }
            let listed = tpm.tool(&["--list-slots"]).output().unwrap();
            listed.status.success()
        })
        .await;
        tpm
    }

    /// swtpm on two ports in a row, which is what the library expects; others may take one of them
    /// first.
    async fn simulator(&mut self) -> u16 {
        let (state, pid) = (self.directory.join("state"), self.directory.join("pid"));
        for _ in 0..20 {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let Some(control) = port.checked_add(1) else {
                continue;
            };
            drop(listener);
            let mut command = Command::new("swtpm");
            command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
            command.arg(format!("--tpmstate=dir={}", state.display()));
            command.arg(format!("--server=type=tcp,port={port},bindaddr=127.0.0.1"));
            command.arg(format!("--ctrl=type=tcp,port={control},bindaddr=127.0.0.1"));
            command.arg(format!("--pid=file={}", pid.display()));
            self.spawn(&mut command);
            let process = self.processes.last_mut().unwrap();
            let mut ended = false;
            eventually(PATIENCE, "swtpm", async || {
                ended = process.try_wait().unwrap().is_some();
                ended || (pid.exists() && TcpStream::connect(("127.0.0.1", control)).is_ok())
            })
            .await;
            if !ended {
                return port;
            }
            self.processes.pop();
        }
        panic!("swtpm found no two free ports");
    }

    fn spawn(&mut self, command: &mut Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap());
        let child = command.stderr(log).spawn();
        self.processes.push(
            child.unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/setup test")),
        );
    }

    /// What the module reads.
    fn environment(&self) -> [(&'static str, String); 4] {
        let at = |name: &str| self.directory.join(name).display().to_string();
        [
            ("TPM2_PKCS11_STORE", at("store")),
            ("TPM2_PKCS11_TCTI", "tabrmd:bus_type=session".to_owned()),
            (
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path={}", at("bus")),
            ),
            // The library's own lines on standard error.
            ("TSS2_LOG", "all+NONE".to_owned()),
        ]
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(module()).args(arguments);
        command.envs(self.environment());
        command
    }
}

fn module() -> PathBuf {
    softhsm::pkcs11(
        "tpm2-pkcs11 (Debian: libtpm2-pkcs11-1)",
        "libtpm2_pkcs11.so",
    )
}

/// Uses the TPM instead of SoftHSM.
fn configure(setup: &TestServer, tpm: &Tpm) {
    let soft = format!("module = \"{}\"", softhsm::module().display());
    setup.edit(&soft, &format!("module = \"{}\"", module().display()));
    let variables = tpm.environment();
    let variables = variables.map(|(name, value)| format!("{name} = \"{value}\", "));
    setup.edit(
        "environment = { ",
        &format!("environment = {{ {}", variables.concat()),
    );
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_ca_in_a_tpm_issues() {
    let setup = TestServer::bare();
    let tpm = Tpm::start(setup.path("tpm")).await;
    let pin = read(&setup.path("token/pin"));
    let officer = read(&setup.path("token/so-pin"));
    let label = ["--slot-index", "0", "--label", "rootbridge"];
    run(tpm
        .tool(&["--init-token", "--so-pin", &officer])
        .args(label));
    run(tpm
        .tool(&["--login", "--login-type", "so", "--so-pin", &officer])
        .args([
            "--token-label",
            "rootbridge",
            "--init-pin",
            "--new-pin",
            &pin,
        ]));
    configure(&setup, &tpm);

    setup.init(DOMAIN, &[]);
    // An RSA key for signatures does not sign with CKM_RSA_PKCS, for which this module decrypts.
    setup.init("rsa.example", &["--key", "rsa-2048"]);
    let keys: Value = serde_json::from_str(&setup.cli(&["key", "list", "-o", "json"])).unwrap();
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 4);
    for key in keys {
        for attribute in ["local", "always_sensitive", "never_extractable"] {
            assert_eq!(key[attribute], true, "{key}");
        }
        assert!(key["use"].as_str().unwrap().ends_with("active"), "{key}");
    }
    setup.cli(&["check"]);

    a_workload_is_served(&setup, &setup.roots(DOMAIN)).await;
}
