//! An HTTPS server of key sets that tests stop and make misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rootbridge_test_support::tls_server::server_config;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// What the server answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Set(String),
    Slow(Duration, String),
    /// To another URL, which would have the set.
    Redirect(u16, String),
    Status(u16),
    /// More than a megabyte, announced or not.
    Huge {
        announced: bool,
    },
    /// A connection that ends in the middle.
    Cut,
}

pub(crate) struct KeyServer {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    tls: Arc<ServerConfig>,
    state: Arc<State>,
    running: Option<AbortHandle>,
}

struct State {
    answer: Mutex<Answer>,
    hits: AtomicUsize,
    /// The `authorization` header of the last request.
    authorization: Mutex<Option<String>>,
}

impl KeyServer {
    pub(crate) async fn start(answer: Answer) -> Self {
        let (tls, ca_pem) = server_config(&["localhost"]);
        let state = Arc::new(State {
            answer: Mutex::new(answer),
            hits: AtomicUsize::new(0),
            authorization: Mutex::default(),
        });
        let mut server = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ca_pem,
            tls: Arc::new(tls),
            state,
            running: None,
        };
        server.up().await;
        server
    }

    /// Listens, on the same port as before if there was one.
    pub(crate) async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (acceptor, state) = (TlsAcceptor::from(self.tls.clone()), self.state.clone());
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), state.clone());
                tokio::spawn(async move { serve(acceptor, stream, &state).await });
            }
        };
        self.running = Some(tokio::spawn(accept).abort_handle());
    }

    /// Refuses connections from now on.
    pub(crate) async fn down(&mut self) {
        if let Some(task) = self.running.take() {
            task.abort();
            while TcpStream::connect(self.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// How many requests were answered, or begun to be.
    pub(crate) fn hits(&self) -> usize {
        self.state.hits.load(Ordering::SeqCst)
    }

    /// What the last request presented.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.state.authorization.lock().unwrap().clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/keys", self.address.port())
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, state: &State) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(request).unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let header = lines.find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    *state.authorization.lock().unwrap() = header.map(|(_, value)| value.to_owned());
    state.hits.fetch_add(1, Ordering::SeqCst);
    let answer = state.answer.lock().unwrap().clone();
    let ok = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let text = match answer {
        Answer::Set(body) => ok(&body),
        Answer::Slow(delay, body) => {
            tokio::time::sleep(delay).await;
            ok(&body)
        }
        Answer::Redirect(status, to) => format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        ),
        Answer::Status(status) => {
            format!("HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        }
        Answer::Huge { announced: true } => ok(&" ".repeat(1024 * 1024 + 1)),
        Answer::Huge { announced: false } => {
            format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
                " ".repeat(3 * 1024 * 1024)
            )
        }
        Answer::Cut => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"keys\":".to_owned(),
    };
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}
