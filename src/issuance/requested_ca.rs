//! CAs below the issuing CA that callers request: the same request gets the recorded certificate.

use super::authorities::Authorities;
use super::error::IssueError;
use super::issued::Issued;
use super::request::IssuanceRequest;
use crate::clock::UnixTime;
use crate::digest::{hex, sha256};
use crate::ledger::{CertificateRow, Filter, Kind, State};
use crate::x509::TrustDomain;

/// The most CA certificates of the same names that are searched for an earlier one.
const MOST_ROWS: u32 = 1000;

impl Authorities {
    /// Issues the certificate of a CA below the issuing CA, under a profile for CAs. A request for the
    /// same key, names and lifetime gets the certificate that is on record, until half of its life is
    /// over: clients that ask at each election of a leader do not multiply CAs.
    pub async fn issue_ca(&self, mut request: IssuanceRequest) -> Result<Issued, IssueError> {
        let domain = request.caller.trust_domain.clone();
        let series = self.series(&domain, &request)?;
        let filter = Filter {
            kind: Some(Kind::Ca),
            trust_domain: Some(domain),
            limit: MOST_ROWS,
            ..Filter::default()
        };
        let rows = self.pipeline().ledger().certificates(filter).await?;
        let number = next_number(&rows, &series, self.now());
        request.idempotency_key = Some(format!("{series}{number}"));
        self.issue_requested_ca(request).await
    }

    /// What the idempotency keys of all requests for the same certificate begin with.
    fn series(
        &self,
        domain: &TrustDomain,
        request: &IssuanceRequest,
    ) -> Result<String, IssueError> {
        let (issuer, _) = self.authority(domain)?.active_issuer()?;
        let mut names: Vec<_> = request.names.iter().map(ToString::to_string).collect();
        names.sort();
        let parts = [
            request.caller.identity.to_string(),
            issuer.id().to_string(),
            issuer.certificate_id().to_string(),
            request.profile.clone(),
            hex(&request.csr.public_key().fingerprint()),
            request.ttl.map_or(0, |ttl| ttl.as_secs()).to_string(),
            names.join(" "),
        ];
        // Lengths, so that no two requests have one text.
        let text: String = parts
            .iter()
            .map(|part| format!("{}:{part}", part.len()))
            .collect();
        Ok(format!("ca|{domain}|{}|", hex(&sha256(text.as_bytes()))))
    }
}

/// The number of the newest record of `series` if it still answers a request, or the one after it.
/// `rows` are newest first.
fn next_number(rows: &[CertificateRow], series: &str, now: UnixTime) -> u64 {
    let newest = rows.iter().find_map(|row| {
        let number = row.idempotency_key.as_deref()?.strip_prefix(series)?;
        Some((row, number.parse::<u64>().ok()?))
    });
    match newest {
        None => 0,
        Some((row, number)) => {
            let (Some(from), Some(to)) = (row.not_before, row.not_after) else {
                return number + 1;
            };
            let is_in_first_half = to.since(now) > to.since(from) / 2;
            // One that failed is signed again under its number.
            match is_in_first_half || (row.state != State::Issued && now < to) {
                true => number,
                false => number + 1,
            }
        }
    }
}
