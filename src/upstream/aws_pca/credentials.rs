//! Where the credential for AWS comes from. It is read, or asked for, whenever it is used.

use std::fmt;
use std::path::PathBuf;

use aws_credential_types::Credentials;
use http::header::AUTHORIZATION;
use http::{HeaderName, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::upstream::answer::{Unreachable, one_line};
use crate::upstream::http::{HttpAnswer, HttpConfig, form, with_form, with_secret};
use crate::upstream::secret::SecretSource;

/// Of what a service says about an error. It never quotes a credential.
const SHOWN: usize = 300;
const METADATA: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";
const METADATA_TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const METADATA_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// AWS_ACCESS_KEY_ID and the variables beside it.
    Environment,
    /// A file of shared credentials, and the profile in it.
    File { path: PathBuf, profile: String },
    /// A token of this server's own service account, for a role.
    WebIdentity {
        role: Option<String>,
        token: Option<PathBuf>,
        /// STS.
        address: String,
    },
    /// What a container gets: ECS, and EKS Pod Identity.
    Container,
    /// What an EC2 instance gets, by the second version of its metadata service.
    Instance,
}

impl Source {
    pub(super) async fn load(&self, http: &HttpConfig) -> Result<Credentials, Unreachable> {
        match self {
            Self::Environment => {
                let id = needed("AWS_ACCESS_KEY_ID")?;
                let secret = needed("AWS_SECRET_ACCESS_KEY")?;
                Ok(made(id, secret, variable("AWS_SESSION_TOKEN")))
            }
            Self::File { path, profile } => {
                let text = SecretSource::File(path.clone()).read_text()?;
                shared(text.expose_secret(), profile).ok_or_else(|| {
                    Unreachable::new(format!(
                        "{} has no [{profile}] with aws_access_key_id and aws_secret_access_key",
                        path.display()
                    ))
                })
            }
            Self::WebIdentity {
                role,
                token,
                address,
            } => assume(http, role.clone(), token.clone(), address).await,
            Self::Container => container(http).await,
            Self::Instance => instance(http).await,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "the environment",
            Self::File { .. } => "a file",
            Self::WebIdentity { .. } => "a web identity",
            Self::Container => "the container",
            Self::Instance => "the instance",
        })
    }
}

fn made(id: String, secret: String, session: Option<String>) -> Credentials {
    Credentials::new(id, secret, session, None, "rootbridge")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn needed(name: &str) -> Result<String, Unreachable> {
    let missing = || Unreachable::new(format!("the environment variable {name} is not set"));
    variable(name).ok_or_else(missing)
}

/// The part of a file of shared credentials.
fn shared(text: &str, profile: &str) -> Option<Credentials> {
    let heading = format!("[{profile}]");
    let lines = text.lines().map(str::trim);
    let lines = lines.skip_while(|line| *line != heading).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with('[')).collect();
    let value = |key: &str| {
        let mut pairs = lines.iter().filter_map(|line| line.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
        Some(value.trim().to_owned())
    };
    let secret = value("aws_secret_access_key")?;
    Some(made(
        value("aws_access_key_id")?,
        secret,
        value("aws_session_token"),
    ))
}

async fn assume(
    http: &HttpConfig,
    role: Option<String>,
    token: Option<PathBuf>,
    address: &str,
) -> Result<Credentials, Unreachable> {
    let role = match role {
        Some(role) => role,
        None => needed("AWS_ROLE_ARN")?,
    };
    let token = match token {
        Some(token) => token,
        None => needed("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
    };
    let token = SecretSource::File(token).read()?;
    let client = http.elsewhere(address)?.client().await?;
    let form = form(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &role),
        ("RoleSessionName", "rootbridge"),
        ("WebIdentityToken", token.expose_secret()),
    ]);
    let answer = client
        .send(with_form(client.post_to_address(), form))
        .await?;
    let text = String::from_utf8_lossy(&answer.body);
    let between = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        Some(value.trim().to_owned())
    };
    let credentials = || {
        let secret = between("SecretAccessKey")?;
        let session = between("SessionToken");
        Some(made(between("AccessKeyId")?, secret, session))
    };
    match answer.status {
        StatusCode::OK => credentials().ok_or_else(|| answer.unreachable("STS", "no credential")),
        _ => {
            let said = between("Message").unwrap_or_default();
            Err(answer.unreachable("STS", &one_line(&said, SHOWN)))
        }
    }
}

async fn container(http: &HttpConfig) -> Result<Credentials, Unreachable> {
    let address = match variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        Some(address) => address,
        None => {
            let path = needed("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")?;
            format!("{CONTAINER}{path}")
        }
    };
    let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(SecretSource::File(file.into()).read()?),
        None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(SecretString::from),
    };
    let client = http.elsewhere(&address)?.client().await?;
    let mut call = client.get_address();
    if let Some(token) = token {
        call = with_secret(call, AUTHORIZATION, token.expose_secret())?;
    }
    given(&client.send(call).await?)
}

async fn instance(http: &HttpConfig) -> Result<Credentials, Unreachable> {
    let address = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let address = address.unwrap_or_else(|| METADATA.to_owned());
    let client = http.elsewhere(&address)?.client().await?;
    let call = client.put("latest/api/token").header(METADATA_TTL, "60");
    let token = text(client.send(call).await?)?;
    let roles = "latest/meta-data/iam/security-credentials";
    let get = |path: &str| with_secret(client.get(path), METADATA_TOKEN, token.expose_secret());
    let role = text(client.send(get(&format!("{roles}/"))?).await?)?;
    let role = role.expose_secret().lines().next().unwrap_or_default();
    given(&client.send(get(&format!("{roles}/{role}"))?).await?)
}

fn text(answer: HttpAnswer) -> Result<SecretString, Unreachable> {
    let text = str::from_utf8(&answer.body).ok().map(str::trim);
    match text.filter(|text| answer.status == StatusCode::OK && !text.is_empty()) {
        Some(text) => Ok(SecretString::from(text)),
        None => Err(answer.unreachable("the metadata service", "")),
    }
}

/// A credential as container and instance get it.
fn given(answer: &HttpAnswer) -> Result<Credentials, Unreachable> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let field = |name: &str| Some(body.get(name)?.as_str()?.to_owned());
    let credentials = || {
        let secret = field("SecretAccessKey")?;
        Some(made(field("AccessKeyId")?, secret, field("Token")))
    };
    let credentials = credentials().filter(|_| answer.status == StatusCode::OK);
    credentials.ok_or_else(|| answer.unreachable("the service for credentials", "no credential"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_profile_ends_where_the_next_begins() {
        let text = "[default]\naws_access_key_id = AKIA1\n\n[mesh]\naws_access_key_id=AKIA2\n\
                    aws_secret_access_key = s=2\n aws_session_token = t\n";
        let mesh = shared(text, "mesh").unwrap();
        assert_eq!(mesh.access_key_id(), "AKIA2");
        assert_eq!(mesh.secret_access_key(), "s=2");
        assert_eq!(mesh.session_token(), Some("t"));
        assert!(shared(text, "default").is_none(), "the secret of another");
        assert!(shared(text, "other").is_none());
    }
}
