//! A token behind `p11-kit server`: a PKCS#11 module in another process, which can be stopped and killed.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait::PATIENCE;

/// The server and its children (one for each connection), for as long as this lives.
pub struct P11KitServer(Child);

impl P11KitServer {
    /// Serves all tokens of `module` at the socket.
    pub fn start(module: &Path, socket: &Path) -> Self {
        Self::start_with(module, socket, &[])
    }

    /// The same with other variables.
    pub fn start_with(module: &Path, socket: &Path, environment: &[(&str, &Path)]) -> Self {
        let _ = std::fs::remove_file(socket);
        let server = Command::new("p11-kit")
            .args(["server", "--foreground", "--provider"])
            .arg(module)
            .arg("--name")
            .arg(socket)
            .arg("pkcs11:")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        // The socket exists before the server listens.
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(socket).is_err() {
            assert!(Instant::now() < end, "p11-kit server did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(server)
    }

    pub fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for P11KitServer {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        self.0.wait().unwrap();
    }
}
