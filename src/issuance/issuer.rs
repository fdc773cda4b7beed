//! An issuer: a key in a token, and the certification path that it signs under.

use std::sync::Arc;
use std::time::Duration;

use super::error::IssueError;
use crate::clock::UnixTime;
use crate::hsm::Key;
use crate::ledger::{CaCertificateId, IssuerId};
use crate::x509::{
    Certificate, IssuedError, IssuerIdentity, San, check_names, name_ruled_out, remaining_path_len,
};

/// A key in a token, and what it signs as.
#[derive(Debug)]
pub struct Issuer {
    id: IssuerId,
    key: Key,
    certificate: Certificate,
    certificate_id: CaCertificateId,
    intermediates: Vec<Certificate>,
    /// `None` only for records without it.
    anchor: Option<Certificate>,
    identity: Arc<IssuerIdentity>,
    not_before: UnixTime,
    not_after: UnixTime,
    remaining_path_len: Option<u8>,
}

impl Issuer {
    /// An issuer under one of its CA certificates. `intermediates` lead from that certificate up
    /// to, but without, `anchor`; `None` when its key is of a kind that no token signs with.
    pub(super) fn new(
        id: IssuerId,
        key: Key,
        certificate: Certificate,
        certificate_id: CaCertificateId,
        intermediates: Vec<Certificate>,
        anchor: Option<&Certificate>,
    ) -> Option<Self> {
        let mut identity = IssuerIdentity::of(&certificate)?;
        // A leaf is valid only while every certificate above it is.
        let above = || intermediates.iter().chain(anchor);
        let not_before = above().map(Certificate::not_before);
        let not_before = not_before.fold(certificate.not_before(), UnixTime::max);
        let not_after = above().map(Certificate::not_after);
        let not_after = not_after.fold(certificate.not_after(), UnixTime::min);
        let path = std::iter::once(&certificate).chain(above());
        let remaining_path_len = remaining_path_len(path);
        identity.public_key = key.public_key().clone();
        identity.not_after = Some(not_after);
        Some(Self {
            id,
            key,
            certificate,
            certificate_id,
            anchor: anchor.cloned(),
            intermediates,
            identity: Arc::new(identity),
            not_before,
            not_after,
            remaining_path_len,
        })
    }

    pub fn id(&self) -> &IssuerId {
        &self.id
    }

    /// Whether the token of its key is ready, as far as is known.
    pub fn is_ready(&self) -> bool {
        self.key.is_ready()
    }

    /// The CA certificate that it signs under.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub fn certificate_id(&self) -> CaCertificateId {
        self.certificate_id
    }

    /// The CA certificate, then the rest of the path without the trust anchor.
    pub fn path(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.intermediates)
    }

    /// What the path ends in; `None` only for records without it.
    pub fn anchor(&self) -> Option<&Certificate> {
        self.anchor.as_ref()
    }

    /// Why no certificate with `name` verifies: the nameConstraints of the path, including its anchor.
    pub(super) fn name_ruled_out(&self, name: &San) -> Option<String> {
        name_ruled_out(name, self.path().chain(&self.anchor))
    }

    /// The same for a certificate that is signed.
    pub(super) fn check_names(&self, certificate: &Certificate) -> Result<(), IssuedError> {
        check_names(certificate, self.path().chain(&self.anchor))
    }

    /// The latest notBefore of the path, including its anchor.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The earliest notAfter of the path, including its anchor. No certificate that it signs is
    /// valid for longer.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// notBefore and notAfter of a certificate that is issued at `now` and is to be valid for `ttl`:
    /// within the path's own validity, and long enough for clients that renew at the middle of
    /// notBefore..notAfter, which must not lie in the past.
    pub(super) fn validity(
        &self,
        now: UnixTime,
        ttl: Duration,
        backdate: Duration,
    ) -> Result<(UnixTime, UnixTime), IssueError> {
        within((self.not_before, self.not_after), now, ttl, backdate)
    }

    /// How many CAs the path, including its anchor, allows below this one; `None` for no limit.
    pub fn remaining_path_len(&self) -> Option<u8> {
        self.remaining_path_len
    }

    /// What it signs as; `not_after` is the path's.
    pub(super) fn identity(&self) -> &Arc<IssuerIdentity> {
        &self.identity
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

/// The shortest life of a certificate that is dated so far back.
pub fn shortest_ttl(backdate: Duration) -> Duration {
    (backdate * 2).max(Duration::from_secs(1))
}

/// See [`Issuer::validity`]; `path` is the validity of the path.
fn within(
    path: (UnixTime, UnixTime),
    now: UnixTime,
    ttl: Duration,
    backdate: Duration,
) -> Result<(UnixTime, UnixTime), IssueError> {
    if ttl < shortest_ttl(backdate) {
        return Err(IssueError::TtlTooShort {
            requested: ttl,
            backdate,
        });
    }
    let not_before = now.minus(backdate).max(path.0);
    let not_after = now.plus(ttl).min(path.1);
    let left = not_after.since(now);
    if left < shortest_ttl(backdate) {
        return Err(IssueError::IssuerExpiring { left, backdate });
    }
    Ok((not_before, not_after))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each bound, at it and a second past it.
    #[test]
    fn a_certificate_is_within_its_path_and_long_enough() {
        let at = UnixTime::from_secs;
        let now = 1_000_000;
        let (begin, end) = (now - 1000, now + 1000);
        let of = |path: (i64, i64), ttl, backdate| {
            let (ttl, backdate) = (Duration::from_secs(ttl), Duration::from_secs(backdate));
            let path = (at(path.0), at(path.1));
            match within(path, at(now), ttl, backdate) {
                Ok((from, to)) => Ok((from.secs() - now, to.secs() - now)),
                Err(IssueError::TtlTooShort { requested, .. }) => Err(("ttl", requested.as_secs())),
                Err(IssueError::IssuerExpiring { left, .. }) => Err(("issuer", left.as_secs())),
                Err(other) => Err((other.category().metric_label(), 0)),
            }
        };
        let whole = (begin, end);
        for (path, ttl, backdate, expected) in [
            (whole, 600, 120, Ok((-120, 600))),
            // The shortest: what is left is as long as what is past, and never nothing.
            (whole, 240, 120, Ok((-120, 240))),
            (whole, 239, 120, Err(("ttl", 239))),
            (whole, 1, 0, Ok((0, 1))),
            (whole, 0, 0, Err(("ttl", 0))),
            // Cut at the path's end, and refused when too little is left of it.
            (whole, 1000, 120, Ok((-120, 1000))),
            (whole, 1001, 120, Ok((-120, 1000))),
            ((begin, now + 240), 600, 120, Ok((-120, 240))),
            ((begin, now + 239), 600, 120, Err(("issuer", 239))),
            ((begin, now + 1), 600, 0, Ok((0, 1))),
            ((begin, now), 600, 0, Err(("issuer", 0))),
            ((begin, now - 1), 600, 0, Err(("issuer", 0))),
            // Cut at the path's begin.
            ((now - 120, end), 600, 120, Ok((-120, 600))),
            ((now - 119, end), 600, 120, Ok((-119, 600))),
        ] {
            assert_eq!(
                of(path, ttl, backdate),
                expected,
                "{path:?} {ttl} {backdate}"
            );
        }
    }
}
