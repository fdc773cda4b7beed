//! Connections to an API server, directly or through a proxy.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt as _};

use super::error::ConnectError;
use super::stream::Stream;
use super::tls::{to_proxy, to_server};
use crate::cluster::target::{Proxy, ProxyKind, Target};
use crate::error_chain::error_chain;

/// For TCP, the proxy and TLS together; requests have deadlines of their own.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Connector(Arc<Shared>);

struct Shared {
    server: Uri,
    server_name: ServerName<'static>,
    tls: TlsConnector,
    proxy: Option<(Proxy, TlsConnector)>,
    tcp: HttpConnector,
}

impl Connector {
    pub(super) fn new(
        target: &Target,
        identity: Option<Arc<CertifiedKey>>,
    ) -> Result<Self, String> {
        let authorities = target.authorities.as_deref();
        let proxy = match &target.proxy {
            None => None,
            Some(proxy) => Some((proxy.clone(), to_proxy(authorities)?)),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Ok(Self(Arc::new(Shared {
            server: with_port(&target.server),
            server_name: target.server_name.clone(),
            tls: to_server(authorities, identity)?,
            proxy,
            tcp,
        })))
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _server: Uri) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECT, shared.connect()).await;
            connected.unwrap_or(Err(ConnectError::Timeout(CONNECT)))
        })
    }
}

impl Shared {
    async fn connect(&self) -> Result<Stream, ConnectError> {
        let stream = match &self.proxy {
            None => self
                .tcp(&self.server)
                .await
                .map_err(ConnectError::Address)?,
            Some((proxy, tls)) => {
                let through = self.through(proxy, tls).await;
                through.map_err(|why| ConnectError::Proxy {
                    proxy: proxy.to_string(),
                    why,
                })?
            }
        };
        let tls = self
            .tls
            .connect(self.server_name.clone(), stream.into_inner());
        tls.await.map(Stream::new).map_err(ConnectError::Tls)
    }

    async fn tcp(&self, address: &Uri) -> Result<Stream, String> {
        let stream = self.tcp.clone().oneshot(address.clone()).await;
        let stream = stream.map_err(|error| error_chain(&error))?;
        Ok(Stream::new(stream.into_inner()))
    }

    async fn through(&self, proxy: &Proxy, tls: &TlsConnector) -> Result<Stream, String> {
        let stream = self.tcp(&proxy.address).await?;
        let to_proxy = match proxy.kind {
            ProxyKind::Http | ProxyKind::Socks5 => stream,
            ProxyKind::Https => {
                let name = proxy.address.host().unwrap_or_default();
                let name = name.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
                let tls = tls.connect(name, stream.into_inner()).await;
                Stream::new(tls.map_err(|error| format!("TLS: {error}"))?)
            }
        };
        let mut to_proxy = Some(to_proxy);
        let connected = tower::service_fn(move |_: Uri| {
            let stream = to_proxy.take();
            std::future::ready(stream.ok_or_else(|| std::io::Error::other("used twice")))
        });
        let user = proxy.user.as_ref();
        let (server, address) = (self.server.clone(), proxy.address.clone());
        match proxy.kind {
            ProxyKind::Http | ProxyKind::Https => {
                let mut tunnel = Tunnel::new(address, connected);
                if let Some((name, password)) = user {
                    let basic = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
                    let basic = HeaderValue::try_from(basic).map_err(|error| error.to_string())?;
                    tunnel = tunnel.with_auth(basic);
                }
                tunnel
                    .call(server)
                    .await
                    .map_err(|error| error_chain(&error))
            }
            ProxyKind::Socks5 => {
                let mut socks = SocksV5::new(address, connected);
                if let Some((name, password)) = user {
                    socks = socks.with_auth(name.clone(), password.clone());
                }
                socks
                    .call(server)
                    .await
                    .map_err(|error| error_chain(&error))
            }
        }
    }
}

/// A tunnel's request names the port.
fn with_port(server: &Uri) -> Uri {
    let host = server.host().unwrap_or_default();
    let authority = format!("{host}:{}", server.port_u16().unwrap_or(443));
    let built = Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query("/")
        .build();
    built.unwrap_or_else(|_| server.clone())
}
