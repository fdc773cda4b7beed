//! A running server.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Client, PATIENCE, eventually};

/// A process that serves. Dropped, it is killed, and its log is searched for secrets.
pub struct RunningServer {
    child: Child,
    log: PathBuf,
    directory: PathBuf,
    secrets: Vec<String>,
    minted: Arc<Mutex<Vec<String>>>,
    listeners: Vec<(String, u16)>,
    pub admin: u16,
}

impl RunningServer {
    /// Starts `command` and waits until it listens everywhere.
    pub async fn start(
        mut command: Command,
        directory: &TempDir,
        secrets: Vec<String>,
        minted: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        let log = directory.path().join("serve.log");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let from = file.metadata().unwrap().len();
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let mut server = Self {
            child: command.spawn().unwrap(),
            log,
            directory: directory.path().to_owned(),
            secrets,
            minted,
            listeners: Vec::new(),
            admin: 0,
        };
        let start = Instant::now();
        while !server.log_from(from).contains("\"message\":\"serving\"") {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("it wait_exit: {status}\n{}", server.log());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it does not listen:\n{}",
                server.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let log = server.log_from(from);
        for event in log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        {
            let port = event["address"]
                .as_str()
                .and_then(|text| text.rsplit(':').next()?.parse().ok());
            match (event["message"].as_str(), port) {
                (Some("admin listening"), Some(port)) => server.admin = port,
                (Some("listening"), Some(port)) => {
                    let name = event["listener"].as_str().unwrap().to_owned();
                    server.listeners.push((name, port));
                }
                _ => {}
            }
        }
        server
    }

    /// The port of a listener.
    pub fn port_of(&self, listener: &str) -> u16 {
        self.listeners
            .iter()
            .find(|(name, _)| name == listener)
            .unwrap()
            .1
    }

    pub fn port(&self) -> u16 {
        self.port_of("mesh")
    }

    /// Everything logged so far, earlier runs in this directory included.
    pub fn log(&self) -> String {
        self.log_from(0)
    }

    fn log_from(&self, from: u64) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(from).unwrap().min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// Waits for a line of the log with these words.
    pub async fn wait_for_log(&self, words: &str) {
        eventually(PATIENCE, words, async || self.log().contains(words)).await;
    }

    /// A request to the admin port.
    pub async fn admin_request(
        &self,
        method: Method,
        path: &str,
        credential: Option<&str>,
    ) -> (u16, String) {
        let client = reqwest::Client::new();
        let mut request = client.request(method, format!("http://127.0.0.1:{}{path}", self.admin));
        if let Some(credential) = credential {
            request = request.header(AUTHORIZATION, format!("Bearer {credential}"));
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        self.admin_request(Method::GET, path, None).await
    }

    /// Waits until traffic may come, and the listener has a certificate to show.
    pub async fn ready(&self) {
        eventually(PATIENCE, "/readyz", async || {
            self.get("/readyz").await.0 == 200
        })
        .await;
    }

    /// Asserts that each metric of the page is listed in docs/reference/metrics.md, with its labels.
    pub async fn metrics_are_listed(&self) {
        let docs = include_str!("../../../docs/reference/metrics.md");
        let (_, page) = self.get("/metrics").await;
        let (mut row, mut seen) = ("", 0);
        for line in page.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
            {
                let end = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                let begins = format!("| `{name}{end}` | {kind} |");
                let found = docs.lines().find(|row| row.starts_with(&begins));
                row = found.unwrap_or_else(|| panic!("no row of the reference begins {begins}"));
                seen += 1;
            }
            let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            for label in labels
                .split("\",")
                .filter_map(|part| part.split('=').next())
            {
                let listed = label == "le" || row.contains(&format!("`{label}`"));
                assert!(listed, "`{label}` is not in: {row}");
            }
        }
        assert!(seen > 10, "{page}");
    }

    /// A metric without labels, or with these, as it is written.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Signatures by the token, without test signatures.
    pub async fn signatures(&self) -> f64 {
        // The prober reads the counter every half second.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let (_, text) = self.get("/metrics").await;
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with("rootbridge_hsm_signatures"));
        lines
            .find_map(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap()
    }

    /// A connection without a client certificate. The listener may have to wait for its own.
    pub async fn client(&self, domain: &str) -> Client {
        self.client_as(domain, None).await
    }

    pub async fn client_as(&self, domain: &str, identity: Option<(&str, &str)>) -> Client {
        let roots = fs::read_to_string(self.directory.join(format!("{domain}.pem"))).unwrap();
        let mut client = None;
        eventually(PATIENCE, "a connection", async || {
            client = Client::connect(self.port(), &roots, identity).await.ok();
            client.is_some()
        })
        .await;
        client.unwrap()
    }

    pub fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        eventually(limit, "its end", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// SIGTERM, and a clean end.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait_exit(PATIENCE).await;
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.kill();
        let log = self.log();
        if std::thread::panicking() {
            let ours =
                |line: &&str| line.contains("target\":\"rootbridge") || !line.starts_with('{');
            let lines: Vec<_> = log.lines().filter(ours).collect();
            let from = lines.len().saturating_sub(60);
            eprintln!(
                "== the end of {} ==\n{}",
                self.log.display(),
                lines[from..].join("\n")
            );
            return;
        }
        let minted = self.minted.lock().unwrap();
        for secret in self.secrets.iter().chain(minted.iter()) {
            // Of a token, the signature is the secret part.
            let secret = secret.rsplit('.').next().unwrap();
            assert!(
                !log.contains(secret),
                "a secret is in the log {}",
                self.log.display()
            );
        }
    }
}
