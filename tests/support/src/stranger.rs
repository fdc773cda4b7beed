//! Peers without a credential, each with a source address of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than any honest client waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects from `127.0.0.N` to one port.
pub struct Stranger {
    source: Ipv4Addr,
    port: u16,
    tls: Arc<ClientConfig>,
    /// The connections of HTTP/2, which end with this.
    driven: JoinSet<()>,
}

impl Stranger {
    pub fn new(last_octet: u8, port: u16, roots: &str) -> Self {
        Self::with_chain(last_octet, port, roots, 0)
    }

    /// Presents a client certificate, followed by `more` bytes of further ones.
    pub fn with_chain(last_octet: u8, port: u16, roots: &str, more: usize) -> Self {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            store.add(root.unwrap()).unwrap();
        }
        let config = ClientConfig::builder().with_root_certificates(store);
        let mut config = match more {
            0 => config.with_no_client_auth(),
            more => {
                let (chain, key) = long_chain(more);
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            source: Ipv4Addr::new(127, 0, 0, last_octet),
            port,
            tls: Arc::new(config),
            driven: JoinSet::new(),
        }
    }

    /// A TCP connection without a byte.
    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        socket.set_nodelay(true)?;
        let server = SocketAddr::from(([127, 0, 0, 1], self.port));
        socket.connect(server).await
    }

    /// A connection after its TLS handshake.
    pub async fn tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let shaken = async { connector.connect(name, self.tcp().await?).await };
        tokio::time::timeout(PATIENCE, shaken).await?
    }

    /// An HTTP/2 connection that answers pings.
    pub async fn http2(&mut self) -> io::Result<SendRequest<Bytes>> {
        self.http2_reading(65_535).await
    }

    /// The same, whose client reads so many bytes of each answer's body.
    pub async fn http2_reading(&mut self, window: u32) -> io::Result<SendRequest<Bytes>> {
        let stream = self.tls().await?;
        let mut client = h2::client::Builder::new();
        let (send, connection) = client
            .initial_window_size(window)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        self.driven.spawn(async move {
            let _ = connection.await;
        });
        Ok(send)
    }

    /// Waits until the server has ended every HTTP/2 connection.
    pub async fn all_ended(&mut self) {
        while self.driven.join_next().await.is_some() {}
    }

    /// An HTTP/2 connection that answers pings and does nothing else, until the server ends it;
    /// returns the types of the frames that it got.
    pub async fn idle_until_its_end(&self) -> Vec<u8> {
        let mut stream = self.tls().await.unwrap();
        let no_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &no_settings].concat();
        stream.write_all(&preface).await.unwrap();
        let mut types = Vec::new();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, flags, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                break;
            }
            types.push(kind);
            if kind == PING && flags == 0 {
                let acknowledged = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat();
                let _ = stream.write_all(&acknowledged).await;
            }
        }
        types
    }
}

/// Frames of HTTP/2 (RFC 9113 §6).
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

/// A gRPC call that has started: a message of `length` bytes, of which nothing is sent yet.
pub struct Unfinished {
    pub answer: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Unfinished {
    pub async fn start(
        connection: SendRequest<Bytes>,
        path: &str,
        length: u32,
    ) -> Result<Self, h2::Error> {
        Self::with_headers(connection, path, length, 0).await
    }

    /// With so many headers more.
    pub async fn with_headers(
        connection: SendRequest<Bytes>,
        path: &str,
        length: u32,
        headers: usize,
    ) -> Result<Self, h2::Error> {
        let mut request = http::Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for _ in 0..headers {
            request = request.header("x", "y");
        }
        let request = request.body(()).unwrap();
        let (answer, mut body) = connection.ready().await?.send_request(request, false)?;
        let [a, b, c, d] = length.to_be_bytes();
        body.send_data(Bytes::copy_from_slice(&[0, a, b, c, d]), false)?;
        Ok(Self { answer, body })
    }

    /// The end of the message.
    pub fn end(&mut self) -> Result<(), h2::Error> {
        self.body.send_data(Bytes::new(), true)
    }

    /// Sends `bytes` of the message as far as the server takes them, and no end.
    pub async fn send(&mut self, bytes: usize) -> Result<(), h2::Error> {
        let mut left = bytes;
        while left > 0 {
            self.body.reserve_capacity(left.min(16_384));
            let room = std::future::poll_fn(|cx| self.body.poll_capacity(cx)).await;
            let Some(room) = room.transpose()? else {
                return Ok(());
            };
            let part = room.min(left);
            self.body.send_data(Bytes::from(vec![b'x'; part]), false)?;
            left -= part;
        }
        Ok(())
    }
}

/// A leaf that nobody signed but itself, repeated.
fn long_chain(more: usize) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["stranger".to_owned()]).unwrap();
    let leaf = made.cert.der().clone();
    let chain = vec![leaf.clone(); 1 + more / leaf.len()];
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    (chain, key.into())
}
