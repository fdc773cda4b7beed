//! Who may have a token reviewed, and in which order: the API server's time is for callers, not for
//! everybody who can reach this server.
//!
//! Callers that were accepted before go first. Of the others, an address that has had many tokens refused
//! has to wait, and addresses take turns. A token that was just refused is refused again without a question.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::remembered::Remembered;
use crate::authn::{AuthnError, UnverifiedToken};
use crate::digest::sha256;
use crate::fair_queue::{FairQueue, Share, key_of};
use crate::rate_limit::{KeyedRates, Rate};

/// Reviews that refuse a token, for each address.
const REFUSALS: Rate = Rate {
    per_second: 2,
    burst: 60,
};
const MOST_ADDRESSES: usize = 65_536;
/// Callers that wait for their review.
const MOST_WAITING: usize = 4096;
/// A refusal may come of something that the API server does not know yet.
const REFUSED_FOR: Duration = Duration::from_secs(5);
const MOST_REFUSED: usize = 4096;
/// Longer than between two renewals.
const ACCEPTED_FOR: Duration = Duration::from_secs(36 * 3600);
const MOST_ACCEPTED: usize = 65_536;
/// So many callers that were accepted before go first in a row, while others wait.
const IN_A_ROW: u8 = 8;
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct ReviewGate {
    order: Mutex<Order>,
    refusals: KeyedRates,
    refused: Remembered<[u8; 32], String>,
    accepted: Remembered<u64, ()>,
}

#[derive(Debug)]
struct Order {
    free: usize,
    accepted_before: FairQueue<oneshot::Sender<ReviewPermit>>,
    others: FairQueue<oneshot::Sender<ReviewPermit>>,
    /// Of the others, by address.
    waiting: HashMap<u64, usize>,
    in_a_row: u8,
}

/// The right to one TokenReview, until it is dropped.
#[derive(Debug)]
pub(super) struct ReviewPermit(Option<Arc<ReviewGate>>);

/// A token that asks for a review.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReviewRequest {
    /// Of the token and the audience.
    digest: [u8; 32],
    peer: u64,
    /// The caller that the token names, at this address.
    caller: u64,
}

impl ReviewRequest {
    pub(super) fn new(
        token: &str,
        audience: &str,
        claims: &UnverifiedToken,
        peer: Option<IpAddr>,
    ) -> Self {
        let peer = key_of(&peer.map(network));
        Self {
            digest: sha256(
                [audience.as_bytes(), &[0], token.as_bytes()]
                    .concat()
                    .as_slice(),
            ),
            peer,
            caller: key_of(&(peer, claims.subject.as_str())),
        }
    }

    fn share(&self) -> Share {
        Share::new("", "", &self.peer)
    }
}

/// Who has one address of IPv6 has a whole network of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let prefix = u128::from(six) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        four @ IpAddr::V4(_) => four,
    }
}

impl ReviewGate {
    pub(super) fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            order: Mutex::new(Order {
                free: permits,
                accepted_before: FairQueue::default(),
                others: FairQueue::default(),
                waiting: HashMap::new(),
                in_a_row: 0,
            }),
            refusals: KeyedRates::new(MOST_ADDRESSES),
            refused: Remembered::new(MOST_REFUSED, REFUSED_FOR),
            accepted: Remembered::new(MOST_ACCEPTED, ACCEPTED_FOR),
        })
    }

    /// Waits for a permit; who stops waiting leaves the queue.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] for a token that was just refused, [`AuthnError::Busy`] for an address
    /// that has had many refused, or when too many wait.
    pub(super) async fn enter(
        self: &Arc<Self>,
        request: &ReviewRequest,
    ) -> Result<ReviewPermit, AuthnError> {
        if let Some(reason) = self.refused.get(&request.digest) {
            return Err(AuthnError::Rejected { reason });
        }
        let was_accepted = self.was_accepted(request);
        if !was_accepted {
            self.may_ask(request)?;
        }
        let waiter = match self.join(request, was_accepted)? {
            Ok(permit) => return Ok(permit),
            Err(waiter) => waiter,
        };
        let _waits = (!was_accepted).then_some(Waits(self, request.peer));
        let permit = waiter.await;
        let permit = permit.map_err(|_| AuthnError::Unavailable("the server stops".to_owned()))?;
        // Meanwhile others of the address may have been refused.
        if !was_accepted {
            self.may_ask(request)?;
        }
        Ok(permit)
    }

    /// Remembers what the API server has said of a token.
    pub(super) fn conclude<T>(&self, request: &ReviewRequest, verdict: &Result<T, AuthnError>) {
        match verdict {
            Ok(_) => {
                self.accepted.put(key_of(&request.digest), ());
                self.accepted.put(request.caller, ());
            }
            Err(AuthnError::Rejected { reason }) => {
                let _ = self.refusals.take(request.peer, REFUSALS);
                self.refused.put(request.digest, reason.clone());
            }
            Err(_) => {}
        }
    }

    fn was_accepted(&self, request: &ReviewRequest) -> bool {
        let keys = [key_of(&request.digest), request.caller];
        keys.iter().any(|key| self.accepted.get(key).is_some())
    }

    fn may_ask(&self, request: &ReviewRequest) -> Result<(), AuthnError> {
        let look = self.refusals.look(request.peer, REFUSALS);
        look.map_err(|retry_after| AuthnError::Busy {
            why: "the API server has refused many tokens from this address".to_owned(),
            retry_after,
        })
    }

    fn join(
        self: &Arc<Self>,
        request: &ReviewRequest,
        was_accepted: bool,
    ) -> Result<Result<ReviewPermit, oneshot::Receiver<ReviewPermit>>, AuthnError> {
        let mut order = self.lock();
        if order.free > 0 {
            order.free -= 1;
            return Ok(Ok(ReviewPermit(Some(Arc::clone(self)))));
        }
        let busy = || AuthnError::Busy {
            why: "too many tokens wait for a TokenReview".to_owned(),
            retry_after: RETRY,
        };
        let (sender, receiver) = oneshot::channel();
        if was_accepted {
            if order.accepted_before.len() >= MOST_WAITING {
                return Err(busy());
            }
            order.accepted_before.push(&request.share(), sender);
            return Ok(Err(receiver));
        }
        let waiting = order.waiting.get(&request.peer).copied();
        let waiting = waiting.unwrap_or_default();
        let room = MOST_WAITING.saturating_sub(order.others.len());
        // The more one address has waiting, the more it leaves for others.
        if waiting >= room {
            return Err(busy());
        }
        order.waiting.insert(request.peer, waiting + 1);
        order.others.push(&request.share(), sender);
        Ok(Err(receiver))
    }

    /// Hands a permit to the next, or keeps it.
    fn release(self: Arc<Self>) {
        loop {
            let next = {
                let mut order = self.lock();
                let next = order.next();
                if next.is_none() {
                    order.free += 1;
                }
                next
            };
            let Some(waiter) = next else { return };
            match waiter.send(ReviewPermit(Some(Arc::clone(&self)))) {
                Ok(()) => return,
                // It has stopped waiting.
                Err(mut back) => back.0 = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn next(&mut self) -> Option<oneshot::Sender<ReviewPermit>> {
        let others_first = self.in_a_row >= IN_A_ROW && !self.others.is_empty();
        if !others_first && let Some(next) = self.accepted_before.pop() {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(next);
        }
        self.in_a_row = 0;
        self.others.pop()
    }
}

impl Drop for ReviewPermit {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.release();
        }
    }
}

/// Counts as waiting until it is dropped.
struct Waits<'g>(&'g ReviewGate, u64);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut order = self.0.lock();
        if let Some(waiting) = order.waiting.get_mut(&self.1) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                order.waiting.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
