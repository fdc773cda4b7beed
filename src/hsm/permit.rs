use std::future::pending;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::copies::{Copies, KeyCopy, Reservation};
use super::error::SignError;
use crate::fair_queue::Share;

/// How much of the time that is left the next token gets where one does not answer: the first of three has a
/// third.
const TRIES: u32 = 3;

/// The right to one signature: a reserved slot in the queue of a token that has the key, released when it is
/// dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped releases its queue slot"]
pub struct Permit {
    first: Reservation,
    /// The other tokens that have the key, in their order.
    others: Vec<KeyCopy>,
}

impl Permit {
    /// # Errors
    /// Those of [`KeyCopy::reserve`], when none of the tokens has a place.
    pub(super) fn reserve(copies: &Copies, share: Share) -> Result<Self, SignError> {
        let (first, others) = copies.first(|copy| copy.reserve(share))?;
        Ok(Self { first, others })
    }

    /// Signs `message`: the result is an ECDSA-Sig-Value in DER, or a PKCS#1 v1.5 signature. Once a
    /// worker has the request it returns when the worker does, even after `deadline`: the caller sets its own
    /// time limit. When the future is dropped, or `deadline` passes, before a worker takes the request, nothing
    /// is signed, and its slot is free.
    ///
    /// Where the token fails, or does not answer for a third of the time, another one that has the key signs the
    /// same bytes.
    ///
    /// # Errors
    /// Never [`SignError::Busy`] of the first token. [`SignError::Expired`] when `deadline` passed before a worker
    /// took the request. Only after [`SignError::Unknown`] a signature may exist.
    pub async fn sign(
        self,
        message: impl AsRef<[u8]>,
        deadline: Instant,
    ) -> Result<Vec<u8>, SignError> {
        let (message, share) = (message.as_ref(), self.first.share());
        if self.others.is_empty() {
            return self.first.sign(message, deadline).await;
        }
        let mut others = self.others.into_iter();
        let mut running = FuturesUnordered::new();
        let mut failed = None;
        let mut next = Some(self.first);
        loop {
            if let Some(reservation) = next.take() {
                running.push(reservation.sign(message, deadline));
            }
            let is_last = others.len() == 0;
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = async {
                match is_last {
                    true => pending().await,
                    false => tokio::time::sleep(left / TRIES).await,
                }
            };
            tokio::select! {
                biased;
                Some(signed) = running.next() => match signed {
                    Ok(signature) => return Ok(signature),
                    Err(error) => failed = Some(worse(failed, error)),
                },
                () = patience => {}
            }
            while next.is_none()
                && let Some(copy) = others.next()
            {
                match copy.reserve(share) {
                    Ok(reservation) => next = Some(reservation),
                    Err(error) => failed = Some(worse(failed, error)),
                }
            }
            if next.is_none()
                && running.is_empty()
                && let Some(error) = failed
            {
                return Err(error);
            }
        }
    }
}

/// A signature that may exist is not forgotten.
fn worse(before: Option<SignError>, error: SignError) -> SignError {
    match before {
        Some(unknown @ SignError::Unknown(_)) => unknown,
        _ => error,
    }
}
