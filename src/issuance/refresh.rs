//! Reads issuers and bundles from the ledger's records.

use std::sync::Arc;

use super::authority::NoIssuer;
use super::issuer::Issuer;
use crate::hsm::{Hsm, Key};
use crate::ledger::{AuthorityRecord, CaCertificateRecord, IssuerRecord, IssuerState, Role};
use crate::x509::{Certificate, PublicKey, TrustBundle};

/// The recorded active issuer, with its key; `known` if that is the same issuer.
pub(super) async fn active_issuer(
    hsm: &Hsm,
    record: &AuthorityRecord,
    known: Option<&Arc<Issuer>>,
) -> Result<Arc<Issuer>, NoIssuer> {
    let (issuer, row) = active_row(record).ok_or(NoIssuer::NotRecorded)?;
    if let Some(known) = known
        && *known.id() == issuer.id
        && known.certificate_id() == row.id
        && known
            .path()
            .skip(1)
            .map(Certificate::der)
            .eq(row.path.iter().map(Vec::as_slice))
    {
        return Ok(Arc::clone(known));
    }
    let certificate = parse(&row.der)?;
    let key = key(hsm, issuer, certificate.public_key()).await?;
    let anchor = anchor(record, row)?;
    let path = row
        .path
        .iter()
        .map(|der| parse(der))
        .collect::<Result<_, _>>()?;
    Issuer::new(
        issuer.id.clone(),
        key,
        certificate,
        row.id,
        path,
        anchor.as_ref(),
    )
    .map(Arc::new)
    .ok_or_else(|| {
        NoIssuer::InvalidRecords("the issuing CA's key is of an unsuitable kind".to_owned())
    })
}

/// The recorded active issuer, and the certificate that it signs under.
pub fn active_row(record: &AuthorityRecord) -> Option<(&IssuerRecord, &CaCertificateRecord)> {
    let active = |issuer: &&IssuerRecord| {
        issuer.role == Role::Issuing && issuer.state == IssuerState::Active
    };
    let issuers = record.issuers.iter().filter(active);
    let rows = issuers.flat_map(|issuer| issuer.certificates.iter().map(move |row| (issuer, row)));
    let anchor_is_published = |row: &CaCertificateRecord| {
        let mut anchors = record.anchors.iter();
        anchors.any(|anchor| anchor.sha256 == row.anchor && anchor.state == IssuerState::Active)
    };
    // The certificate that was activated last counts, however old its key is.
    rows.filter(|(_, row)| row.state == IssuerState::Active && anchor_is_published(row))
        .max_by_key(|(_, row)| row.id)
}

/// The path of the recorded active issuer: the certificate that it signs under, those above it, and
/// the anchor.
pub fn active_path(record: &AuthorityRecord) -> Result<Vec<Certificate>, NoIssuer> {
    let (_, row) = active_row(record).ok_or(NoIssuer::NotRecorded)?;
    let below_anchor = std::iter::once(&row.der).chain(&row.path);
    let mut path = below_anchor
        .map(|der| parse(der))
        .collect::<Result<Vec<_>, _>>()?;
    let anchor = anchor(record, row)?;
    // An adopted root is its own anchor.
    path.extend(anchor.filter(|anchor| path.last() != Some(anchor)));
    Ok(path)
}

/// The anchor that a CA certificate's path ends in.
fn anchor(
    record: &AuthorityRecord,
    row: &CaCertificateRecord,
) -> Result<Option<Certificate>, NoIssuer> {
    let mut anchors = record.anchors.iter();
    let anchor = anchors.rfind(|anchor| anchor.sha256 == row.anchor);
    anchor.map(|anchor| parse(&anchor.der)).transpose()
}

fn parse(der: &[u8]) -> Result<Certificate, NoIssuer> {
    Certificate::parse(der)
        .map_err(|error| NoIssuer::InvalidRecords(format!("a certificate of its path: {error}")))
}

async fn key(hsm: &Hsm, issuer: &IssuerRecord, public: &PublicKey) -> Result<Key, NoIssuer> {
    let id = &issuer.id;
    let mut why = format!("issuer {id} has no recorded token");
    for location in &issuer.locations {
        match hsm.key(&location.token, &location.key_id, public).await {
            Ok(key) => return Ok(key),
            Err(error) => why = format!("issuer {id} in token `{}`: {error}", location.token),
        }
    }
    Err(NoIssuer::KeyUnavailable(why))
}

/// The newest bundle; `known` if that is the same version.
pub(super) fn bundle(
    record: &AuthorityRecord,
    known: Option<&Arc<TrustBundle>>,
) -> Option<Arc<TrustBundle>> {
    let published = record.bundle.as_ref()?;
    if let Some(known) = known
        && known.sequence() == published.sequence
        && known.digest() == published.digest
    {
        return Some(Arc::clone(known));
    }
    let anchors = published.anchors.clone();
    match TrustBundle::new(record.trust_domain.clone(), published.sequence, anchors) {
        Ok(bundle) => Some(Arc::new(bundle)),
        Err(error) => {
            tracing::error!(trust_domain = %record.trust_domain, %error, "the recorded bundle is invalid");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::clock::UnixTime;
    use crate::issuance::reserved::ReservedKeys;
    use crate::ledger::{AnchorOrigin, AnchorRecord, CaCertificateId, IssuerId, Snapshot};
    use crate::x509::TrustDomain;

    const AT: UnixTime = UnixTime::from_secs(0);

    /// A CA certificate of a new key.
    fn ca() -> Certificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Certificate::parse(params.self_signed(&key).unwrap().der().to_vec()).unwrap()
    }

    fn anchor(certificate: &Certificate, origin: AnchorOrigin, state: IssuerState) -> AnchorRecord {
        AnchorRecord {
            sha256: certificate.fingerprint(),
            der: certificate.der().to_vec(),
            origin,
            source: String::new(),
            state,
            expires_at: None,
            added_at: AT,
            added_by: String::new(),
            retired_at: None,
        }
    }

    /// A row for `certificate` with one intermediate.
    fn row(
        id: i64,
        certificate: &Certificate,
        middle: &Certificate,
        anchor: &Certificate,
    ) -> CaCertificateRecord {
        CaCertificateRecord {
            id: CaCertificateId::new(id),
            der: certificate.der().to_vec(),
            sha256: certificate.fingerprint(),
            state: IssuerState::Active,
            path: vec![middle.der().to_vec()],
            anchor: anchor.fingerprint(),
            not_before: AT,
            not_after: AT,
            added_at: AT,
            added_by: String::new(),
        }
    }

    fn issuer(key: &PublicKey, certificates: Vec<CaCertificateRecord>) -> IssuerRecord {
        IssuerRecord {
            id: IssuerId::of_spki(key.spki_der()),
            role: Role::Issuing,
            state: IssuerState::Active,
            public_key: key.spki_der().to_vec(),
            locations: Vec::new(),
            path_len: None,
            certificates,
            created_at: AT,
            created_by: String::new(),
        }
    }

    fn authority(
        name: &str,
        issuers: Vec<IssuerRecord>,
        anchors: Vec<AnchorRecord>,
    ) -> AuthorityRecord {
        AuthorityRecord {
            id: 1,
            trust_domain: TrustDomain::parse(name).unwrap(),
            created_at: AT,
            created_by: String::new(),
            issuers,
            anchors,
            bundle: None,
            requests: Vec::new(),
            planned_keys: Vec::new(),
        }
    }

    /// Whatever their state is: a key that was a CA's once may still sign what somebody trusts.
    #[test]
    fn the_keys_of_every_recorded_ca_are_reserved() {
        use AnchorOrigin::{Foreign, Own};
        let [
            issuing,
            pending,
            middle,
            root,
            old_root,
            foreign,
            other_ca,
            other_root,
            stranger,
        ] = std::array::from_fn(|_| ca());
        let mut waiting = issuer(pending.public_key(), Vec::new());
        waiting.state = IssuerState::Pending;
        let mut records = Snapshot {
            revision: 1,
            removed: Vec::new(),
            authorities: vec![
                authority(
                    "td",
                    vec![
                        issuer(issuing.public_key(), vec![row(1, &issuing, &middle, &root)]),
                        waiting,
                    ],
                    vec![
                        anchor(&root, Own, IssuerState::Active),
                        anchor(&old_root, Own, IssuerState::Retired),
                        anchor(&foreign, Foreign, IssuerState::Active),
                    ],
                ),
                authority(
                    "other",
                    vec![issuer(other_ca.public_key(), Vec::new())],
                    vec![anchor(&other_root, Own, IssuerState::Active)],
                ),
            ],
        };
        let mut keys = ReservedKeys::default();
        let reserved = keys.refresh(&records);
        for (name, each) in [
            ("issuing", &issuing),
            ("pending", &pending),
            ("intermediate", &middle),
            ("root", &root),
            ("retired root", &old_root),
            ("foreign root", &foreign),
            ("another authority's issuer", &other_ca),
            ("another authority's root", &other_root),
        ] {
            assert!(
                reserved.contains(&each.public_key().fingerprint()),
                "{name}"
            );
        }
        assert!(!reserved.contains(&stranger.public_key().fingerprint()));
        assert_eq!(reserved.len(), 8);

        // What is known already counts no less at the next change of the records, and what is gone no more.
        assert_eq!(keys.refresh(&records), reserved);
        records.authorities.pop();
        let last = keys.refresh(&records);
        assert!(!last.contains(&other_root.public_key().fingerprint()));
        assert_eq!(last.len(), 6);
    }

    /// Each row changes one thing about two issuers that could both sign.
    #[test]
    fn the_issuer_signs_under_the_newest_certificate_with_a_published_anchor() {
        let [one, two, middle, root, new_root] = std::array::from_fn(|_| ca());
        let records = |change: &dyn Fn(&mut AuthorityRecord)| {
            let mut record = authority(
                "td",
                vec![
                    issuer(one.public_key(), vec![row(1, &one, &middle, &root)]),
                    issuer(two.public_key(), vec![row(2, &two, &middle, &new_root)]),
                ],
                vec![
                    anchor(&root, AnchorOrigin::Own, IssuerState::Active),
                    anchor(&new_root, AnchorOrigin::Own, IssuerState::Active),
                ],
            );
            change(&mut record);
            active_path(&record)
        };
        let path = |leaf: &Certificate, root: &Certificate| {
            Ok(vec![leaf.clone(), middle.clone(), root.clone()])
        };
        let (first, second) = (path(&one, &root), path(&two, &new_root));
        let issuing = |state| move |record: &mut AuthorityRecord| record.issuers[1].state = state;
        let certificate = |state| {
            move |record: &mut AuthorityRecord| record.issuers[1].certificates[0].state = state
        };
        let anchors = |state| move |record: &mut AuthorityRecord| record.anchors[1].state = state;
        assert_eq!(records(&|_| {}), second);
        // The newest by its number, not by the issuer's place.
        assert_eq!(records(&|record| record.issuers.reverse()), second);
        for state in [IssuerState::Pending, IssuerState::Retired] {
            assert_eq!(records(&issuing(state)), first, "issuer {state}");
            assert_eq!(records(&certificate(state)), first, "certificate {state}");
            assert_eq!(records(&anchors(state)), first, "anchor {state}");
        }
        assert_eq!(
            records(&|record| record.issuers[1].role = Role::Root),
            first
        );
        assert_eq!(records(&|record| drop(record.anchors.pop())), first);
        assert_eq!(
            records(&|record| record.anchors.clear()),
            Err(NoIssuer::NotRecorded)
        );
        let garbage = records(&|record| record.issuers[1].certificates[0].path[0].clear());
        assert!(matches!(garbage, Err(NoIssuer::InvalidRecords(_))));
    }
}
