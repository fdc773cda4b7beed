//! Fills a ledger with the rows that a month of issuance leaves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream;
use rootbridge::clock::{Clock as _, SystemClock, UnixTime};
use rootbridge::ledger::{
    CallerMethod, CallerRecord, Epoch, Intent, IssuerId, Kind, Ledger as _, OpenMode, Outcome,
    Record, Sqlite,
};
use rootbridge::x509::{Certificate, Serial, SignatureAlgorithm, TrustDomain};

use crate::requests::TRUST_DOMAIN;

/// Fills the ledger's write batches.
const CONCURRENT: usize = 1_024;

/// Records and concludes `rows` certificates of `issuing`, through the calls that issuance uses.
pub(crate) async fn fill(path: &Path, issuing: &Certificate, rows: u64) -> Result<()> {
    let ledger = Sqlite::open(path, OpenMode::Server, Arc::new(SystemClock)).await?;
    let now = SystemClock.now();
    let epoch = ledger
        .register("bench-rows", Duration::from_secs(3_600), now)
        .await?;
    let trust_domain = TrustDomain::parse(TRUST_DOMAIN)?;
    let issuer = IssuerId::of_spki(issuing.public_key().spki_der());
    let ledger = &ledger;
    let mut running = stream::iter(0..rows)
        .map(|n| {
            let intent = intent(n, rows, &trust_domain, &issuer, &epoch, now);
            async move {
                if let Record::New(id) = ledger.record(intent?).await? {
                    let signature = vec![0x30; 71];
                    ledger.conclude(id, Outcome::Issued { signature }).await?;
                }
                anyhow::Ok(())
            }
        })
        .buffer_unordered(CONCURRENT);
    while let Some(result) = running.next().await {
        result?;
    }
    ledger.close().await;
    Ok(())
}

/// The `n`th of `rows` certificates, issued evenly over the thirty days before `now`.
fn intent(
    n: u64,
    rows: u64,
    trust_domain: &TrustDomain,
    issuer: &IssuerId,
    epoch: &Epoch,
    now: UnixTime,
) -> Result<Intent> {
    const MONTH: u64 = 30 * 86_400;
    let age = MONTH.saturating_sub(MONTH.saturating_mul(n) / rows.max(1));
    let at = now.minus(Duration::from_secs(age));
    let namespace = format!("ns-{}", n % 50);
    let subject = format!("spiffe://{trust_domain}/ns/{namespace}/sa/sa-{}", n % 1_000);
    let mut spki_sha256 = [0; 32];
    aws_lc_rs::rand::fill(&mut spki_sha256)
        .ok()
        .context("no random numbers")?;
    let serial = Serial::new(at);
    let mut tbs = vec![0x30; 420];
    tbs.extend_from_slice(serial.as_bytes());
    Ok(Intent {
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
        spki_sha256,
        bundle_digest: Some([7; 32]),
        caller: CallerRecord {
            trust_domain: trust_domain.clone(),
            identity: subject,
            method: CallerMethod::Jwt,
            detail: "cluster iss=https://kubernetes.default.svc.cluster.local kid=bench".to_owned(),
            cluster: None,
            pod: Some(format!(
                "{namespace}/app-{n} 0f8fad5b-d9cb-469f-a165-70867728950e"
            )),
            node: Some("node-1".to_owned()),
            token_authenticated_at: Some(at),
        },
        request_id: format!("{n:016x}"),
        epoch: epoch.clone(),
        idempotency_key: None,
        recorded_at: at,

        lease: None,
    })
}
