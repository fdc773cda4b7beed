//! Whether what arrives with a rotation can be used, and whether every target can hold it.

use super::Rotations;
use super::error::RotationError;
use super::start::cannot;
use crate::clock::UnixTime;
use crate::digest::hex;
use crate::ledger::{AuthorityRecord, IssuerState, RotationRecord};
use crate::x509::{Certificate, TrustBundle};

impl Rotations {
    /// Before anything is published: both roots together fit into a bundle, and into each object.
    pub(super) fn check_room(
        &self,
        authority: Option<&AuthorityRecord>,
        arriving: &Certificate,
    ) -> Result<(), RotationError> {
        let found = authority.and_then(|authority| Some((authority, authority.bundle.as_ref()?)));
        let Some((
            AuthorityRecord {
                trust_domain: domain,
                ..
            },
            bundle,
        )) = found
        else {
            return Ok(());
        };
        let mut anchors = bundle.anchors.clone();
        if !anchors.iter().any(|anchor| anchor == arriving.der()) {
            anchors.push(arriving.der().to_vec());
        }
        let both = TrustBundle::new(domain.clone(), bundle.sequence + 1, anchors)
            .map_err(|error| cannot(error.to_string()))?;
        both.check_size()
            .map_err(|error| cannot(format!("with the new root {error}")))?;
        match (self.parts.fits)(&both).as_slice() {
            [] => Ok(()),
            problems => Err(cannot(format!(
                "with the new root the bundle does not fit everywhere: {}",
                problems.join("; ")
            ))),
        }
    }
}

/// Why what arrives cannot be used, as far as it is on record.
pub(super) fn problem(
    rotation: &RotationRecord,
    authority: &AuthorityRecord,
    now: UnixTime,
) -> Option<String> {
    let id = rotation.parts.new_issuer.as_ref()?;
    let turn = "go back with `rootbridge rotate back`, and start another rotation";
    let Some(issuer) = authority.issuers.iter().find(|issuer| issuer.id == *id) else {
        let domain = &authority.trust_domain;
        return Some(format!("issuer {id} is none of {domain}: {turn}"));
    };
    if issuer.state == IssuerState::Retired {
        return Some(format!("issuer {id} is retired: {turn}"));
    }
    let in_use = issuer
        .certificates
        .iter()
        .filter(|row| row.state != IssuerState::Retired);
    for row in in_use {
        if row.not_after <= now {
            return Some(format!(
                "the certificate of issuer {id} has expired: {turn}"
            ));
        }
    }
    let arriving = rotation.parts.new_anchor?;
    let name = hex(&arriving);
    let mut anchors = authority.anchors.iter();
    // It is on record once it is published; one that has left before may come again.
    let anchor = anchors.rfind(|anchor| anchor.sha256 == arriving)?;
    if anchor.state == IssuerState::Retired {
        return Some(format!("the root sha256:{name} is retired: {turn}"));
    }
    match Certificate::parse(anchor.der.as_slice()) {
        Ok(root) if root.not_after() <= now => {
            Some(format!("the root sha256:{name} has expired: {turn}"))
        }
        Ok(root) if root.signature_algorithm().is_none() => Some(format!(
            "the root sha256:{name} has a signature that verifiers do not accept: {turn}"
        )),
        Ok(_) => None,
        Err(error) => Some(format!("the root sha256:{name} cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::time::Duration;

    use super::*;
    use crate::ledger::{
        AnchorOrigin, AnchorRecord, CaCertificateId, CaCertificateRecord, IssuerId, IssuerRecord,
        Role, RotationId, RotationKind, RotationParts, RotationPhase,
    };
    use crate::x509::{KeyKind, TrustDomain};

    const AT: UnixTime = UnixTime::from_secs(1_900_000_000);

    fn root(days: i64) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2029, 1, 1);
        // `AT` is the 17th.
        let end = u8::try_from(17 + days).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 3, end);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn records(days: i64) -> (RotationRecord, AuthorityRecord) {
        let der = root(days);
        let sha256 = Certificate::parse(der.as_slice()).unwrap().fingerprint();
        let domain = TrustDomain::parse("td").unwrap();
        let id = IssuerId::of_spki(b"new");
        let row = CaCertificateRecord {
            id: CaCertificateId::new(1),
            der: Vec::new(),
            sha256: [0; 32],
            state: IssuerState::Pending,
            path: Vec::new(),
            anchor: sha256,
            not_before: AT,
            not_after: AT.plus(Duration::from_secs(60)),
            added_at: AT,
            added_by: String::new(),
        };
        let issuer = IssuerRecord {
            id: id.clone(),
            role: Role::Issuing,
            state: IssuerState::Pending,
            public_key: Vec::new(),
            locations: Vec::new(),
            path_len: None,
            certificates: vec![row],
            created_at: AT,
            created_by: String::new(),
        };
        let anchor = AnchorRecord {
            sha256,
            der,
            origin: AnchorOrigin::Own,
            source: String::new(),
            state: IssuerState::Pending,
            expires_at: None,
            added_at: AT,
            added_by: String::new(),
            retired_at: None,
        };
        let rotation = RotationRecord {
            id: RotationId::new(1),
            trust_domain: domain.clone(),
            kind: RotationKind::NewRoot,
            phase: RotationPhase::Converge,
            backwards: false,
            parts: RotationParts {
                new_issuer: Some(id),
                new_anchor: Some(sha256),
                ..RotationParts::default()
            },
            key: KeyKind::EcdsaP256,
            token: String::new(),
            started_at: AT,
            started_by: String::new(),
            changed_at: AT,
            ended_at: None,
            steps: Vec::new(),
        };
        let authority = AuthorityRecord {
            id: 1,
            trust_domain: domain,
            created_at: AT,
            created_by: String::new(),
            issuers: vec![issuer],
            anchors: vec![anchor],
            requests: Vec::new(),
            planned_keys: Vec::new(),
            bundle: None,
        };
        (rotation, authority)
    }

    #[test]
    fn what_cannot_be_used_does_not_arrive() {
        type Change = fn(&mut AuthorityRecord);
        let rows: [(i64, Change, Option<&str>); 7] = [
            (9, |_| {}, None),
            (
                9,
                |td| td.issuers[0].state = IssuerState::Retired,
                Some("is retired"),
            ),
            (9, |td| td.issuers.clear(), Some("is none of td")),
            (
                9,
                |td| td.issuers[0].certificates[0].not_after = AT,
                Some("has expired"),
            ),
            (
                9,
                |td| td.anchors[0].state = IssuerState::Retired,
                Some("root sha256:"),
            ),
            (-1, |_| {}, Some("root sha256:")),
            // Before it is published.
            (-1, |td| td.anchors.clear(), None),
        ];
        for (days, change, expected) in rows {
            let (rotation, mut authority) = records(days);
            assert_eq!(problem(&rotation, &authority, AT).is_some(), days < 0);
            change(&mut authority);
            let found = problem(&rotation, &authority, AT);
            match expected {
                None => assert_eq!(found, None),
                Some(why) => {
                    let found = found.unwrap();
                    assert!(
                        found.contains(why) && found.contains("rotate back"),
                        "{found}"
                    );
                }
            }
        }
    }
}
