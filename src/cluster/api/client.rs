//! Requests to an API server, each bounded in time and in the bytes of its answer.
//!
//! kube's own client reads bodies without a bound and logs an answer that it cannot read, which may
//! hold a token or a private key. Here no answer reaches the log.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use kube::core::Request as Resource;
use kube::core::params::{GetParams, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::{Body, LargeAnswers, read};
use super::distrust::Distrust;
use super::error::ApiError;
use crate::clock::{Clock, UnixTime};
use crate::cluster::credential::{Credential, Presented};
use crate::cluster::target::Target;
use crate::cluster::transport::Transport;

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct Bounds {
    /// Of the answer's body.
    pub(in crate::cluster) bytes: usize,
    pub(in crate::cluster) time: Duration,
}

/// The longest answer in bytes, and the longest event of a watch: one object, of which API servers take
/// 3 MiB, or a page of a list, which is requested smaller when it is longer. What is parsed from it may
/// be sixteen times as long.
pub(super) const LONGEST: usize = 4 * 1024 * 1024;
const OBJECT: Bounds = Bounds {
    bytes: LONGEST,
    time: Duration::from_secs(10),
};
/// A page of a list.
pub(super) const PAGE: Bounds = Bounds {
    bytes: LONGEST,
    time: Duration::from_secs(30),
};

/// A client for one API server. Clones share its connections and its credential.
#[derive(Clone)]
pub struct ApiClient(Arc<Inner>);

struct Inner {
    transport: Transport,
    credential: Credential,
    headers: HeaderMap,
    large: LargeAnswers,
    distrust: Distrust,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiClient")
    }
}

impl ApiClient {
    /// `cluster` is its name, for the log. Connects with the first request.
    pub fn new(cluster: &str, target: Target, clock: Arc<dyn Clock>) -> Result<Self, String> {
        Ok(Self(Arc::new(Inner {
            credential: Credential::new(cluster, &target, clock),
            headers: target.headers.clone(),
            large: LargeAnswers::default(),
            distrust: Distrust::default(),
            transport: Transport::new(target)?,
        })))
    }

    /// What the next request presents as headers: its credential, unless it is a client certificate,
    /// and whom it impersonates.
    pub async fn credential_headers(&self) -> Result<HeaderMap, ApiError> {
        let presented = self.0.credential.present().await;
        Ok(self.headers_with(&presented.map_err(ApiError::Unreachable)?))
    }

    fn headers_with(&self, presented: &Presented) -> HeaderMap {
        let mut headers = self.0.headers.clone();
        if let Some(value) = &presented.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        headers
    }

    /// The answer, whatever its status.
    pub(in crate::cluster) async fn exchange(
        &self,
        request: Request<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<Response<Body>, ApiError> {
        let answer = async {
            let (parts, body) = self.open(request).await?.into_parts();
            let body = read(body, bounds.bytes, &self.0.large).await?;
            Ok(Response::from_parts(parts, body))
        };
        let answer = tokio::time::timeout(bounds.time, answer).await;
        answer.unwrap_or(Err(ApiError::Timeout(bounds.time)))
    }

    pub(in crate::cluster) async fn send(
        &self,
        request: Request<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<Response<Body>, ApiError> {
        let response = self.exchange(request, bounds).await?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(ApiError::refusal(status, response.body())),
        }
    }

    /// Of an answer that is an error, only the status is read: what the API server says about a
    /// TokenReview may repeat the token.
    pub(in crate::cluster) async fn send_confidential(
        &self,
        request: Request<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<Bytes, ApiError> {
        let response = self.exchange(request, bounds).await?;
        match response.status() {
            status if status.is_success() => Ok(response.into_body().bytes),
            status => Err(ApiError::refusal(status, &[])),
        }
    }

    /// Shared by all answers of this API server.
    pub(super) fn large_answers(&self) -> &LargeAnswers {
        &self.0.large
    }

    /// Why it is not trusted to answer within bounds, for a while after it did not.
    pub(in crate::cluster) fn distrusted(&self) -> Option<String> {
        self.0.distrust.reason()
    }

    /// What an honest API server does not do.
    pub(in crate::cluster) fn distrust(&self, error: &ApiError) {
        self.0.distrust.set(error.to_string());
    }

    /// The answer's head, whatever its status; its body is not read yet.
    pub(super) async fn open(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Incoming>, ApiError> {
        let request = request.map(Bytes::from);
        let presented = self.0.credential.present().await;
        let presented = presented.map_err(ApiError::Unreachable)?;
        let response = self.present(request.clone(), &presented).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // The API server did not act on it: with another credential it can be sent again.
        match self.0.credential.after_refusal(&presented).await {
            Some(next) => self.present(request, &next).await,
            None => Ok(response),
        }
    }

    async fn present(
        &self,
        mut request: Request<Bytes>,
        presented: &Presented,
    ) -> Result<Response<Incoming>, ApiError> {
        let headers = request.headers_mut();
        headers.extend(self.headers_with(presented));
        let sent = self
            .0
            .transport
            .send(request.map(Full::new), presented.identity.as_ref());
        sent.await.map_err(ApiError::Unreachable)
    }

    pub(super) async fn call_within<T: DeserializeOwned>(
        &self,
        request: Request<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<T, ApiError> {
        parse(self.send(request, bounds).await?.body())
    }

    /// Sends a request for one object and reads the answer.
    pub async fn call<T: DeserializeOwned>(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<T, ApiError> {
        self.call_within(request, OBJECT).await
    }

    /// What is at a path; `None` when the API server answers 404.
    pub async fn get_path<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ApiError> {
        optional(self.call(get(path)?).await)
    }

    /// An object of the collection at `path`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let request = Resource::new(path).get(name, &GetParams::default())?;
        optional(self.call(request).await)
    }

    /// An object, and the API server's time when it answered.
    pub async fn get_with_date<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
    ) -> Result<Option<(T, UnixTime)>, ApiError> {
        let request = Resource::new(path).get(name, &GetParams::default())?;
        let Some(response) = optional(self.send(request, OBJECT).await)? else {
            return Ok(None);
        };
        let date = date(response.headers()).ok_or(ApiError::Unreadable("it has no Date"))?;
        Ok(Some((parse(response.body())?, date)))
    }

    pub async fn create<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        object: &T,
    ) -> Result<T, ApiError> {
        let body = serialize(object)?;
        self.call(Resource::new(path).create(&PostParams::default(), body)?)
            .await
    }

    /// Replaces an object; 409 when it has another resourceVersion.
    pub async fn replace<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
        object: &T,
    ) -> Result<T, ApiError> {
        let body = serialize(object)?;
        self.call(Resource::new(path).replace(name, &PostParams::default(), body)?)
            .await
    }

    /// Replaces an object's status; 409 when it has another resourceVersion.
    pub async fn replace_status<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
        object: &T,
    ) -> Result<T, ApiError> {
        let body = serialize(object)?;
        let resource = Resource::new(path);
        self.call(resource.replace_subresource("status", name, &PostParams::default(), body)?)
            .await
    }

    /// Server-side apply: `object` holds the fields that this server owns, and no others.
    pub async fn apply<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
        object: &Value,
        params: &PatchParams,
    ) -> Result<T, ApiError> {
        let request = Resource::new(path).patch(name, params, &Patch::Apply(object))?;
        self.call(request).await
    }
}

pub(in crate::cluster) fn get(path: &str) -> Result<Request<Vec<u8>>, ApiError> {
    let request = Request::get(path).body(Vec::new());
    request.map_err(|error| ApiError::Request(error.to_string()))
}

pub(in crate::cluster) fn post(path: &str, body: &Value) -> Result<Request<Vec<u8>>, ApiError> {
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    let request = request.body(body.to_string().into_bytes());
    request.map_err(|error| ApiError::Request(error.to_string()))
}

fn optional<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Err(error) if error.code() == Some(404) => Ok(None),
        answer => answer.map(Some),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::from_json(&error))
}

fn serialize(object: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let body = serde_json::to_vec(object);
    body.map_err(|_| ApiError::Request("the object cannot be serialized".to_owned()))
}

/// The API server's clock, to the second.
pub(in crate::cluster) fn date(headers: &HeaderMap) -> Option<UnixTime> {
    let at = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(UnixTime::from_secs(i64::try_from(since.as_secs()).ok()?))
}
