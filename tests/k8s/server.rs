//! A real API server with its etcd, on free ports of the loopback interface.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::access::{Ca, Credential, client, kubeconfig};
use super::guarded_process::GuardedProcess;
use rootbridge_test_support::command::run;
use rootbridge_test_support::files::{repository, write_secret};
use rootbridge_test_support::free_port;
use rootbridge_test_support::jwk::b64;
use rootbridge_test_support::jwt::ISSUER;

/// To be ready, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(120);

/// A cluster's API server. Both processes end when it is dropped, or when this process dies.
pub(crate) struct ApiServer {
    // The server first: without its store it would only complain.
    server: Option<GuardedProcess>,
    etcd: GuardedProcess,
    arguments: Vec<String>,
    directory: PathBuf,
    ca: Ca,
    port: u16,
    admin: String,
}

/// The one that tests share, in namespaces of their own. Who stops a server, or needs flags, starts
/// another.
pub(crate) fn shared() -> &'static ApiServer {
    static SHARED: LazyLock<ApiServer> = LazyLock::new(ApiServer::start);
    &SHARED
}

impl ApiServer {
    /// Starts one as clusters have it by default.
    pub(crate) fn start() -> Self {
        Self::with_flags(&[])
    }

    /// The same with further flags; a flag that is given here wins.
    pub(crate) fn with_flags(flags: &[&str]) -> Self {
        // A port that was free can be taken before it is used again.
        for _ in 0..3 {
            if let Ok(server) = Self::try_start(flags) {
                return server;
            }
        }
        Self::try_start(flags).unwrap_or_else(|log| panic!("no API server:\n{log}"))
    }

    fn try_start(flags: &[&str]) -> Result<Self, String> {
        // Not kept by this process: who clears it away outlives the process.
        let directory = tempfile::Builder::new()
            .prefix("rb-k8s-")
            .tempdir()
            .unwrap()
            .keep();
        let (etcd, store) = start_etcd(&directory);
        let ca = Ca::new();
        let mut server = Self {
            server: None,
            etcd,
            arguments: Vec::new(),
            directory,
            ca,
            port: free_port(),
            admin: random(),
        };
        server.arguments = server.prepare(&store, flags);
        server.run()?;
        Ok(server)
    }

    /// Writes keys and tokens; the command's arguments.
    fn prepare(&self, store: &str, flags: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let (certificate, key) = self.ca.server();
        write_secret(&self.path("server.pem"), &certificate);
        write_secret(&self.path("server.key"), &key);
        write_secret(&self.path("ca.pem"), &self.ca.pem());
        let admin = &self.admin;
        write_secret(
            &self.path("tokens.csv"),
            &format!("{admin},admin,admin,system:masters\n"),
        );
        // RSA, as nearly every cluster has it.
        run(Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(self.path("accounts.key"))
            .arg("2048"));
        let mut arguments = vec![
            format!("--etcd-servers={store}"),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            // Loopback addresses may not be endpoints; no test uses them.
            "--advertise-address=192.0.2.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--tls-cert-file={}", path("server.pem")),
            format!("--tls-private-key-file={}", path("server.key")),
            format!("--client-ca-file={}", path("ca.pem")),
            format!("--token-auth-file={}", path("tokens.csv")),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-account-key-file={}", path("accounts.key")),
            format!(
                "--service-account-signing-key-file={}",
                path("accounts.key")
            ),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            // It waits for tokens' secrets that a controller manager would make.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--etcd-compaction-interval=0".to_owned(),
            "--profiling=false".to_owned(),
            "--shutdown-delay-duration=0s".to_owned(),
        ];
        // Lists add up when a flag is given twice.
        let name = |flag: &str| flag.split('=').next().map(str::to_owned);
        arguments.retain(|one| flags.iter().all(|flag| name(flag) != name(one)));
        arguments.extend(flags.iter().map(ToString::to_string));
        arguments
    }

    fn run(&mut self) -> Result<(), String> {
        let program = built("kube-apiserver");
        let log = self.path("apiserver.log");
        let server = GuardedProcess::start(&program, &self.arguments, &log, None);
        let started = Instant::now();
        while !self.ready() {
            if server.ended() || started.elapsed() > START {
                return Err(server.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.server = Some(server);
        Ok(())
    }

    fn ready(&self) -> bool {
        let url = format!("https://127.0.0.1:{}/readyz", self.port);
        let ca = reqwest::Certificate::from_pem(self.ca.pem().as_bytes()).unwrap();
        let admin = self.admin.clone();
        // A thread of its own: the caller may be on a runtime, which must not be entered twice.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = reqwest::Client::builder()
                    .tls_certs_only([ca])
                    .timeout(Duration::from_secs(5))
                    .build()
                    .unwrap();
                let answer = client.get(url).bearer_auth(admin).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            })
        })
        .join()
        .unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where it keeps everything; goes with it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The CA of its serving certificate, PEM.
    pub(crate) fn ca(&self) -> String {
        self.ca.pem()
    }

    /// The administrator, who may do everything.
    pub(crate) fn admin(&self) -> Credential {
        Credential::Token(self.admin.clone())
    }

    /// A user by certificate, in a group.
    pub(crate) fn user(&self, user: &str, group: &str) -> Credential {
        self.ca.user(user, &[group])
    }

    /// A kubelet: what it may do follows from the pods on its node.
    pub(crate) fn kubelet(&self, node: &str) -> Credential {
        self.user(&format!("system:node:{node}"), "system:nodes")
    }

    /// A kubeconfig's text for a credential.
    pub(crate) fn kubeconfig(&self, credential: &Credential) -> String {
        kubeconfig(self.port, &self.ca.pem(), credential)
    }

    /// A client as the administrator.
    pub(crate) async fn client(&self) -> kube::Client {
        self.client_as(&self.admin()).await
    }

    pub(crate) async fn client_as(&self, credential: &Credential) -> kube::Client {
        client(&self.kubeconfig(credential)).await
    }

    /// Stops it: connections stay open without answers.
    pub(crate) fn pause(&self) {
        self.process().signal(Signal::SIGSTOP);
        // A thread that is waiting for a processor stops only when it gets one.
        let threads = format!("/proc/{}/task", self.process().id());
        let stopped = || {
            std::fs::read_dir(&threads).unwrap().all(|thread| {
                let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
                stat.is_ok_and(|stat| stat.rsplit(')').next().unwrap().trim().starts_with('T'))
            })
        };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !stopped() {
            assert!(std::time::Instant::now() < end, "it does not stop");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(crate) fn resume(&self) {
        self.process().signal(Signal::SIGCONT);
    }

    /// Ends it as a crash does; its store goes on.
    pub(crate) fn crash(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same port with the same store.
    pub(crate) fn restart(&mut self) {
        self.crash();
        self.run()
            .unwrap_or_else(|log| panic!("no API server:\n{log}"));
    }

    /// The API server's process.
    pub(crate) fn process(&self) -> &GuardedProcess {
        self.server.as_ref().expect("it runs")
    }

    /// etcd's process.
    pub(crate) fn store(&self) -> &GuardedProcess {
        &self.etcd
    }
}

fn start_etcd(directory: &Path) -> (GuardedProcess, String) {
    let (clients, peers) = (free_port(), free_port());
    let store = format!("http://127.0.0.1:{clients}");
    let peers = format!("http://127.0.0.1:{peers}");
    let arguments = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={store}"),
        format!("--advertise-client-urls={store}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // Nothing here must outlive the machine.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let log = directory.join("etcd.log");
    let etcd = GuardedProcess::start(&built("etcd"), &arguments, &log, Some(directory));
    (etcd, store)
}

/// A program that `scripts/setup test` has built.
pub(crate) fn built(name: &str) -> PathBuf {
    let path = repository("build/cluster").join(name);
    assert!(path.exists(), "no {}; run `make setup`", path.display());
    path
}

fn random() -> String {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    b64(&bytes)
}
