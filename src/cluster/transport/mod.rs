//! HTTP to one API server: its TLS, its proxy, its connections.

mod connector;
mod error;
mod stream;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::sign::CertifiedKey;

use super::target::Target;
use connector::Connector;

type HttpClient = Client<Connector, Full<Bytes>>;

/// Clones share the connections.
pub(super) struct Transport {
    target: Target,
    /// With the client certificate that its connections present.
    current: Mutex<(Option<Arc<CertifiedKey>>, HttpClient)>,
}

impl Transport {
    pub(super) fn new(target: Target) -> Result<Self, String> {
        let identity = target.identity.clone();
        let client = client(&target, identity.clone())?;
        Ok(Self {
            target,
            current: Mutex::new((identity, client)),
        })
    }

    /// Sends a request whose URI is a path. With `identity`, connections present that client
    /// certificate; those with an earlier one get no further requests.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        identity: Option<&Arc<CertifiedKey>>,
    ) -> Result<Response<Incoming>, String> {
        let client = self.client(identity)?;
        let (mut parts, body) = request.into_parts();
        parts.uri = absolute(&self.target.server, &parts.uri).map_err(|error| error.to_string())?;
        let answer = client.request(Request::from_parts(parts, body)).await;
        answer.map_err(|error| error::text(&error))
    }

    fn client(&self, identity: Option<&Arc<CertifiedKey>>) -> Result<HttpClient, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = identity
            && !current
                .0
                .as_ref()
                .is_some_and(|used| Arc::ptr_eq(used, identity))
        {
            let next = client(&self.target, Some(Arc::clone(identity)))?;
            *current = (Some(Arc::clone(identity)), next);
        }
        Ok(current.1.clone())
    }
}

fn client(target: &Target, identity: Option<Arc<CertifiedKey>>) -> Result<HttpClient, String> {
    let connector = Connector::new(target, identity)?;
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    Ok(builder.build(connector))
}

/// The URI of a path below the server's own.
fn absolute(server: &Uri, path: &Uri) -> Result<Uri, http::Error> {
    let path = path.path_and_query().map_or("/", |path| path.as_str());
    let mut parts = server.clone().into_parts();
    let prefix = server.path().trim_end_matches('/');
    parts.path_and_query = Some(format!("{prefix}{path}").parse()?);
    Ok(Uri::from_parts(parts)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_below_the_servers_own() {
        for (server, expected) in [
            ("https://h:6443", "https://h:6443/api?x=1"),
            ("https://h/", "https://h/api?x=1"),
            (
                "https://h/k8s/clusters/c-1/",
                "https://h/k8s/clusters/c-1/api?x=1",
            ),
        ] {
            let path = Uri::from_static("/api?x=1");
            let found = absolute(&server.parse().unwrap(), &path).unwrap();
            assert_eq!(found.to_string(), expected);
        }
    }
}
