//! The server: this program again, as an operator would start it, watched from outside.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use super::place::{Place, Site, failed, pid};
use super::prepare::without_overrides;
use crate::cli::failure::{Exit, Failure};

/// How long it may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Server<'a> {
    place: &'a Place,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl<'a> Server<'a> {
    pub(super) fn start(place: &'a Place, site: &Site) -> Result<Self, Failure> {
        let program = match &site.program {
            Some(program) => program.clone(),
            None => env::current_exe().map_err(|error| failed(error.to_string()))?,
        };
        let log = File::create(&site.log).map_err(|e| Failure::file("make", &site.log, &e))?;
        let started = Instant::now();
        let child = without_overrides(&mut Command::new(program))
            .args(["serve", "--config"])
            .arg(&site.config)
            .env("SOFTHSM2_CONF", &place.plan().softhsm)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| failed(format!("cannot start the server: {error}")))?;
        place.note_server(child.id());
        Ok(Self {
            place,
            child,
            log: site.log.clone(),
            started,
        })
    }

    /// When it was started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Where it listens, once its log says so.
    pub(super) fn address(&mut self) -> Result<SocketAddr, Failure> {
        while self.started.elapsed() < PATIENCE {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(address) = log.lines().find_map(listening) {
                return Ok(address);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended(&format!("the server ended: {status}")));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(self.ended("the server does not listen"))
    }

    /// User and system time of all its threads until now.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        let stat = self.proc("stat")?;
        // The name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
        let fields = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        let spent = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(ticks(spent))
    }

    /// Resident memory now, and the most there was so far, in MiB.
    pub(super) fn memory(&self) -> Result<(f64, f64), Failure> {
        let status = self.proc("status")?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|number| number.parse::<f64>().ok())
                .unwrap_or_default()
        };
        Ok((kib("VmRSS:") / 1024.0, kib("VmHWM:") / 1024.0))
    }

    /// Ends it as a supervisor would.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        if let Some(pid) = pid(self.child.id()) {
            kill_process(pid, Signal::TERM).map_err(|error| failed(error.to_string()))?;
        }
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.ended(&format!("the server ended: {status}"))),
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
        Err(self.ended("the server does not end"))
    }

    fn proc(&self, file: &str) -> Result<String, Failure> {
        let path = PathBuf::from(format!("/proc/{}/{file}", self.child.id()));
        fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))
    }

    /// What went wrong, with the last that it said, because its log goes with the directory.
    fn ended(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().take(5).collect::<Vec<_>>();
        let failure = Failure::new(Exit::Failed, what);
        last.into_iter()
            .rev()
            .fold(failure, |failure, line| failure.next(line))
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.place.forget_server(self.child.id());
    }
}

/// Linux gives the times in /proc in hundredths of a second, whatever the kernel's own ticks are.
pub(super) fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(10))
}

fn listening(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |key| event.get(key).and_then(Value::as_str);
    match text("message") {
        Some("listening") => text("address")?.parse().ok(),
        _ => None,
    }
}
