//! One caller's connection: TLS, HTTP/2 and gRPC with as little CPU time as possible, because the
//! callers share the cores with the server.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Uri};
use rootbridge::x509::Certificate;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::answers;
use crate::requests::{FRAME_LEN, Request};

const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// Large enough for many answers without a window update for each.
const WINDOW_SIZE: u32 = 16 * 1024 * 1024;
/// Longer than the server's own time limits.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The server's address, and how its certificate is verified.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    tls: TlsConnector,
    uri: Uri,
}

pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    /// Polled only while a call is in progress.
    transport: Pin<Box<h2::client::Connection<TlsStream<TcpStream>>>>,
    uri: Uri,
    /// The client presented a certificate, and calls without a token.
    has_certificate: bool,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, root: &Certificate) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root.der().to_vec()))?;
        let roots = Arc::new(roots);
        let tls = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        Ok(Self {
            address,
            roots,
            tls: connector(tls),
            uri: format!("https://localhost:{}{METHOD}", address.port()).parse()?,
        })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.connect_with(&self.tls, false).await
    }

    /// Connects with a certificate for the request's key, which `answer` holds.
    pub(crate) async fn connect_as(&self, request: &Request, answer: &[u8]) -> Result<Connection> {
        let mut chain = answers::chain(answer)?;
        // The root stays at home.
        chain.pop();
        let der = |certificate: &Certificate| CertificateDer::from(certificate.der().to_vec());
        let chain = chain.iter().map(der).collect();
        let key = PrivatePkcs8KeyDer::from(request.key.clone());
        let tls = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(chain, key.into())?;
        self.connect_with(&connector(tls), true).await
    }

    async fn connect_with(&self, tls: &TlsConnector, has_certificate: bool) -> Result<Connection> {
        let connection = timeout(TIMEOUT, self.handshake(tls, has_certificate)).await;
        connection.context("the connection took too long")?
    }

    async fn handshake(&self, tls: &TlsConnector, has_certificate: bool) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = tls.connect(name, stream).await?;
        let (sender, transport) = h2::client::Builder::new()
            .initial_window_size(WINDOW_SIZE)
            .initial_connection_window_size(WINDOW_SIZE)
            .handshake(stream)
            .await?;
        Ok(Connection {
            sender,
            transport: Box::pin(transport),
            uri: self.uri.clone(),
            has_certificate,
        })
    }
}

fn connector(mut tls: ClientConfig) -> TlsConnector {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(tls))
}

impl Connection {
    /// Makes one call that the server must answer with OK and a message. The message is returned only
    /// when `keep_answer`.
    pub(crate) async fn call(&mut self, request: &Request, keep_answer: bool) -> Result<Bytes> {
        let Self {
            sender,
            transport,
            uri,
            has_certificate,
        } = self;
        let token = (!*has_certificate).then(|| request.authorization.clone());
        let mut call = pin!(exchange(sender, uri, request, token, keep_answer));
        // Both in one task, which saves the wake-ups between two.
        let both = poll_fn(|context| {
            if let Poll::Ready(answer) = call.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            match transport.as_mut().poll(context) {
                Poll::Ready(Ok(())) => {
                    Poll::Ready(Err(anyhow!("the server closed the connection")))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Pending => call.as_mut().poll(context),
            }
        });
        timeout(TIMEOUT, both)
            .await
            .context("the call took too long")?
    }
}

async fn exchange(
    sender: &mut SendRequest<Bytes>,
    uri: &Uri,
    request: &Request,
    token: Option<HeaderValue>,
    keep_answer: bool,
) -> Result<Bytes> {
    poll_fn(|context| sender.poll_ready(context)).await?;
    let mut head = http::Request::new(());
    *head.method_mut() = Method::POST;
    *head.uri_mut() = uri.clone();
    let headers = head.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token);
    }
    let (response, mut body) = sender.send_request(head, false)?;
    body.send_data(request.frame.clone(), true)?;

    let (head, mut body) = response.await?.into_parts();
    let (mut length, mut frame) = (0, BytesMut::new());
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        length += chunk.len();
        body.flow_control().release_capacity(chunk.len())?;
        if keep_answer {
            frame.extend_from_slice(&chunk);
        }
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    let text = |name| {
        let value = trailers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default())
    };
    let (code, message) = (text("grpc-status"), text("grpc-message"));
    if code != "0" {
        bail!("HTTP {}, gRPC status {code}: {message}", head.status);
    }
    ensure!(length > FRAME_LEN, "an empty answer");
    Ok(frame.freeze())
}
