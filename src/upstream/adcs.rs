//! Active Directory Certificate Services by its web enrolment pages, with Basic authentication.
//!
//! They are made for people: what was decided is read from the text of a page.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::USER_AGENT;
use reqwest::RequestBuilder;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::http::{HttpAnswer, HttpClient, HttpConfig, form, with_basic, with_form};
use super::raw::{RawUpstream, required};
use super::secret::SecretSource;
use crate::config_issue::{ConfigIssue, ConfigIssues};

const SHOWN: usize = 500;
/// Without it the pages call a certificate text.
const BROWSER: &str = "Mozilla/5.0 rootbridge";
const CERTIFICATE: &str = "application/pkix-cert";
const CHAIN: &str = "application/x-pkcs7-certificates";

/// `kind = "adcs"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdcsConfig {
    http: HttpConfig,
    username: String,
    password: SecretSource,
    template: String,
}

impl AdcsConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let username = issues.collect(required(raw.username.take(), "username"));
        let password = SecretSource::from_raw(
            "password",
            raw.password_file.take(),
            raw.password_env.take(),
        );
        let password = issues.collect(password);
        let template = raw.template.take().unwrap_or_else(|| "SubCA".to_owned());
        // It is one line of several in the request's attributes.
        if template.is_empty() || template.contains(char::is_control) {
            issues.push(ConfigIssue::new("template", "is no name of a template"));
        }
        let value = || {
            Some(Self {
                http: http?,
                username: username?,
                password: password?,
                template,
            })
        };
        issues.into_result(value())
    }
}

#[derive(Debug)]
pub(super) struct AdcsCa(AdcsConfig);

impl AdcsCa {
    pub(super) fn new(config: AdcsConfig) -> Self {
        Self(config)
    }

    async fn send(
        &self,
        client: &HttpClient,
        request: RequestBuilder,
        what: &str,
    ) -> Result<HttpAnswer, Unreachable> {
        let request = with_basic(request, &self.0.username, &self.0.password.read()?)?;
        let answer = client.send(request.header(USER_AGENT, BROWSER)).await?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            _ => Err(answer.unreachable(what, "")),
        }
    }

    async fn request(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let client = self.0.http.client().await?;
        let attributes = format!("CertificateTemplate:{}\r\n", self.0.template);
        let form = form(&[
            ("Mode", "newreq"),
            ("CertRequest", &request.csr_pem()),
            ("CertAttrib", &attributes),
            ("FriendlyType", "Saved-Request Certificate"),
            ("TargetStoreFlags", "0"),
            ("SaveCert", "yes"),
        ]);
        let page = "certfnsh.asp";
        let call = with_form(client.post(page), form);
        let answer = self.send(&client, call, page).await?;
        let text = String::from_utf8_lossy(&answer.body);
        if let Some(id) = number_after(&text, "certnew.cer?ReqID=") {
            return self.chain(&client, id).await;
        }
        if text.contains("Certificate Pending")
            && let Some(id) = number_after(&text, "Your Request Id is ")
        {
            return Ok(Answer::pending(id));
        }
        let why = text.split_once("The disposition message is \"");
        match why.and_then(|(_, rest)| rest.split_once('"')) {
            Some((why, _)) => Ok(Answer::Refused(one_line(why, SHOWN))),
            None => Err(unknown(page, &text)),
        }
    }

    /// What became of a request.
    async fn look(&self, id: &str) -> Result<Answer, Unreachable> {
        let client = self.0.http.client().await?;
        let page = "certnew.cer";
        let call = client.get(&format!("{page}?ReqID={id}&Enc=b64"));
        let answer = self.send(&client, call, page).await?;
        if answer.is(CERTIFICATE) {
            return self.chain(&client, id).await;
        }
        let text = String::from_utf8_lossy(&answer.body);
        let Some((_, why)) = text.split_once("Disposition message:") else {
            return Err(unknown(page, &text));
        };
        let why = one_line(&without_tags(why), SHOWN);
        if why.contains("Taken Under Submission") {
            return Ok(Answer::pending(id));
        }
        match why.contains("Denied") || why.contains("Error") {
            true => Ok(Answer::Refused(why)),
            false => Err(answer.unreachable(page, &why)),
        }
    }

    /// The certificate and those above it, as PKCS#7.
    async fn chain(&self, client: &HttpClient, id: &str) -> Result<Answer, Unreachable> {
        let page = "certnew.p7b";
        let call = client.get(&format!("{page}?ReqID={id}&Enc=bin"));
        let answer = self.send(client, call, page).await?;
        match answer.is(CHAIN) {
            true => Ok(Answer::Issued(answer.body.to_vec())),
            false => Err(unknown(page, &String::from_utf8_lossy(&answer.body))),
        }
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let client = self.0.http.client().await?;
        self.send(&client, client.get(""), "the first page").await?;
        let template = &self.0.template;
        Ok(vec![
            "it answers, and accepts the credential".to_owned(),
            format!("whether the account may enrol {template} is only seen by a request"),
        ])
    }
}

impl UpstreamCa for AdcsCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    fn poll<'a>(
        &'a self,
        _: &'a Submission,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        async move {
            // Of another kind of upstream, under the same name before.
            match reference.bytes().all(|byte| byte.is_ascii_digit()) {
                true => self.look(reference).await,
                false => Ok(Answer::Forgotten),
            }
        }
        .boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}

/// A page of something else, such as a proxy.
fn unknown(page: &str, text: &str) -> Unreachable {
    let shown = one_line(&without_tags(text), 200);
    Unreachable::new(format!("{page} says nothing of a request: {shown}"))
}

/// The digits that follow `before`.
fn number_after<'t>(text: &'t str, before: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let number = rest.get(..end.unwrap_or(rest.len()))?;
    (1..=20).contains(&number.len()).then_some(number)
}

fn without_tags(text: &str) -> String {
    let mut inside = false;
    let kept = text.chars().map(|c| {
        let was_inside = inside;
        inside = c == '<' || (inside && c != '>');
        match inside || was_inside {
            true => ' ',
            false => c,
        }
    });
    kept.take(20_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_text() {
        let page = "x certnew.cer?ReqID=17&amp;Enc=b64 y";
        assert_eq!(number_after(page, "certnew.cer?ReqID="), Some("17"));
        assert_eq!(number_after(page, "Your Request Id is "), None);
        assert_eq!(
            number_after("Your Request Id is x", "Your Request Id is "),
            None
        );
        let shown = one_line(&without_tags("<p id=1>No <b>way</b></p>"), 99);
        assert_eq!(shown, "No way");
        let encoded = form(&[("a", "b+c\r\n"), ("d", "=&")]);
        assert_eq!(encoded, "a=b%2Bc%0D%0A&d=%3D%26");
    }
}
