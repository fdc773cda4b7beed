//! A PostgreSQL server in a directory of its own, as an unprivileged user.

mod certificates;
mod programs;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use self::programs::{binary, children, is_running, run, seed};
pub(crate) use self::programs::{give_away, unprivileged};
use crate::free_port;
use crate::wait::PATIENCE;

/// The user of every database.
pub const USER: &str = "rootbridge";
/// The user's password over TCP.
pub const PASSWORD: &str = "a password of the database";

/// Who has a client certificate instead of a password; a test makes the role.
pub const CERTIFIED: &str = "certified";

/// A server that ends with this process, or when it is dropped.
pub struct PostgresServer {
    directory: PathBuf,
    /// From 127.0.0.0/8.
    pub address: String,
    pub port: u16,
    /// The size of its small file system.
    disk: Option<u32>,
    /// Ends the server when its input ends.
    keeper: Option<Child>,
}

static SHARED: OnceLock<PostgresServer> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

impl PostgresServer {
    /// The one that the tests of a process share, each with a database of its own.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start)
    }

    /// One that a test may stop.
    pub fn start() -> Self {
        Self::with_settings("")
    }

    /// With more lines for postgresql.conf.
    pub fn with_settings(settings: &str) -> Self {
        let mut server = Self::unmade();
        let mut initdb = server.command("initdb");
        initdb
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "-A", "trust"])
            .args(["-U", USER, "-D"])
            .arg(server.data());
        run(&mut initdb);
        server.write_certificates();
        server.configure(&format!(
            "ssl = on\nssl_cert_file = '{dir}/server.pem'\nssl_key_file = '{dir}/server.key'\n\
             ssl_ca_file = '{dir}/ca.pem'\n\
             max_connections = 200\ndynamic_shared_memory_type = mmap\nshared_buffers = 32MB\njit = off\n\
             autovacuum_naptime = 1h\n{settings}\n",
            dir = server.directory.display(),
        ));
        fs::write(
            server.data().join("pg_hba.conf"),
            format!(
                "local all all trust\nlocal replication all trust\n\
             hostssl all {CERTIFIED} 127.0.0.0/8 cert\n\
             host all all 127.0.0.0/8 scram-sha-256\n",
            ),
        )
        .unwrap();
        server.run();
        server.psql(
            "postgres",
            &format!("ALTER ROLE {USER} PASSWORD '{PASSWORD}'"),
        );
        server
    }

    /// With a directory on a file system of so many bytes, for a tablespace; see [`Self::small_disk`].
    pub fn with_small_disk(bytes: u32, settings: &str) -> Self {
        let mut server = Self::with_settings(settings);
        server.kill();
        fs::create_dir(server.small_disk()).unwrap();
        server.disk = Some(bytes);
        server.run();
        server
    }

    /// The small file system, which only the server sees.
    pub fn small_disk(&self) -> PathBuf {
        self.directory.join("small")
    }

    /// A standby, which `synchronous_standby_names` calls `name`.
    pub fn standby_of(primary: &Self, name: &str) -> Self {
        let mut server = Self::unmade();
        let mut copy = server.command("pg_basebackup");
        copy.args(["--no-sync", "--checkpoint=fast"])
            .arg("-h")
            .arg(&primary.directory)
            .args(["-p", &primary.port.to_string(), "-U", USER, "-D"])
            .arg(server.data());
        run(&mut copy);
        server.configure(&format!(
            "primary_conninfo = 'host={} port={} user={USER} application_name={name}'\n",
            primary.directory.display(),
            primary.port,
        ));
        let signal = server.data().join("standby.signal");
        fs::write(&signal, "").unwrap();
        server.give_away(&signal);
        server.run();
        server
    }

    /// A directory for one.
    fn unmade() -> Self {
        // In memory where that is possible: the server syncs as it always does.
        let parent = Path::new("/dev/shm");
        let parent = match fs::write(parent.join(".rootbridge-probe"), "") {
            Ok(()) => parent.to_owned(),
            Err(_) => std::env::temp_dir(),
        };
        let name = format!("rb-postgres-{}-{:x}", std::process::id(), seed());
        let directory = parent.join(name);
        fs::create_dir(&directory).unwrap();
        let server = Self {
            // PostgreSQL does not let the system choose a port; nobody else uses this address.
            address: {
                let n = seed();
                format!(
                    "127.{}.{}.{}",
                    1 + n % 250,
                    (n >> 8) % 250,
                    1 + (n >> 16) % 250
                )
            },
            port: free_port(),
            directory,
            disk: None,
            keeper: None,
        };
        server.give_away(&server.directory);
        server
    }

    /// Adds where it listens, and `settings`, to its configuration.
    fn configure(&self, settings: &str) {
        let config = format!(
            "listen_addresses = '{}'\nport = {}\nunix_socket_directories = '{}'\n{settings}",
            self.address,
            self.port,
            self.directory.display(),
        );
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))
            .unwrap();
        file.write_all(config.as_bytes()).unwrap();
    }

    /// Starts it, also after [`Self::kill`], and waits until it answers.
    pub fn run(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        // The shell is there to end the server when this process is gone, however it ended.
        let script = "dir=$1; shift; \"$@\" & server=$!; input=$(cat); \
            kill -QUIT $server 2>/dev/null; wait $server; [ \"$input\" = keep ] || rm -rf \"$dir\"";
        let mut keeper = Command::new("sh");
        keeper.args(["-c", script, "keeper"]).arg(&self.directory);
        if let Some(bytes) = self.disk {
            keeper.args(self.mounting(bytes));
        }
        let postgres = self.command("postgres");
        keeper.arg(postgres.get_program());
        keeper.args(postgres.get_args());
        keeper.arg("-D").arg(self.data());
        keeper
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.keeper = Some(keeper.spawn().unwrap());
        let start = Instant::now();
        while !self.answers() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            assert!(
                start.elapsed() < PATIENCE,
                "PostgreSQL does not start:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What runs another program with the small file system mounted, in a mount namespace of its own.
    fn mounting(&self, bytes: u32) -> Vec<String> {
        let mut command = vec!["unshare".to_owned(), "--mount".to_owned()];
        let mut options = format!("size={bytes},mode=700");
        if geteuid().is_root() {
            let nobody = User::from_name("nobody").unwrap().unwrap();
            options.push_str(&format!(",uid={}", nobody.uid));
        } else {
            command.extend(["--user", "--map-current-user", "--keep-caps"].map(str::to_owned));
        }
        let script = "mount -t tmpfs -o \"$1\" tmpfs \"$2\" && shift 2 && exec \"$@\"";
        command.extend(["sh", "-c", script, "mounting"].map(str::to_owned));
        command.extend([options, self.small_disk().display().to_string()]);
        command
    }

    fn answers(&self) -> bool {
        let mut ready = Command::new(binary("pg_isready"));
        ready.arg("-q").arg("-h").arg(&self.directory).args([
            "-p",
            &self.port.to_string(),
            "-U",
            USER,
            "-d",
            "postgres",
        ]);
        ready.status().unwrap().success()
    }

    /// Kills every process of the server, as a power failure would.
    pub fn kill(&mut self) {
        if let Some(main) = self.main_process() {
            let all = [vec![main], children(main)].concat();
            for each in &all {
                // It may be gone already.
                let _ = kill(*each, Signal::SIGKILL);
            }
            let start = Instant::now();
            // One that is left would answer still, and keep the next server from starting.
            while all.iter().any(|each| is_running(*each)) {
                assert!(start.elapsed() < PATIENCE, "PostgreSQL does not end");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if let Some(mut keeper) = self.keeper.take() {
            if let Some(mut input) = keeper.stdin.take() {
                input.write_all(b"keep").unwrap();
            }
            keeper.wait().unwrap();
        }
    }

    /// The server's first process.
    pub fn main_process(&self) -> Option<Pid> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok().map(Pid::from_raw)
    }

    /// A database that nobody else uses.
    pub fn database(&self) -> String {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The URL of a database by way of the Unix socket, without a password.
    pub fn socket_url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", self.socket_host())
    }

    /// The Unix socket as a host in a URL.
    pub fn socket_host(&self) -> String {
        let socket = self.directory.display().to_string().replace('/', "%2F");
        format!("{socket}:{}", self.port)
    }

    /// The URL of a database by way of TLS; it needs [`PASSWORD`].
    pub fn tls_url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}@{}:{}/{database}?sslrootcert={}",
            self.address,
            self.port,
            self.roots().display()
        )
    }

    /// The CA of its certificate, PEM.
    pub fn roots(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The certificate of [`CERTIFIED`], and its key: PEM.
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        let file = |name: &str| self.directory.join(name);
        (file("client.pem"), file("client.key"))
    }

    /// Runs SQL, and returns what it prints: rows without headings.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, USER, sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same as any role, or what went wrong.
    pub fn try_psql(&self, database: &str, role: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(binary("psql"));
        psql.args(self.psql_arguments(database))
            .args(["-U", role, "-c", sql]);
        let output = psql.output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// What psql is given to work on a database.
    pub fn psql_arguments(&self, database: &str) -> Vec<String> {
        let socket = self.directory.display().to_string();
        let port = self.port.to_string();
        let fixed = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"];
        let own = ["-h", &socket, "-p", &port, "-U", USER, "-d", database];
        fixed
            .iter()
            .chain(&own)
            .map(|each| each.to_string())
            .collect()
    }

    /// A program of PostgreSQL.
    pub fn program(name: &str) -> PathBuf {
        binary(name)
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A program of the server.
    fn command(&self, program: &str) -> Command {
        unprivileged(&binary(program))
    }

    fn give_away(&self, path: &Path) {
        give_away(path);
    }

    /// The certificate for its address, and the key: PEM.
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        let file = |name: &str| self.directory.join(name);
        (file("server.pem"), file("server.key"))
    }

    pub(crate) fn socket_directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
