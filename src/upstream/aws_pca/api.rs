//! Calls of AWS's JSON protocol, signed with version 4 of its signatures.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::StatusCode;
use reqwest::RequestBuilder;
use serde_json::Value;

use super::config::AwsPcaConfig;
use crate::clock::{Clock as _, SystemClock};
use crate::upstream::answer::{Unreachable, one_line};
use crate::upstream::http::HttpClient;

const SHOWN: usize = 1000;
const SERVICE: &str = "acm-pca";
const TARGET: &str = "ACMPrivateCA";
const MEDIA_TYPE: &str = "application/x-amz-json-1.1";

pub(super) struct Api {
    client: HttpClient,
    credentials: Credentials,
    url: String,
    arn: String,
    region: String,
}

/// What a call came to.
pub(super) enum Called {
    Ok(Value),
    /// Success that is not JSON.
    Unread(Vec<u8>),
    Failed(Failed),
}

/// An error that AWS names.
pub(super) struct Failed {
    pub(super) kind: String,
    message: String,
    action: &'static str,
    status: StatusCode,
    retry_after: Option<Duration>,
}

impl Failed {
    pub(super) fn said(&self) -> String {
        let (kind, message) = (&self.kind, &self.message);
        one_line(&format!("{message} ({kind})"), SHOWN)
    }

    pub(super) fn unreachable(self) -> Unreachable {
        let (action, status) = (self.action, self.status);
        Unreachable {
            reason: format!("{action} answered {status}: {}", self.said()),
            retry_after: self.retry_after,
        }
    }
}

impl Api {
    /// With the credential that is there now.
    pub(super) async fn new(config: &AwsPcaConfig) -> Result<Self, Unreachable> {
        Ok(Self {
            client: config.http.client().await?,
            credentials: config.credentials.load(&config.http).await?,
            url: config.http.at(""),
            arn: config.arn.clone(),
            region: config.region.clone(),
        })
    }

    pub(super) fn arn(&self) -> &str {
        &self.arn
    }

    pub(super) async fn call(
        &self,
        action: &'static str,
        body: &Value,
    ) -> Result<Called, Unreachable> {
        let call = self.signed(action, body.to_string())?;
        let answer = self.client.send(call).await?;
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let text = |name: &str| {
            let value = body.as_ref()?.get(name)?.as_str()?;
            Some(value.to_owned())
        };
        if answer.status == StatusCode::OK {
            return Ok(match body {
                Some(value) => Called::Ok(value),
                None => Called::Unread(answer.body.to_vec()),
            });
        }
        // Such as com.amazonaws.acmpca#ResourceNotFoundException.
        let kind = text("__type").unwrap_or_default();
        let kind = kind.rsplit('#').next().unwrap_or_default().to_owned();
        if kind.is_empty() {
            return Err(answer.unreachable(action, &String::from_utf8_lossy(&answer.body)));
        }
        let message = text("message").or_else(|| text("Message"));
        Ok(Called::Failed(Failed {
            kind,
            message: message.unwrap_or_default(),
            action,
            status: answer.status,
            retry_after: answer.retry_after(),
        }))
    }

    fn signed(&self, action: &str, body: String) -> Result<RequestBuilder, Unreachable> {
        let failed = |error: &dyn std::fmt::Display| {
            Unreachable::new(format!("the call of {action} cannot be signed: {error}"))
        };
        let target = format!("{TARGET}.{action}");
        let headers = [("content-type", MEDIA_TYPE), ("x-amz-target", &target)];
        let now = u64::try_from(SystemClock.now().secs()).unwrap_or_default();
        let identity = self.credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(UNIX_EPOCH + Duration::from_secs(now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?;
        let request = SignableRequest::new(
            "POST",
            self.url.as_str(),
            headers.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        );
        let request = request.map_err(|error| failed(&error))?;
        let signed = sign(request, &parameters.into()).map_err(|error| failed(&error))?;
        let (instructions, _) = signed.into_parts();
        let mut call = self.client.post("");
        for (name, value) in headers.into_iter().chain(instructions.headers()) {
            call = call.header(name, value);
        }
        Ok(call.body(body))
    }
}
