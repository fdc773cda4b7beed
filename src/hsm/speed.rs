//! How fast a token is by itself: C_SignInit and C_Sign in a row, with nothing around them. For
//! `bench`, which holds everything else against it.

use std::thread;
use std::time::{Duration, Instant};

use super::error::HsmError;
use super::fault::Fault;
use super::key::Key;
use super::keys::{self, TEST_MESSAGE};
use super::mechanism;
use crate::clock::thread_cpu_time;

/// What a token does when it is asked for nothing but signatures.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Signatures a second, over all threads.
    pub per_second: f64,
    /// CPU time of one signature in this process.
    pub cpu: Duration,
}

impl Key {
    /// Signs the self-test text, which is no certificate, again and again from `threads` threads
    /// with a session each, for about `span`. The signatures are counted as test signatures. It
    /// blocks, and it takes the token's whole strength: never for a key in service.
    ///
    /// # Errors
    /// The token's own; [`HsmError::Thread`] when a thread cannot be started.
    pub fn speed(&self, threads: usize, span: Duration) -> Result<Speed, HsmError> {
        let begun = Instant::now();
        let until = begun + span;
        let outcomes = thread::scope(|scope| {
            let running: Vec<_> = (0..threads.max(1))
                .map(|_| scope.spawn(|| self.sign_until(until)))
                .collect();
            let ended = running.into_iter().map(|thread| thread.join());
            ended.collect::<Vec<_>>()
        });
        let took = begun.elapsed();
        let (mut signatures, mut cpu) = (0, Duration::ZERO);
        for outcome in outcomes {
            let lost = |_| Fault::other("C_Sign", "a thread ended early".to_owned());
            let counted = outcome.map_err(lost).and_then(|counted| counted);
            let (count, spent) = counted.map_err(|fault| HsmError::Call {
                token: self.token().name().to_owned(),
                fault,
            })?;
            signatures += count;
            cpu += spent;
        }
        self.token().count_test_signatures(signatures.into());
        Ok(Speed {
            per_second: f64::from(signatures) / took.as_secs_f64(),
            cpu: cpu / signatures.max(1),
        })
    }

    fn sign_until(&self, until: Instant) -> Result<(u32, Duration), Fault> {
        let session = self.token().session()?;
        let key = keys::find(&session, self.id())?;
        let mechanism = mechanism::signing(self.kind());
        let input = mechanism::input(self.algorithm(), TEST_MESSAGE)?;
        let (begun, mut count) = (thread_cpu_time(), 0);
        while Instant::now() < until {
            session.sign(&mechanism, key, &input)?;
            count += 1;
        }
        Ok((count, thread_cpu_time().saturating_sub(begun)))
    }
}
