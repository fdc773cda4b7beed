//! One caller's connection: TLS, HTTP/2 and gRPC with as little as they need, so that the cores
//! that the callers share with the server are the server's.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::place::failed;
use super::requests::Request;
use crate::cli::failure::Failure;
use crate::x509::Certificate;

const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// Room for many answers: windows need not be moved with every one.
const WINDOW: u32 = 16 * 1024 * 1024;
/// Longer than the server lets anything wait.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the server is and how it is known.
#[derive(Debug, Clone)]
pub(super) struct Target {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    uri: Uri,
}

/// A connection with nothing on it. It moves only while a call is under way.
pub(super) struct Connection {
    calls: SendRequest<Bytes>,
    wire: Pin<Box<h2::client::Connection<TlsStream<TcpStream>>>>,
    uri: Uri,
}

impl Target {
    /// The server at `address`, whose certificate must lead to `root`.
    pub(super) fn new(address: SocketAddr, root: &Certificate) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(root.der().to_vec()))
            .map_err(|error| failed(error.to_string()))?;
        let mut tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let uri = Uri::builder()
            .scheme("https")
            .authority(format!("localhost:{}", address.port()))
            .path_and_query(PathAndQuery::from_static(METHOD))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            address,
            tls: Arc::new(tls),
            uri,
        })
    }

    pub(super) async fn connect(&self) -> Result<Connection, String> {
        tokio::time::timeout(PATIENCE, self.shake_hands())
            .await
            .map_err(|_| "the connection took too long".to_owned())?
    }

    async fn shake_hands(&self) -> Result<Connection, String> {
        let say = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(self.address).await.map_err(say)?;
        stream.set_nodelay(true).map_err(say)?;
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(say)?;
        let (calls, wire) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(stream)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Connection {
            calls,
            wire: Box::pin(wire),
            uri: self.uri.clone(),
        })
    }
}

impl Connection {
    /// Makes one call. Answers the message when it is to be `kept`, and nothing otherwise; either
    /// way the server said OK and sent something.
    pub(super) async fn call(&mut self, request: &Request, kept: bool) -> Result<Bytes, String> {
        let Self { calls, wire, uri } = self;
        let mut call = pin!(exchange(calls, uri, request, kept));
        // Call and wire in one task: no wake-up from one to the other.
        let both = poll_fn(|context| {
            if let Poll::Ready(answer) = call.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            match wire.as_mut().poll(context) {
                Poll::Ready(Ok(())) => {
                    Poll::Ready(Err("the server closed the connection".to_owned()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.to_string())),
                Poll::Pending => call.as_mut().poll(context),
            }
        });
        tokio::time::timeout(PATIENCE, both)
            .await
            .map_err(|_| "the call took too long".to_owned())?
    }
}

async fn exchange(
    calls: &mut SendRequest<Bytes>,
    uri: &Uri,
    request: &Request,
    kept: bool,
) -> Result<Bytes, String> {
    let say = |error: h2::Error| error.to_string();
    poll_fn(|context| calls.poll_ready(context))
        .await
        .map_err(say)?;
    let mut head = http::Request::new(());
    *head.method_mut() = Method::POST;
    *head.uri_mut() = uri.clone();
    let headers = head.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(AUTHORIZATION, request.token.clone());
    let (answer, mut body) = calls.send_request(head, false).map_err(say)?;
    body.send_data(request.message.clone(), true).map_err(say)?;

    let (head, mut body) = answer.await.map_err(say)?.into_parts();
    let (mut length, mut message) = (0, BytesMut::new());
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(say)?;
        length += chunk.len();
        body.flow_control()
            .release_capacity(chunk.len())
            .map_err(say)?;
        if kept {
            message.extend_from_slice(&chunk);
        }
    }
    let trailers = body.trailers().await.map_err(say)?.unwrap_or(head.headers);
    let status = trailers.get("grpc-status").map(HeaderValue::as_bytes);
    match status {
        Some(b"0") if length > 5 => Ok(message.freeze()),
        Some(b"0") => Err("an empty answer".to_owned()),
        _ => {
            let said = |name| {
                trailers
                    .get(name)
                    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            Err(format!(
                "HTTP {}, gRPC status {}: {}",
                head.status,
                said("grpc-status").unwrap_or_default(),
                said("grpc-message").unwrap_or_default()
            ))
        }
    }
}
