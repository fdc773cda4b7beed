//! The server: the program `rootbridge`, started as an operator starts it and measured from outside.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow};
use rootbridge::x509::{Certificate, parse_pem_chain};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use crate::requests::TRUST_DOMAIN;
use crate::sandbox::{Sandbox, ServerFiles};
use crate::{cpu_time, ledger_rows, note};

/// For its start and its end.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server's files, with the root of the authority in its ledger.
pub(crate) struct Authority<'a> {
    sandbox: &'a Sandbox,
    files: &'a ServerFiles,
    pub(crate) root: Certificate,
}

/// A running server; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    pub(crate) started: Instant,
}

/// Runs `ca init` for each server, and fills its ledger.
pub(crate) async fn init_authorities(sandbox: &Sandbox) -> Result<Vec<Authority<'_>>> {
    let mut authorities = Vec::new();
    for files in &sandbox.servers {
        let mut args = ["ca", "init", "--output", "json", "--trust-domain"]
            .map(OsStr::new)
            .to_vec();
        args.extend([
            TRUST_DOMAIN.as_ref(),
            "--config".as_ref(),
            files.config.as_os_str(),
        ]);
        let output = sandbox.output(&files.program, &args).await?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let certificate = |name: &str| {
            let pem = report.get(name).and_then(|shown| shown.get("pem"));
            let pem = pem.and_then(Value::as_str).unwrap_or_default();
            parse_pem_chain(pem.as_bytes())?.pop().context("no PEM")
        };
        if files.rows > 0 {
            note(&format!(
                "filling a ledger with {} certificates",
                files.rows
            ));
            ledger_rows::fill(&files.ledger, &certificate("issuing")?, files.rows).await?;
        }
        authorities.push(Authority {
            sandbox,
            files,
            root: certificate("root")?,
        });
    }
    Ok(authorities)
}

impl Server {
    pub(crate) fn start(authority: &Authority<'_>) -> Result<Self> {
        let Authority { sandbox, files, .. } = authority;
        let log = File::create(&files.log)?;
        let started = Instant::now();
        let child = sandbox
            .command(&files.program)
            .args(["serve", "--config"])
            .arg(&files.config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        Ok(Self {
            child,
            log: files.log.clone(),
            started,
        })
    }

    /// Waits until its log shows the address of the listener.
    pub(crate) async fn address(&mut self) -> Result<SocketAddr> {
        while self.started.elapsed() < TIMEOUT {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(address) = log.lines().find_map(listen_address) {
                return Ok(address);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("the server ended: {status}")));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Err(self.failure("the server does not listen"))
    }

    /// User and system time of all its threads until now.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        Ok(cpu_time::from_stat(&self.proc("stat")?))
    }

    /// Resident memory now and its peak, in MiB.
    pub(crate) fn memory_mib(&self) -> Result<(f64, f64)> {
        let status = self.proc("status")?;
        let mib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.split_whitespace().next());
            let kib = kib.and_then(|kib| kib.parse::<f64>().ok());
            kib.unwrap_or_default() / 1024.0
        };
        Ok((mib("VmRSS:"), mib("VmHWM:")))
    }

    /// Ends it with SIGTERM.
    pub(crate) async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failure(&format!("the server ended: {status}"))),
                None => sleep(Duration::from_millis(5)).await,
            }
        }
        Err(self.failure("the server does not end"))
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// With the log's last lines, because the log is removed with the directory.
    fn failure(&self, what: &str) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(5)..);
        anyhow!("{what}\n{}", last.unwrap_or_default().join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen_address(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |key| event.get(key).and_then(Value::as_str);
    match text("message") {
        Some("listening") => text("address")?.parse().ok(),
        _ => None,
    }
}
