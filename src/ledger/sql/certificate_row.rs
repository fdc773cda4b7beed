//! A certificate's row, as both stores select it.

use super::columns::Columns;
use super::row::{RowSource, damaged};
use crate::ledger::{CaCertificateId, CallerRecord, CertificateRow, Epoch, IntentId, LedgerError};
use crate::x509::Serial;

/// From the columns of `intent`, `issuer.key AS issuer_key`, and those of `epoch` and `conclusion`.
pub(in crate::ledger) fn certificate_row(
    row: &dyn RowSource,
) -> Result<CertificateRow, LedgerError> {
    let row = Columns(row);
    let serial: Option<&[u8]> = row.get("serial")?;
    let serial = serial
        .map(|bytes| Serial::from_bytes(bytes).map_err(|error| damaged("serial", error)))
        .transpose()?;
    Ok(CertificateRow {
        id: IntentId::new(row.get("id")?),
        kind: row.kind("kind")?,
        issuer: row.parsed("issuer_key")?,
        ca_certificate: row
            .get::<Option<i64>>("ca_certificate")?
            .map(CaCertificateId::new),
        serial,
        subject: row.get("subject")?,
        profile: row.get("profile")?,
        spki_sha256: row.hash("spki_sha256")?,
        bundle_digest: row.optional_hash("bundle_digest")?,
        caller: CallerRecord {
            trust_domain: row.parsed("caller_trust_domain")?,
            identity: row.get("caller")?,
            method: row.method("method")?,
            detail: row.get("method_detail")?,
            cluster: row.get("cluster")?,
            pod: row.get("pod")?,
            node: row.get("node")?,
            token_authenticated_at: row.optional_time("token_authenticated_at")?,
        },
        not_before: row.optional_time("not_before")?,
        not_after: row.optional_time("not_after")?,
        recorded_at: row.time("recorded_at")?,
        epoch: Epoch {
            instance: row.get("instance")?,
            boot: row.number("boot")?,
        },
        request_id: row.get("request_id")?,
        idempotency_key: row.get("origin")?,
        state: row.state("state")?,
        reason: row.get("reason")?,
        concluded_at: row.optional_time("concluded_at")?,
        tbs: row.get("tbs")?,
        algorithm: row.algorithm("algorithm")?,
        signature: row.get("signature")?,
    })
}
