//! A server whose clock is not this machine's: libfaketime between it and the system.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::TestServer;

/// A clock that tests set.
pub struct FakeClock(PathBuf);

impl FakeClock {
    /// This far from the real one, as libfaketime writes it: `+0`, `-10m`.
    pub fn new(setup: &TestServer, offset: &str) -> Self {
        let file = setup.path("clock");
        std::fs::write(&file, offset).unwrap();
        Self(file)
    }

    /// `serve` by this clock. Timers go on by the real one.
    pub fn serve(&self, setup: &TestServer) -> Command {
        self.command(setup, &["serve"])
    }

    pub fn command(&self, setup: &TestServer, arguments: &[&str]) -> Command {
        let mut command = setup.command(arguments);
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        command
    }

    /// Sets it, and waits until the server reads it.
    pub async fn move_to(&self, offset: &str) {
        std::fs::write(&self.0, offset).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn library() -> String {
    let libraries = std::fs::read_dir("/usr/lib").unwrap();
    let found = libraries.filter_map(|entry| {
        let file = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        file.exists().then(|| file.display().to_string())
    });
    found.last().expect("`make setup` installs libfaketime")
}
