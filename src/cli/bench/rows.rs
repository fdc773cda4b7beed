//! A ledger that has seen something: rows as long issuance would have left them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::place::{TRUST_DOMAIN, failed};
use crate::cli::failure::{Exit, Failure};
use crate::clock::Clock;
use crate::ledger::{
    CallerMethod, CallerRecord, Epoch, Intent, IssuerId, Kind, Ledger, LedgerError, Outcome, Record,
};
use crate::x509::{Certificate, Serial, SignatureAlgorithm, TrustDomain};

/// Enough at a time to fill the writer's batches.
const AT_ONCE: usize = 1_024;

/// Records and concludes `rows` certificates, through the same calls as issuance.
pub(super) async fn fill(
    ledger: &Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    issuing: &Certificate,
    rows: u64,
) -> Result<(), Failure> {
    let now = clock.now();
    let epoch = ledger
        .register("bench-rows", Duration::from_secs(3_600), now)
        .await
        .map_err(of_ledger)?;
    let trust_domain = TrustDomain::parse(TRUST_DOMAIN).map_err(|e| failed(e.to_string()))?;
    let issuer = IssuerId::of_spki(issuing.public_key().spki_der());
    let mut running = stream::iter(0..rows)
        .map(|n| {
            let intent = intent(n, rows, &trust_domain, &issuer, &epoch, clock.as_ref());
            let ledger = Arc::clone(ledger);
            async move {
                match ledger.record(intent).await? {
                    Record::New(id) => {
                        let signature = vec![0x30; 71];
                        ledger.conclude(id, Outcome::Issued { signature }).await
                    }
                    Record::Existing { .. } => Ok(()),
                }
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(done) = running.next().await {
        done.map_err(of_ledger)?;
    }
    Ok(())
}

/// The `n`th of `rows` certificates, which were issued evenly over the last thirty days.
fn intent(
    n: u64,
    rows: u64,
    trust_domain: &TrustDomain,
    issuer: &IssuerId,
    epoch: &Epoch,
    clock: &dyn Clock,
) -> Intent {
    const MONTH: u64 = 30 * 86_400;
    let age = MONTH.saturating_sub(MONTH.saturating_mul(n) / rows.max(1));
    let at = clock.now().minus(Duration::from_secs(age));
    let subject = format!(
        "spiffe://{trust_domain}/ns/ns-{}/sa/sa-{}",
        n % 50,
        n % 1_000
    );
    let mut spki = [0; 32];
    let _ = aws_lc_rs::rand::fill(&mut spki);
    let serial = Serial::new(at);
    let mut tbs = vec![0x30; 420];
    tbs.extend_from_slice(serial.as_bytes());
    Intent {
        kind: Kind::Leaf,
        issuer: issuer.clone(),
        ca_certificate: None,
        serial: Some(serial),
        tbs,
        algorithm: SignatureAlgorithm::EcdsaSha256,
        not_before: Some(at),
        not_after: Some(at.plus(Duration::from_secs(86_400))),
        subject: subject.clone(),
        profile: "workload".to_owned(),
        spki_sha256: spki,
        bundle_digest: Some([7; 32]),
        caller: CallerRecord {
            trust_domain: trust_domain.clone(),
            identity: subject,
            method: CallerMethod::Jwt,
            detail: "cluster iss=https://kubernetes.default.svc.cluster.local kid=bench".to_owned(),
            cluster: None,
            pod: Some(format!(
                "ns-{}/app-{n} 0f8fad5b-d9cb-469f-a165-70867728950e",
                n % 50
            )),
            node: Some("node-1".to_owned()),
            token_authenticated_at: Some(at),
        },
        request_id: format!("{n:016x}"),
        epoch: epoch.clone(),
        idempotency_key: None,
        recorded_at: at,
    }
}

fn of_ledger(error: LedgerError) -> Failure {
    Failure::new(Exit::Ledger, error.to_string())
}
