//! A running server.

use std::collections::HashMap;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::Value;

use crate::grpc::Client;
use crate::process::Process;
use crate::wait::{PATIENCE, eventually};

/// A [`Process`] that serves. When it is dropped, its log is searched for secrets.
pub struct RunningServer {
    process: Process,
    directory: PathBuf,
    secrets: Vec<String>,
    minted: Arc<Mutex<Vec<String>>>,
    listeners: Vec<(String, u16)>,
    pub admin: u16,
    /// Where its own part of the log begins, after those of earlier servers.
    log_start: u64,
}

impl RunningServer {
    /// Starts `command` and waits until it listens everywhere. Its log is `serve.log` in
    /// `directory`; neither `secrets` nor what is `minted` may appear there.
    pub async fn start(
        mut command: Command,
        directory: PathBuf,
        secrets: Vec<String>,
        minted: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        let log = directory.join("serve.log");
        let from = log.metadata().map_or(0, |file| file.len());
        let mut server = Self {
            process: Process::start(&mut command, &log),
            directory,
            secrets,
            minted,
            listeners: Vec::new(),
            admin: 0,
            log_start: from,
        };
        let start = Instant::now();
        while !server.log_from(from).contains("\"message\":\"serving\"") {
            if let Some(status) = server.exited() {
                panic!("{status}");
            }
            let late = start.elapsed() > PATIENCE;
            assert!(!late, "it does not listen:\n{}", server.log());
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

    /// Does not search the log: a PKCS#11 module that logs its calls shows the PIN.
    pub fn may_log_secrets(&mut self) {
        self.secrets.clear();
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

    /// Waits until the log contains `text`.
    pub async fn wait_for_log(&self, text: &str) {
        let logged = || self.log_from(self.log_start).contains(text);
        eventually(PATIENCE, text, async || logged()).await;
    }

    /// A request to the admin port; a GET is repeated when the connection ends without an answer
    /// (RFC 9110 §9.2.2), as the server ends one whose client is too slow to ask.
    pub async fn admin_request(
        &self,
        method: Method,
        path: &str,
        credential: Option<&str>,
    ) -> (u16, String) {
        let client = reqwest::Client::new();
        let url = format!("http://127.0.0.1:{}{path}", self.admin);
        let start = Instant::now();
        loop {
            let mut request = client.request(method.clone(), &url);
            if let Some(credential) = credential {
                request = request.header(AUTHORIZATION, format!("Bearer {credential}"));
            }
            match request.send().await {
                Err(error)
                    if method == Method::GET
                        && error.is_request()
                        && !error.is_connect()
                        && start.elapsed() < PATIENCE => {}
                response => {
                    let response = response.unwrap();
                    let status = response.status().as_u16();
                    return (status, response.text().await.unwrap());
                }
            }
        }
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        self.admin_request(Method::GET, path, None).await
    }

    /// Waits until `/readyz` succeeds.
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
                let head = format!("| `{name}{end}` | {kind} |");
                let found = docs.lines().find(|row| row.starts_with(&head));
                row = found.unwrap_or_else(|| panic!("no row of the reference starts with {head}"));
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

    /// A metric's value; `name` includes the labels as the page spells them.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Signatures by the token without self-tests.
    pub async fn signatures(&self) -> f64 {
        // The prober updates the counter every half second.
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

    /// Sends SIGTERM; the server must exit with success.
    pub async fn stop(mut self) {
        let status = self.terminate(PATIENCE).await;
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// The same, and no connection kept it until the end of the drain timeout.
    pub async fn stop_in_order(mut self) {
        let status = self.terminate(PATIENCE).await;
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        assert!(!log.contains("still open at the end"), "{log}");
    }
}

impl Deref for RunningServer {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for RunningServer {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            return;
        }
        let log = self.log();
        let minted = self.minted.lock().unwrap();
        // Of a token, the signature is the secret part.
        let mut signatures = minted.iter().map(|token| token.rsplit('.').next().unwrap());
        let found = self
            .secrets
            .iter()
            .any(|secret| log.contains(secret.as_str()))
            || match minted.len() {
                0..=100 => signatures.any(|signature| log.contains(signature)),
                _ => any_is_in(signatures, log.as_bytes()),
            };
        let file = self.directory.display();
        assert!(!found, "a secret is in {file}/serve.log");
    }
}

/// Whether one of these long texts is there. There may be thousands of them, and hundreds of megabytes to
/// search: they are looked up by how they begin.
fn any_is_in<'a>(texts: impl Iterator<Item = &'a str>, log: &[u8]) -> bool {
    const START: usize = 3;
    let number = |start: &[u8]| {
        start
            .iter()
            .fold(0, |sum, octet| sum << 8 | usize::from(*octet))
    };
    let mut begins = vec![false; 1 << (8 * START)];
    let mut wanted = HashMap::<&[u8], Vec<&[u8]>>::new();
    for text in texts.map(str::as_bytes) {
        begins[number(&text[..START])] = true;
        wanted.entry(&text[..START]).or_default().push(text);
    }
    let mut places = log.windows(START).enumerate();
    places.any(|(at, start)| {
        begins[number(start)] && wanted[start].iter().any(|text| log[at..].starts_with(text))
    })
}
