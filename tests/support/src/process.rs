//! A child process with its output in a file: killed when it is dropped, its output shown when a
//! test fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::eventually;

/// A running program.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its outputs are appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            log: log.to_owned(),
        }
    }

    pub fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Everything printed so far, by earlier processes with the same log too.
    pub fn log(&self) -> String {
        self.log_from(0)
    }

    /// What follows the first `from` bytes of the log.
    pub fn log_from(&self, from: u64) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(from).unwrap().min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// Bytes of memory that it uses now.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it has used since [`Self::reset_peak_memory`].
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    pub fn reset_peak_memory(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.unwrap().split_whitespace().next().unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Its status and its output, if it has exited.
    pub fn exited(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        Some(format!("{}: {status}\n{}", self.log.display(), self.log()))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal).unwrap();
    }

    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        let what = format!("the exit of {}", self.log.display());
        eventually(limit, &what, async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Sends SIGTERM and waits.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(limit).await
    }

    /// Sends SIGKILL: it ends as in a crash.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            // Of a JSON log, only Rootbridge's own events.
            let own =
                |line: &&str| line.contains("target\":\"rootbridge") || !line.starts_with('{');
            let lines: Vec<_> = log.lines().filter(own).collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("== the end of {} ==\n{tail}", self.log.display());
        }
    }
}
