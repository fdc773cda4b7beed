//! Each scenario has a process, a token directory and a PKCS#11 module of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rootbridge::hsm::{Config, Hsm, Key, RawConfig, SignError, Token, TokenState};
use rootbridge::x509::{KeyKind, PublicKey};
use rootbridge_test_support::softhsm;
use secrecy::SecretString;

pub(crate) const PIN: &str = "4711-user";
pub(crate) const SO_PIN: &str = "0815-officer";

/// What is in front of SoftHSM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    /// Nothing: SoftHSM itself.
    Plain,
    /// `pkcs11-spy`, which logs every call.
    Spy,
    /// `faulty_module.c`, which fails on command, behind `pkcs11-spy`.
    Faulty,
    /// Nothing yet; tests add a server. So they may to `Faulty`.
    Remote,
}

/// A scenario's directory and module.
pub(crate) struct Scenario {
    pub(crate) dir: PathBuf,
    pub(crate) module: PathBuf,
}

/// Runs `body` in a new process of this test binary, with a SoftHSM directory of its own.
pub(crate) fn isolated<F: Future<Output = ()>>(
    path: &str,
    module: Module,
    body: impl FnOnce(Scenario) -> F,
) {
    let name = path.split_once("::").unwrap().1;
    if std::env::var("RB_SCENARIO").as_deref() == Ok(name) {
        let scenario = Scenario {
            dir: std::env::var_os("RB_DIR").unwrap().into(),
            module: std::env::var_os("RB_MODULE").unwrap().into(),
        };
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_test_writer()
            .init();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(body(scenario));
    }
    let dir = tempfile::Builder::new()
        .prefix("rb-hsm-")
        .tempdir()
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([name, "--exact", "--nocapture"])
        .env("RB_SCENARIO", name)
        .env("RB_DIR", dir.path());
    child.env("RUST_BACKTRACE", "0");
    child.envs(prepare(dir.path(), module));
    let log = dir.path().join("output");
    let file = std::fs::File::create(&log).unwrap();
    child
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let mut child = child.spawn().unwrap();
    let limit = rootbridge_test_support::campaign::rounds(180, 1800);
    let end = Instant::now() + Duration::from_secs(limit as u64);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = std::fs::read_to_string(&log).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{name}: {status:?}\n{output}"
    );
    assert!(
        output.contains("1 passed"),
        "the scenario did not run: {output}"
    );
    assert!(
        !output.contains(PIN) && !output.contains(SO_PIN),
        "a PIN in the log: {output}"
    );
}

fn prepare(dir: &Path, kind: Module) -> Vec<(&'static str, OsString)> {
    let tokens = dir.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let conf = dir.join("softhsm2.conf");
    std::fs::write(
        &conf,
        format!(
            "directories.tokendir = {}\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
    .unwrap();
    std::fs::write(dir.join("pin"), PIN).unwrap();
    let softhsm = softhsm::module();
    let mut env: Vec<(&'static str, OsString)> = vec![("SOFTHSM2_CONF", conf.into())];
    let mut module = softhsm.clone();
    if kind == Module::Faulty {
        module = dir.join("shim.so");
        softhsm::build_faulty_module(&module);
        env.push(("RB_SHIM_MODULE", softhsm.into()));
        env.push(("RB_SHIM_CONTROL", dir.join("control").into()));
        env.push(("RB_SHIM_PIN", PIN.into()));
    }
    if matches!(kind, Module::Remote | Module::Faulty) {
        let address = format!("unix:path={}", dir.join("p11-kit.sock").display());
        env.push(("P11_KIT_SERVER_ADDRESS", address.into()));
    }
    if matches!(kind, Module::Spy | Module::Faulty) {
        env.push(("PKCS11SPY", module.into()));
        env.push(("PKCS11SPY_OUTPUT", dir.join("spy.log").into()));
        module = softhsm::spy();
    }
    env.push(("RB_MODULE", module.into()));
    env
}

pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

impl Scenario {
    /// A configuration with the token `main`, found by its label, changed by `change`.
    pub(crate) fn config(&self, change: impl FnOnce(&mut RawConfig)) -> Config {
        let mut raw: RawConfig = toml::from_str(&format!(
            "module = {:?}\nprobe_interval = '500ms'\n[tokens.main]\nlabel = 'main'\npin_file = {:?}\n",
            self.module,
            self.dir.join("pin")
        ))
        .unwrap();
        change(&mut raw);
        Config::try_from(raw).unwrap()
    }

    /// An open HSM with a new token `main`, ready.
    pub(crate) async fn ready(&self, change: impl FnOnce(&mut RawConfig)) -> (Hsm, Arc<Token>) {
        let hsm = Hsm::open(&self.config(change)).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(Duration::from_secs(5)).await.unwrap();
        (hsm, token)
    }

    /// How many calls of `call` are in the log of `pkcs11-spy`.
    pub(crate) fn calls(&self, call: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.join("spy.log")).unwrap();
        log.lines()
            .filter(|line| line.split_once(": ").is_some_and(|(_, name)| name == call))
            .count()
    }

    /// Sets the faulty module's commands.
    pub(crate) fn command(&self, lines: &str) {
        let path = self.dir.join("control");
        if lines.is_empty() {
            let _ = std::fs::remove_file(path);
        } else {
            std::fs::write(self.dir.join("control.new"), lines).unwrap();
            std::fs::rename(self.dir.join("control.new"), path).unwrap();
        }
    }

    pub(crate) fn write_pin(&self, pin: &str) {
        std::fs::write(self.dir.join("pin.new"), pin).unwrap();
        std::fs::rename(self.dir.join("pin.new"), self.dir.join("pin")).unwrap();
    }
}

/// A new P-256 key, ready to sign.
pub(crate) async fn new_key(token: &Arc<Token>, id: &[u8]) -> Key {
    let new = token.generate(KeyKind::EcdsaP256, "test", Some(id)).await;
    token.key(id, &new.unwrap().public_key).await.unwrap()
}

pub(crate) async fn sign(key: &Key, message: &[u8]) -> Result<Vec<u8>, SignError> {
    key.reserve()?
        .sign(message, Instant::now() + Duration::from_secs(5))
        .await
}

/// Signs and verifies in software.
pub(crate) async fn sign_and_verify(key: &Key, message: &[u8]) {
    let signature = sign(key, message).await.unwrap();
    key.public_key()
        .verify(key.algorithm(), message, &signature)
        .unwrap();
}

/// Waits until the token's state is one that `wanted` accepts.
pub(crate) async fn until(
    token: &Token,
    limit: Duration,
    wanted: impl FnMut(&TokenState) -> bool,
) -> TokenState {
    let mut states = token.watch();
    let found = tokio::time::timeout(limit, states.wait_for(wanted)).await;
    found
        .unwrap_or_else(|_| panic!("still {:?} after {limit:?}", token.state()))
        .unwrap()
        .clone()
}

/// A public key whose private key is in no token.
pub(crate) fn foreign_key() -> PublicKey {
    let pair = rcgen::KeyPair::generate().unwrap();
    PublicKey::from_spki_der(&rcgen::PublicKeyData::subject_public_key_info(&pair)).unwrap()
}
