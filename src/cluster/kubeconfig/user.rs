//! The user of a kubeconfig: exactly one credential, and impersonation.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::sign::CertifiedKey;

use super::document::{AuthProvider, Secret, User};
use super::error::KubeconfigError;
use super::material::{Field, Material};
use crate::cluster::bearer::bearer;
use crate::cluster::identity::identity;
use crate::cluster::target::Access;
use crate::digest::sha256;

/// The client certificate, with the digest of what it was read from.
pub(super) async fn client_certificate(
    user: &User,
    directory: &Path,
) -> Result<Option<(CertifiedKey, [u8; 32])>, KubeconfigError> {
    let [certificate, key] = fields(user);
    let pair = (
        certificate.read(directory).await?,
        key.read(directory).await?,
    );
    let half = |present, missing| KubeconfigError::Half { present, missing };
    match pair {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let read = identity(&certificate.content, &key.content)?;
            let of = |part: &Material| sha256(&part.content);
            let digest = sha256(&[of(&certificate), of(&key)].concat());
            Ok(Some((read, digest)))
        }
        (Some(_), None) => Err(half("client-certificate", "client-key")),
        (None, Some(_)) => Err(half("client-key", "client-certificate")),
    }
}

fn fields(user: &User) -> [Field<'_>; 2] {
    [
        Field {
            name: "client-certificate",
            data_name: "client-certificate-data",
            path: user.client_certificate.as_deref(),
            data: user.client_certificate_data.as_ref(),
        },
        Field {
            name: "client-key",
            data_name: "client-key-data",
            path: user.client_key.as_deref(),
            data: user.client_key_data.as_ref(),
        },
    ]
}

/// What requests present, unless a program gives it.
pub(super) fn access(user: &User, directory: &Path) -> Result<Access, KubeconfigError> {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let secret = |text: &Option<Secret>| text.clone().filter(|text| !text.expose().is_empty());
    let (token, file) = (secret(&user.token), set(&user.token_file));
    let (name, password) = (set(&user.username), secret(&user.password));
    if let Some(provider) = &user.auth_provider {
        return Err(auth_provider(provider));
    }
    let has_token = token.is_some() || file.is_some();
    if has_token && (name.is_some() || password.is_some()) {
        return Err(KubeconfigError::TwoCredentials);
    }
    let header = |token: Secret| bearer(token.expose()).ok_or(KubeconfigError::Header("token"));
    if let Some(file) = file {
        return Ok(Access::TokenFile {
            path: directory.join(file),
            token: token.map(header).transpose()?,
        });
    }
    if let Some(token) = token {
        return Ok(Access::Fixed(header(token)?));
    }
    if name.is_some() || password.is_some() {
        let password = password.unwrap_or_default();
        let pair = format!("{}:{}", name.unwrap_or_default(), password.expose());
        let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
        let mut value = value.map_err(|_| KubeconfigError::Header("password"))?;
        value.set_sensitive(true);
        return Ok(Access::Fixed(value));
    }
    Ok(Access::None)
}

fn auth_provider(provider: &AuthProvider) -> KubeconfigError {
    let instead = match provider.name.as_str() {
        "gcp" => {
            "make the kubeconfig with gke-gcloud-auth-plugin, and allow that program in `exec`"
        }
        "azure" => {
            "convert the kubeconfig with `kubelogin convert-kubeconfig`, and allow kubelogin in `exec`"
        }
        _ => {
            "give its user a tokenFile, a client certificate, or a program that is allowed in `exec`"
        }
    };
    KubeconfigError::AuthProvider {
        name: provider.name.clone(),
        instead,
    }
}

/// Headers of every request.
pub(super) fn impersonation(user: &User) -> Result<HeaderMap, KubeconfigError> {
    let mut headers = HeaderMap::new();
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| KubeconfigError::Header("impersonated user"))
    };
    let name = user.impersonate.as_deref().unwrap_or_default();
    let uid = user.as_uid.as_deref().unwrap_or_default();
    let groups = user.as_groups.as_deref().unwrap_or_default();
    let extra = user.as_user_extra.clone().unwrap_or_default();
    if name.is_empty() {
        return match uid.is_empty() && groups.is_empty() && extra.is_empty() {
            true => Ok(headers),
            false => Err(KubeconfigError::ImpersonationWithoutUser),
        };
    }
    headers.insert(HeaderName::from_static("impersonate-user"), value(name)?);
    if !uid.is_empty() {
        headers.insert(HeaderName::from_static("impersonate-uid"), value(uid)?);
    }
    for group in groups {
        headers.append(HeaderName::from_static("impersonate-group"), value(group)?);
    }
    for (key, values) in &extra {
        let header = format!("impersonate-extra-{}", header_key(key));
        let header = HeaderName::try_from(header);
        let header = header.map_err(|_| KubeconfigError::Header("as-user-extra"))?;
        for each in values {
            headers.append(header.clone(), value(each)?);
        }
    }
    Ok(headers)
}

/// What no header's name can hold is percent-encoded, as client-go does.
fn header_key(key: &str) -> String {
    let mut encoded = String::new();
    for byte in key.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b if b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b) => {
                encoded.push(char::from(b));
            }
            b => {
                let _ = write!(encoded, "%{b:02X}");
            }
        }
    }
    encoded
}
