//! Commands with a home directory of their own, and a `dev` server that ends with its test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rootbridge_test_support::command::rootbridge;
use tempfile::TempDir;

/// A home directory without any configuration.
pub(crate) struct Home(TempDir);

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output; it must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// Its standard error; it must have failed with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.out, self.err
        );
        self.err
    }

    /// The result as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `rootbridge` with this home and no other environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = rootbridge();
        command.args(args).current_dir(self.0.path()).env_clear();
        command
            .env("HOME", self.0.path())
            .env("PATH", std::env::var_os("PATH").unwrap());
        // Not the configuration in /etc of the machine that runs the tests.
        if self.state("rootbridge.toml").exists() {
            command.env("ROOTBRIDGE_CONFIG", self.state("rootbridge.toml"));
        }
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    pub(crate) fn openssl(&self, args: &[&str]) -> Done {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(self.0.path())
            .output();
        Done::of(output.expect("openssl must be installed"))
    }

    /// `rootbridge dev` on free ports, once it says that it is ready.
    pub(crate) fn dev(&self) -> Dev {
        let first = !self.state("rootbridge.toml").exists();
        let (port, admin) = (free_port(), free_port());
        let args = match first {
            true => vec!["dev", "--port", &port, "--admin-port", &admin],
            false => vec!["dev"],
        };
        let mut command = self.command(&args);
        let log = std::fs::File::create(self.path("dev.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut screen = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !screen.contains("Ctrl-C stops it") {
            if lines.read_line(&mut screen).unwrap() == 0 {
                let log = std::fs::read_to_string(self.path("dev.log")).unwrap();
                panic!("dev ended: {:?}\n{log}", child.wait());
            }
        }
        Dev { child, screen }
    }

    /// A P-256 key and a certificate for it; `more` are further arguments of openssl.
    pub(crate) fn certificate(&self, name: &str, more: &[&str]) -> (String, String) {
        let (key, cert) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/O=Corp/CN={name}");
        let new = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let rest = [
            "-keyout", &key, "-out", &cert, "-days", "365", "-subj", &subject,
        ];
        self.openssl(&[&new[..], &rest, more].concat()).ok();
        (key, cert)
    }

    /// A file in `dev`'s directory.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path(".local/state/rootbridge/dev").join(name)
    }
}

/// A running `dev`, killed when its test ends.
pub(crate) struct Dev {
    child: Child,
    pub(crate) screen: String,
}

impl Dev {
    /// Ends it with SIGTERM and waits.
    pub(crate) fn stop(mut self) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A free port below those that the system gives to clients: a `dev` that starts again must find its
/// port free.
pub(crate) fn free_port() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (std::process::id() * 50 + step) % 10_000;
        let port = u16::try_from(port).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port.to_string();
        }
    }
}
