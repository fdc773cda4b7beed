use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::token_inner::TokenInner;

pub(super) enum LoginRequest {
    /// A worker lost its session or login of this generation.
    Restore {
        generation: u64,
        not_logged_in: bool,
        reply: Sender<Result<(), String>>,
    },
    /// Signing failed, and a new session did not help.
    CheckFailure(String),
    /// The module is to be started again, for which every session must be closed.
    ReleaseSession,
}

/// The way from workers and callers to the login thread.
#[derive(Clone)]
pub(super) struct LoginClient {
    inner: Arc<TokenInner>,
    requests: Sender<LoginRequest>,
}

impl LoginClient {
    /// With what its login thread receives.
    pub(super) fn new(inner: &Arc<TokenInner>) -> (Self, Receiver<LoginRequest>) {
        let (requests, received) = unbounded();
        let client = Self {
            inner: Arc::clone(inner),
            requests,
        };
        (client, received)
    }

    /// Returns once a new session will be logged in, or fails, at the latest at `deadline`.
    pub(super) fn restore(
        &self,
        generation: u64,
        not_logged_in: bool,
        deadline: Instant,
    ) -> Result<(), String> {
        let (reply, answer) = bounded(1);
        let closing = || "the token is being closed".to_owned();
        self.requests
            .send(LoginRequest::Restore {
                generation,
                not_logged_in,
                reply,
            })
            .map_err(|_| closing())?;
        answer
            .recv_deadline(deadline)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => {
                    "the session was not restored before the deadline".into()
                }
                RecvTimeoutError::Disconnected => closing(),
            })?
    }

    /// Requests a self-test; one at a time.
    pub(super) fn report_failure(&self, reason: String) {
        if self.inner.mark_failure_reported() {
            let _ = self.requests.send(LoginRequest::CheckFailure(reason));
        }
    }

    /// Requests that the session is closed, if the module is still to be started again then.
    pub(super) fn release_session(&self) {
        let _ = self.requests.send(LoginRequest::ReleaseSession);
    }
}
