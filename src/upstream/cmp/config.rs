//! `kind = "cmp"` of `[upstream.NAME]`.

use std::str::FromStr as _;
use std::time::Duration;

use der::Encode as _;
use x509_cert::name::Name;

use super::mac::MacKind;
use super::protection::{Credential, Protection};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::upstream::http::HttpConfig;
use crate::upstream::raw::{RawMac, RawUpstream, absolute};
use crate::upstream::secret::SecretSource;
use crate::x509::ca_name;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct CmpConfig {
    pub(super) http: HttpConfig,
    pub(super) protection: Protection,
    /// The CA's Name, in DER; an empty one without it.
    pub(super) recipient: Vec<u8>,
}

impl CmpConfig {
    pub(in crate::upstream) fn from_raw(
        raw: &mut RawUpstream,
        timeout: Duration,
    ) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let is_secret = raw.secret_file.is_some() || raw.secret_env.is_some();
        // A signature can be seen by anybody; a secret could be guessed from what it has made.
        let http = match is_secret {
            true => HttpConfig::from_raw(raw, timeout),
            false => HttpConfig::signed(raw, timeout),
        };
        let http = issues.collect(http);
        let servers = absolute(
            raw.server_certificate_file.take(),
            "server_certificate_file",
        );
        let servers = issues.collect(servers);
        let recipient = issues.collect(recipient(raw.certificate_authority.take()));
        let credential = match (is_secret, &http) {
            (true, _) => issues.collect(secret(raw)),
            (false, None) => None,
            (false, Some(http)) => match http.identity() {
                Some(files) => Some(Credential::Certificate(files.clone())),
                None => {
                    let issue = ConfigIssue::new(
                        "secret_file",
                        "is missing, and there is no client_certificate_file",
                    );
                    issues
                        .push(issue.with_fix("write one of them: the CA knows this server by it"));
                    None
                }
            },
        };
        if matches!(credential, Some(Credential::Certificate(_))) {
            let issue = "is missing: answers to signed requests are signed";
            issues.require(
                matches!(servers, Some(Some(_))),
                "server_certificate_file",
                issue,
            );
        }
        let value = || {
            Some(Self {
                http: http?,
                protection: Protection {
                    credential: credential?,
                    servers: servers?,
                },
                recipient: recipient?,
            })
        };
        issues.into_result(value())
    }
}

fn secret(raw: &mut RawUpstream) -> Result<Credential, ConfigIssue> {
    let secret = SecretSource::from_raw("secret", raw.secret_file.take(), raw.secret_env.take())?;
    let reference = raw.reference.take();
    let reference = reference.filter(|text| ca_name(text, None).is_ok());
    let reference = reference.ok_or_else(|| {
        let issue = ConfigIssue::new("reference", "is missing, or not of 1 to 64 characters");
        issue.with_fix("write what the CA calls the shared secret")
    })?;
    let kind = match raw.mac.take() {
        None | Some(RawMac::PasswordBasedMac) => MacKind::PasswordBased,
        Some(RawMac::Pbmac1) => MacKind::Pbmac1,
    };
    Ok(Credential::Secret {
        reference,
        secret,
        kind,
    })
}

fn recipient(name: Option<String>) -> Result<Vec<u8>, ConfigIssue> {
    let name = match &name {
        None => Ok(Name::default()),
        Some(text) => Name::from_str(text),
    };
    name.and_then(|name| name.to_der()).map_err(|error| {
        let issue = ConfigIssue::new("certificate_authority", error);
        issue.with_fix("write the CA's subject, such as \"CN=Corp CA,O=Example\"")
    })
}
