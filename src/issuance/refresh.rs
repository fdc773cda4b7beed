//! Reads issuers, bundles and reserved keys from the ledger's records.

use std::collections::HashSet;
use std::sync::Arc;

use super::authority::NoIssuer;
use super::issuer::Issuer;
use crate::hsm::{Hsm, Key};
use crate::ledger::{
    AuthorityRecord, CaCertificateRecord, IssuerRecord, IssuerState, Role, Snapshot,
};
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
fn active_row(record: &AuthorityRecord) -> Option<(&IssuerRecord, &CaCertificateRecord)> {
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
    path.extend(anchor(record, row)?);
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
        let found = match hsm.token(&location.token) {
            Ok(token) => token.key(&location.key_id, public).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(key) => return Ok(key),
            Err(error) => why = format!("issuer {id} in token `{}`: {error}", location.token),
        }
    }
    Err(NoIssuer::KeyUnavailable(why))
}

pub(super) fn bundle(record: &AuthorityRecord) -> Option<Arc<TrustBundle>> {
    let published = record.bundle.as_ref()?;
    let anchors = published.anchors.clone();
    match TrustBundle::new(record.trust_domain.clone(), published.sequence, anchors) {
        Ok(bundle) => Some(Arc::new(bundle)),
        Err(error) => {
            tracing::error!(trust_domain = %record.trust_domain, %error, "the recorded bundle is invalid");
            None
        }
    }
}

/// SHA-256 of the public keys of every recorded CA: issuers, the CAs above them, and anchors.
pub(super) fn reserved_keys(records: &Snapshot) -> HashSet<[u8; 32]> {
    let mut reserved = HashSet::new();
    for authority in &records.authorities {
        let issuers = authority.issuers.iter();
        let keys = issuers.filter_map(|issuer| PublicKey::from_spki_der(&issuer.public_key).ok());
        reserved.extend(keys.map(|key| key.fingerprint()));
        let rows = authority.issuers.iter().flat_map(|each| &each.certificates);
        let above = rows.flat_map(|row| &row.path);
        let anchors = authority.anchors.iter().map(|anchor| &anchor.der);
        let certificates = above
            .chain(anchors)
            .filter_map(|der| Certificate::parse(der.as_slice()).ok());
        reserved.extend(certificates.map(|each| each.public_key().fingerprint()));
    }
    reserved
}
