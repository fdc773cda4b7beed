//! The client certificate of one TLS connection, and what the ledger said of it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::certificate_status::CertificateStatus;
use crate::x509::{CertError, Certificate};

/// How long a status is used again at most. A change of the records ends it at once; this bounds what no
/// revision shows, such as a row that somebody deleted by hand.
const LONGEST: Duration = Duration::from_secs(10);

/// Nothing is kept of the certificates that came with it. The handshake proves only that the client holds
/// its key.
pub struct ClientCertificate {
    der: Vec<u8>,
    parsed: OnceLock<Result<Certificate, CertError>>,
    known: ArcSwapOption<Known>,
}

/// A status as of a revision of the records.
struct Known {
    revision: u64,
    at: Instant,
    status: CertificateStatus,
}

impl ClientCertificate {
    pub fn new(der: impl Into<Vec<u8>>) -> Self {
        Self {
            der: der.into(),
            parsed: OnceLock::new(),
            known: ArcSwapOption::empty(),
        }
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Parsed once.
    pub(super) fn parsed(&self) -> Result<&Certificate, &CertError> {
        let parsed = || Certificate::parse(self.der.as_slice());
        self.parsed.get_or_init(parsed).as_ref()
    }

    /// The status as of this revision.
    pub(super) fn known(&self, revision: u64) -> Option<CertificateStatus> {
        let known = self.known.load();
        let known = known.as_ref()?;
        let holds = known.revision == revision && known.at.elapsed() < LONGEST;
        holds.then(|| known.status.clone())
    }

    /// Only what was released is kept: its record does not change any more without the revision.
    pub(super) fn remember(&self, revision: u64, status: &CertificateStatus) {
        let known = status.released.then(|| Known {
            revision,
            at: Instant::now(),
            status: status.clone(),
        });
        self.known.store(known.map(Arc::new));
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("bytes", &self.der.len())
            .finish_non_exhaustive()
    }
}
