//! A proxy to PostgreSQL that loses the answer to a commit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rootbridge_test_support::files::write_secret;
use rootbridge_test_support::postgres::{PASSWORD, PostgresServer, USER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Proxy {
    address: SocketAddr,
    directory: tempfile::TempDir,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    armed: AtomicBool,
    stops: AtomicBool,
    cut: AtomicU32,
}

impl Proxy {
    pub async fn start(server: &PostgresServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        write_secret(&directory.path().join("password"), PASSWORD);
        let state = Arc::new(State::default());
        let (to, shared) = ((server.address.clone(), server.port), Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            directory,
            state,
        }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Without TLS, so that the proxy sees what is said.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}@{}/{database}?sslmode=disable",
            self.address
        )
    }

    /// The file with the password.
    pub fn password(&self) -> PathBuf {
        self.directory.path().join("password")
    }

    /// The next commit is passed on; its answer is not, and both connections end.
    pub fn swallow_after_commit(&self) {
        self.state.armed.store(true, Ordering::SeqCst);
    }

    /// The next commit is not passed on, as if the server had been stopped before it; the connection ends
    /// when the database ends it.
    pub fn stop_before_commit(&self) {
        self.state.stops.store(true, Ordering::SeqCst);
    }

    /// How many answers were lost, and servers stopped.
    pub fn cut(&self) -> u32 {
        self.state.cut.load(Ordering::SeqCst)
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, state: Arc<State>) {
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let commits = contains(&asked[..length], b"Q\0\0\0\x0bCOMMIT\0");
                if commits && state.stops.swap(false, Ordering::SeqCst) {
                    state.cut.fetch_add(1, Ordering::SeqCst);
                    while matches!(server.read(&mut answered).await, Ok(1..)) {}
                    return;
                }
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                if commits && state.armed.swap(false, Ordering::SeqCst) {
                    let mut answer = Vec::new();
                    while !contains(&answer, b"COMMIT\0") {
                        let length = server.read(&mut answered).await.unwrap();
                        assert_ne!(length, 0, "the server ended the connection");
                        answer.extend_from_slice(&answered[..length]);
                    }
                    state.cut.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
