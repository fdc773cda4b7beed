//! `kind = "aws-pca"` of `[upstream.NAME]`.

use std::time::Duration;

use super::credentials::Source;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::upstream::http::HttpConfig;
use crate::upstream::raw::{RawCredentials, RawUpstream, absolute, required};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct AwsPcaConfig {
    pub(super) http: HttpConfig,
    /// The CA's.
    pub(super) arn: String,
    pub(super) partition: String,
    pub(super) region: String,
    /// Instead of the one for the pathLenConstraint, such as `SubordinateCACertificate_PathLen0/V1`.
    pub(super) template: Option<String>,
    pub(super) credentials: Source,
}

impl AwsPcaConfig {
    pub(in crate::upstream) fn from_raw(
        raw: &mut RawUpstream,
        timeout: Duration,
    ) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let arn = required(raw.certificate_authority.take(), "certificate_authority");
        let arn = issues.collect(arn.and_then(|arn| parts(&arn).map(|parts| (arn, parts))));
        let domain = match &arn {
            Some((_, (partition, _))) if partition == "aws-cn" => "amazonaws.com.cn",
            _ => "amazonaws.com",
        };
        let region = arn.as_ref().map_or("", |(_, (_, region))| region);
        let default = || format!("https://acm-pca.{region}.{domain}");
        raw.address.get_or_insert_with(default);
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let template = raw.template.take();
        if let Some(template) = &template {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_/".contains(c);
            issues.require(
                !template.is_empty() && template.chars().all(is_plain),
                "template",
                "is no template's name, such as SubordinateCACertificate_PathLen0/V1",
            );
        }
        let sts = format!("https://sts.{region}.{domain}");
        let credentials = issues.collect(credentials(raw, sts));
        let value = || {
            let (arn, (partition, region)) = arn?;
            Some(Self {
                http: http?,
                arn,
                partition,
                region,
                template,
                credentials: credentials?,
            })
        };
        issues.into_result(value())
    }
}

/// Partition and region of a CA's ARN.
fn parts(arn: &str) -> Result<(String, String), ConfigIssue> {
    let parts: Vec<_> = arn.split(':').collect();
    let is_plain = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !text.is_empty() && text.chars().all(plain)
    };
    match parts.as_slice() {
        ["arn", partition, "acm-pca", region, _, authority]
            if is_plain(partition)
                && is_plain(region)
                && authority
                    .strip_prefix("certificate-authority/")
                    .is_some_and(is_plain) =>
        {
            Ok(((*partition).to_owned(), (*region).to_owned()))
        }
        _ => {
            let issue = ConfigIssue::new("certificate_authority", "is no ARN of a private CA");
            Err(issue.with_fix(
                "write arn:aws:acm-pca:REGION:ACCOUNT:certificate-authority/ID, as AWS shows it",
            ))
        }
    }
}

fn credentials(raw: &mut RawUpstream, sts: String) -> Result<Source, ConfigIssue> {
    Ok(
        match raw
            .credentials
            .take()
            .unwrap_or(RawCredentials::Environment)
        {
            RawCredentials::Environment => Source::Environment,
            RawCredentials::File => {
                let path = absolute(raw.credentials_file.take(), "credentials_file")?;
                Source::File {
                    path: required(path, "credentials_file")?,
                    profile: raw.profile.take().unwrap_or_else(|| "default".to_owned()),
                }
            }
            RawCredentials::WebIdentity => Source::WebIdentity {
                role: raw.role.take(),
                token: absolute(raw.token_file.take(), "token_file")?,
                address: raw.sts_address.take().unwrap_or(sts),
            },
            RawCredentials::Container => Source::Container,
            RawCredentials::Instance => Source::Instance,
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn partition_and_region_are_those_of_the_ca() {
        let arn = "arn:aws-cn:acm-pca:cn-north-1:123456789012:certificate-authority/1c4b-aa";
        let (partition, region) = parts(arn).unwrap();
        assert_eq!((&*partition, &*region), ("aws-cn", "cn-north-1"));
        for wrong in [
            "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/",
            "arn:aws:acm-pca:evil.example/x:1:certificate-authority/1c4b",
            "arn:aws:iam::123456789012:role/mesh",
            "1c4b-aa",
        ] {
            let error = parts(wrong).unwrap_err().to_string();
            assert!(error.contains("no ARN of a private CA"), "{wrong}: {error}");
        }
    }
}
