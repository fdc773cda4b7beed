//! What verifiers refuse in the certificates of a path.

use super::CeremonyError;
use crate::x509::{Certificate, Objection, Position};

/// Of a path with its anchor last. What strict verifiers alone refuse in the certificates above the
/// first is returned as warnings: those are another CA's, which rarely issues them again.
pub(super) fn examine(path: &[Certificate]) -> Result<Vec<String>, CeremonyError> {
    let mut warnings = Vec::new();
    for (index, certificate) in path.iter().enumerate() {
        let position = match index + 1 == path.len() {
            true => Position::Anchor,
            false => Position::Intermediate,
        };
        let objections = certificate.objections(position);
        let (refused, marked): (Vec<_>, Vec<_>) = objections
            .into_iter()
            .partition(|each| index == 0 || each.verifier.is_of_meshes());
        let subject = certificate.subject();
        if !refused.is_empty() {
            let objections = joined(&refused);
            return Err(CeremonyError::Objections {
                subject,
                objections,
            });
        }
        warnings.extend(marked.iter().map(|each| format!("`{subject}`: {each}")));
    }
    Ok(warnings)
}

fn joined(objections: &[Objection]) -> String {
    let texts: Vec<_> = objections.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
