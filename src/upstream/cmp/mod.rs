//! The Certificate Management Protocol (RFC 9810) over HTTP (RFC 9811): an enrolment with a PKCS#10
//! request as RFC 9483 §4.1.4 profiles it, with polls, protected by a shared secret or by signatures.

mod config;
mod dialogue;
mod mac;
mod message;
mod protection;
mod status;

use der::Encode as _;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

pub(super) use config::CmpConfig;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable};
use dialogue::{Dialogue, Transaction, malformed};
use message::{CA_CERTIFICATES, ErrorContent, Info, Kind, Poll, contents};
use status::{CREDENTIAL, FORGOTTEN, has, said};

#[derive(Debug)]
pub(super) struct CmpCa(CmpConfig);

impl CmpCa {
    pub(super) fn new(config: CmpConfig) -> Self {
        Self(config)
    }

    async fn request(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let mut dialogue = Dialogue::new(&self.0, Transaction::new()?).await?;
        let reply = dialogue
            .exchange(Kind::Pkcs10Request, request.csr.clone())
            .await?;
        dialogue.decide(reply).await
    }

    async fn look(&self, reference: &str) -> Result<Answer, Unreachable> {
        let Some(transaction) = Transaction::parse(reference) else {
            // Of another kind of upstream, under the same name before.
            return Ok(Answer::Forgotten);
        };
        let mut dialogue = Dialogue::new(&self.0, transaction).await?;
        let poll = vec![Poll {
            request: dialogue.transaction.request,
        }];
        let poll = poll.to_der().map_err(malformed)?;
        let reply = dialogue.exchange(Kind::PollRequest, poll).await?;
        if reply.kind == Kind::Error {
            let error: ErrorContent = contents(&reply.body).map_err(malformed)?;
            if has(&error.status, &FORGOTTEN) {
                return Ok(Answer::Forgotten);
            }
        }
        dialogue.decide(reply).await
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let mut dialogue = Dialogue::new(&self.0, Transaction::new()?).await?;
        let question = vec![Info {
            oid: CA_CERTIFICATES,
            parameters: None,
        }];
        let question = question.to_der().map_err(malformed)?;
        let reply = dialogue.exchange(Kind::General, question).await?;
        if reply.kind == Kind::Error {
            let error: ErrorContent = contents(&reply.body).map_err(malformed)?;
            if has(&error.status, &CREDENTIAL) {
                return Err(Unreachable::new(said(&error)));
            }
        }
        Ok(vec![
            "it answers, and its answer is protected as configured".to_owned(),
            "it did not refuse the credential; whether it signs CAs is only seen by a request"
                .to_owned(),
        ])
    }
}

impl UpstreamCa for CmpCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
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
