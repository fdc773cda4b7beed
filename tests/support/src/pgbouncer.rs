//! PgBouncer in front of a PostgreSQL server, over TLS and with a password as the server is.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::files::write_secret;
use crate::free_port;
use crate::postgres::{PASSWORD, PostgresServer, USER, give_away, unprivileged};
use crate::process::Process;
use crate::wait::PATIENCE;

/// A pooler that ends when it is dropped.
pub struct PgBouncer {
    /// Dropped before the directory, whose log it shows.
    process: Option<Process>,
    directory: tempfile::TempDir,
    address: String,
    port: u16,
    roots: String,
}

impl PgBouncer {
    /// In a mode (`transaction`, `session`, `statement`), with more lines for its configuration.
    pub fn start(server: &PostgresServer, mode: &str, settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = server.certificate();
        let mut pooler = Self {
            // Nobody else uses this address.
            address: server.address.clone(),
            port: free_port(),
            roots: server.roots().display().to_string(),
            directory,
            process: None,
        };
        let path = pooler.directory.path();
        let users = path.join("users.txt");
        write_secret(&users, &format!("\"{USER}\" \"{PASSWORD}\"\n"));
        let config = format!(
            "[databases]\n* = host={socket} port={server_port}\n[pgbouncer]\nlisten_addr = {address}\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n\
             pool_mode = {mode}\nclient_tls_sslmode = require\nclient_tls_cert_file = {certificate}\n\
             client_tls_key_file = {key}\nadmin_users = {USER}\n{settings}\n",
            socket = server.socket_directory().display(),
            server_port = server.port,
            address = pooler.address,
            port = pooler.port,
            users = users.display(),
            certificate = certificate.display(),
            key = key.display(),
        );
        fs::write(path.join("pgbouncer.ini"), config).unwrap();
        for each in [path, &users, &path.join("pgbouncer.ini")] {
            give_away(each);
        }
        pooler.run();
        pooler
    }

    /// Starts it, also after [`Self::kill`], and waits until it accepts connections.
    pub fn run(&mut self) {
        let log = self.directory.path().join("pgbouncer.log");
        let mut command = unprivileged(Path::new("/usr/sbin/pgbouncer"));
        command.arg(self.directory.path().join("pgbouncer.ini"));
        let mut process = Process::start(command.current_dir("/"), &log);
        let start = Instant::now();
        while TcpStream::connect((self.address.as_str(), self.port)).is_err() {
            let ended = process.exited();
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "PgBouncer does not listen: {ended:?}\n{}",
                process.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
    }

    /// Every connection through it is lost.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::SIGKILL);
        }
    }

    /// The URL of a database through it; it needs [`PASSWORD`].
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}@{}:{}/{database}?sslrootcert={}",
            self.address, self.port, self.roots
        )
    }
}
