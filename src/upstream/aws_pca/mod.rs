//! AWS Private CA: `IssueCertificate` with a template for subordinate CAs, and `GetCertificate` until the
//! certificate is there.

mod api;
mod config;
mod credentials;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

pub(super) use config::AwsPcaConfig;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use crate::clock::{Clock as _, SystemClock};
use crate::digest::{hex, sha256};
use api::{Api, Called, Failed};

const SHOWN: usize = 1000;
const DAY: u64 = 86_400;
/// SubordinateCACertificate_PathLen3 is the last.
const LONGEST_PATH: u8 = 3;

#[derive(Debug)]
pub(super) struct AwsPca(AwsPcaConfig);

impl AwsPca {
    pub(super) fn new(config: AwsPcaConfig) -> Self {
        Self(config)
    }

    fn template(&self, request: &Submission) -> String {
        let partition = &self.0.partition;
        let name = self.0.template.clone().unwrap_or_else(|| {
            let path = request.path_len.min(LONGEST_PATH);
            format!("SubordinateCACertificate_PathLen{path}/V1")
        });
        format!("arn:{partition}:acm-pca:::template/{name}")
    }

    async fn issue(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let api = Api::new(&self.0).await?;
        let algorithm = match describe(&api).await? {
            Ok(authority) => text(
                &authority,
                "/CertificateAuthorityConfiguration/SigningAlgorithm",
            ),
            Err(failed) => return Err(failed.unreachable()),
        };
        let seconds = request.ttl.as_secs();
        // The same whenever the request is sent again, where days can say it.
        let validity = match seconds % DAY {
            0 => json!({ "Type": "DAYS", "Value": seconds / DAY }),
            _ => {
                let end = SystemClock.now().plus(request.ttl).secs();
                json!({ "Type": "ABSOLUTE", "Value": end })
            }
        };
        let token: String = hex(&sha256(&request.csr)).chars().take(32).collect();
        let body = json!({
            "CertificateAuthorityArn": self.0.arn,
            "Csr": STANDARD.encode(request.csr_pem()),
            "SigningAlgorithm": algorithm,
            "TemplateArn": self.template(request),
            "Validity": validity,
            "IdempotencyToken": token,
        });
        match api.call("IssueCertificate", &body).await? {
            Called::Ok(answer) => match text(&answer, "/CertificateArn") {
                // The reader names the format of what is there instead, such as a proxy's page.
                arn if arn.is_empty() => Ok(Answer::Issued(answer.to_string().into_bytes())),
                arn => self.get(&api, &arn).await,
            },
            Called::Unread(bytes) => Ok(Answer::Issued(bytes)),
            Called::Failed(failed) => match failed.kind.as_str() {
                "MalformedCSRException" | "InvalidArgsException" | "ValidationException" => {
                    Ok(Answer::Refused(failed.said()))
                }
                _ => Err(failed.unreachable()),
            },
        }
    }

    async fn get(&self, api: &Api, arn: &str) -> Result<Answer, Unreachable> {
        let body = json!({ "CertificateAuthorityArn": self.0.arn, "CertificateArn": arn });
        match api.call("GetCertificate", &body).await? {
            Called::Ok(answer) => {
                let parts = ["/Certificate", "/CertificateChain"];
                let both = parts.map(|part| text(&answer, part));
                Ok(Answer::Issued(both.join("\n").into_bytes()))
            }
            Called::Unread(bytes) => Ok(Answer::Issued(bytes)),
            Called::Failed(failed) => match failed.kind.as_str() {
                "RequestInProgressException" => Ok(Answer::pending(arn)),
                "RequestFailedException" => Ok(Answer::Refused(failed.said())),
                "ResourceNotFoundException" | "InvalidArnException" => Ok(Answer::Forgotten),
                _ => Err(failed.unreachable()),
            },
        }
    }

    async fn look(&self, arn: &str) -> Result<Answer, Unreachable> {
        // Of another kind of upstream, or another CA, under the same name before.
        if !arn.starts_with(&format!("{}/certificate/", self.0.arn)) {
            return Ok(Answer::Forgotten);
        }
        let api = Api::new(&self.0).await?;
        self.get(&api, arn).await
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let api = Api::new(&self.0).await?;
        let authority = describe(&api)
            .await?
            .map_err(|failed| failed.unreachable())?;
        let status = text(&authority, "/Status");
        if status != "ACTIVE" {
            let text = format!("the CA is there, but its status is {status}, not ACTIVE");
            return Err(Unreachable::new(text));
        }
        Ok(vec![
            format!(
                "it answers, and accepts the credential of {}",
                self.0.credentials
            ),
            "the CA is active; whether the policy allows the template is only seen by a request"
                .to_owned(),
        ])
    }
}

/// What AWS says of the CA.
async fn describe(api: &Api) -> Result<Result<Value, Failed>, Unreachable> {
    let action = "DescribeCertificateAuthority";
    let body = json!({ "CertificateAuthorityArn": api.arn() });
    match api.call(action, &body).await? {
        Called::Ok(answer) => match answer.get("CertificateAuthority") {
            Some(authority) => Ok(Ok(authority.clone())),
            None => Err(Unreachable::new(format!(
                "{action} is answered without a CA"
            ))),
        },
        Called::Unread(bytes) => {
            let shown = one_line(&String::from_utf8_lossy(&bytes), SHOWN);
            let text = format!("{action} is answered with something else: {shown}");
            Err(Unreachable::new(text))
        }
        Called::Failed(failed) => Ok(Err(failed)),
    }
}

fn text(value: &Value, at: &str) -> String {
    let text = value.pointer(at).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

impl UpstreamCa for AwsPca {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.issue(request).boxed()
    }

    fn poll<'a>(
        &'a self,
        _: &'a Submission,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.look(reference).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}
