//! Which sessions were renewed or revoked. Every other one needs no memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::VaultError;
use super::session::Session;
use crate::clock::UnixTime;

/// Sessions that are renewed or revoked at a time, of a hundred bytes each.
const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 16], Change>>);

#[derive(Debug, Clone, Copy)]
struct Change {
    /// When it ends now; `None` when it is revoked.
    until: Option<UnixTime>,
    /// When it ends by itself, so that nothing need be known of it.
    last_at: UnixTime,
}

impl Sessions {
    /// When the session ends; `None` when it has ended or is revoked.
    pub(super) fn ends(&self, session: &Session, now: UnixTime) -> Option<UnixTime> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let change = table.get(&session.id);
        let until = change.map_or(Some(session.expires_at), |change| change.until)?;
        (now < until).then_some(until)
    }

    /// Lets the session end `ttl` from now, or at its last moment.
    ///
    /// # Errors
    /// [`VaultError::TooManySessions`].
    pub(super) fn renew(
        &self,
        session: &Session,
        ttl: Duration,
        now: UnixTime,
    ) -> Result<UnixTime, VaultError> {
        let until = now.plus(ttl).min(session.last_at);
        self.change(session, Some(until), now)?;
        Ok(until)
    }

    /// # Errors
    /// [`VaultError::TooManySessions`].
    pub(super) fn revoke(&self, session: &Session, now: UnixTime) -> Result<(), VaultError> {
        self.change(session, None, now)
    }

    fn change(
        &self,
        session: &Session,
        until: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<(), VaultError> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST && !table.contains_key(&session.id) {
            table.retain(|_, change| now < change.last_at);
            if table.len() >= MOST {
                return Err(VaultError::TooManySessions);
            }
        }
        let last_at = session.last_at;
        let change = table.entry(session.id).or_insert(Change { until, last_at });
        // What is revoked stays so, whatever renews it at the same time.
        if change.until.is_some() {
            change.until = until;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::authn::Caller;
    use crate::x509::TrustDomain;

    fn session(id: u32) -> Session {
        let at = UnixTime::from_secs;
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&id.to_be_bytes());
        Session {
            id: bytes,
            caller: Caller::local(TrustDomain::parse("td").unwrap(), "test"),
            namespace: String::new(),
            path: String::new(),
            issued_at: at(0),
            expires_at: at(60),
            last_at: at(100),
        }
    }

    #[test]
    fn a_renewal_lasts_until_the_last_moment_and_a_revocation_for_ever() {
        let (sessions, one, at) = (Sessions::default(), session(1), UnixTime::from_secs);
        assert_eq!(sessions.ends(&one, at(59)), Some(at(60)));
        assert_eq!(sessions.ends(&one, at(60)), None);
        let ttl = Duration::from_secs(30);
        assert_eq!(sessions.renew(&one, ttl, at(50)).unwrap(), at(80));
        assert_eq!(sessions.ends(&one, at(79)), Some(at(80)));
        assert_eq!(sessions.renew(&one, ttl, at(79)).unwrap(), at(100));
        sessions.revoke(&one, at(80)).unwrap();
        assert_eq!(sessions.ends(&one, at(80)), None);
        sessions.renew(&one, ttl, at(80)).unwrap();
        assert_eq!(sessions.ends(&one, at(80)), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (sessions, now) = (Sessions::default(), UnixTime::from_secs(1));
        for id in 0..u32::try_from(MOST).unwrap() {
            sessions.revoke(&session(id), now).unwrap();
        }
        let more = session(u32::MAX);
        let error = sessions.revoke(&more, now).unwrap_err();
        assert!(matches!(error, VaultError::TooManySessions), "{error}");
        // Those that have ended leave room.
        sessions.revoke(&more, UnixTime::from_secs(100)).unwrap();
    }
}
