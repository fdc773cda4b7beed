//! A path found among certificates in any order.

use super::error::{PathError, PathFault};
use super::{MAX_CERTIFICATES, name_difference, verify_ca_path};
use crate::clock::UnixTime;
use crate::x509::cert::Certificate;

/// How many paths are tried; each cross-signed CA doubles them.
const MAX_PATHS: usize = 64;

/// The path from `first` up to one of `anchors`, which is its last certificate, through
/// certificates of `others` in any order. It ends at the first anchor.
///
/// # Errors
/// Of the most plausible path, when none verifies.
pub fn find_ca_path(
    first: &Certificate,
    others: &[Certificate],
    anchors: &[Certificate],
    now: UnixTime,
) -> Result<Vec<Certificate>, PathError> {
    let mut search = Search {
        others,
        anchors,
        now,
        tried: 0,
        fault: None,
    };
    let mut path = vec![first.clone()];
    match search.extend(&mut path) {
        true => Ok(path),
        false => Err(search.fault.unwrap_or(PathError::Empty)),
    }
}

struct Search<'a> {
    others: &'a [Certificate],
    anchors: &'a [Certificate],
    now: UnixTime,
    tried: usize,
    /// Of the first path that was tried: candidates come in order of plausibility.
    fault: Option<PathError>,
}

impl Search<'_> {
    /// Whether `path` can be extended to one that verifies, which it then is.
    fn extend(&mut self, path: &mut Vec<Certificate>) -> bool {
        let Some(last) = path.last().cloned() else {
            return false;
        };
        let candidates = match self.anchors.contains(&last) {
            true => Vec::new(),
            false => self.issuers(&last, path),
        };
        if candidates.is_empty() || path.len() > MAX_CERTIFICATES {
            return self.verify(path);
        }
        for candidate in candidates {
            path.push(candidate);
            if self.extend(path) {
                return true;
            }
            path.pop();
            if self.tried >= MAX_PATHS {
                break;
            }
        }
        false
    }

    fn verify(&mut self, path: &[Certificate]) -> bool {
        self.tried += 1;
        match verify_ca_path(path, self.anchors, self.now) {
            Ok(_) => true,
            Err(error) => {
                let error = self.unlike_name(path).unwrap_or(error);
                self.fault.get_or_insert(error);
                false
            }
        }
    }

    /// Certificates with the issuer's name; those that signed `certificate` first, and of these the
    /// anchors.
    fn issuers(&self, certificate: &Certificate, path: &[Certificate]) -> Vec<Certificate> {
        let mut found: Vec<(bool, &Certificate)> = Vec::new();
        for candidate in self.anchors.iter().chain(self.others) {
            if candidate.subject_der() == certificate.issuer_der()
                && !path.contains(candidate)
                && !found.iter().any(|(_, other)| *other == candidate)
            {
                let signed = certificate.verify_signed_by(candidate.public_key()).is_ok();
                found.push((!signed, candidate));
            }
        }
        found.sort_by_key(|(not_signed, _)| *not_signed);
        found.into_iter().map(|(_, one)| one.clone()).collect()
    }

    /// The fault of a path whose last certificate names its issuer in another encoding than the
    /// issuer itself.
    fn unlike_name(&self, path: &[Certificate]) -> Option<PathError> {
        let last = path.last()?;
        if self.anchors.contains(last) || last.is_self_issued() {
            return None;
        }
        let mut candidates = self.anchors.iter().chain(self.others);
        let difference = candidates.find_map(|candidate| name_difference(last, candidate))?;
        let fault = PathFault::NameEncoding {
            issuer: last.issuer(),
            difference,
        };
        Some(PathError::at(path.len() - 1, last, fault))
    }
}
