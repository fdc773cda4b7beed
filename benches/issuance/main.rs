//! Steps of issuance, each by itself: `cargo bench`. `rootbridge-bench` measures the whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod authority;
mod caller;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rootbridge::authn::{Api, JwtVerifiers};
use rootbridge::clock::{Clock, SystemClock};
use rootbridge::ledger::{Ledger, OpenMode, Outcome, Record, Sqlite};
use rootbridge::x509::{
    Certificate, CertificateSpec, Csr, ExtendedKeyUsage, Serial, SignatureAlgorithm, SubjectSpec,
    assemble, check_issued,
};
use tokio::runtime::Runtime;

use authority::Authority;

/// Concurrent callers of the ledger.
const CONCURRENT: u64 = 64;

fn x509(bench: &mut Criterion) {
    let pem = caller::csr();
    bench.bench_function("csr: parse and proof of possession", |b| {
        b.iter(|| Csr::from_pem(black_box(pem.as_bytes())).unwrap());
    });

    let csr = Csr::from_pem(pem.as_bytes()).unwrap();
    let authority = Authority::new();
    let now = SystemClock.now();
    let spec = CertificateSpec {
        serial: Serial::new(now),
        issuer: Arc::clone(&authority.identity),
        not_before: now,
        not_after: now.plus(Duration::from_secs(86_400)),
        names: csr.names().to_vec(),
        public_key: csr.public_key().clone(),
        subject: SubjectSpec::EndEntity(ExtendedKeyUsage::SERVER_AND_CLIENT),
    };
    bench.bench_function("tbs: build", |b| {
        b.iter(|| black_box(&spec).to_tbs().unwrap());
    });

    let tbs = spec.to_tbs().unwrap();
    let signature = authority.sign(&tbs);
    let der = assemble(&tbs, SignatureAlgorithm::EcdsaSha256, &signature).unwrap();
    bench.bench_function("check: parse again, compare, verify", |b| {
        b.iter(|| {
            let known = Some(csr.public_key());
            let certificate = Certificate::parse_with_key(black_box(der.clone()), known).unwrap();
            check_issued(&certificate, &tbs, &spec).unwrap();
        });
    });
}

fn jwt(bench: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (config, token) = caller::verifier_and_token(directory.path(), SystemClock.now());
    let _inside = runtime.enter();
    let verifiers = JwtVerifiers::new(&config, Arc::new(SystemClock));
    let allowed = ["cluster".to_owned()];
    bench.bench_function("jwt: RS256, 2048 bits", |b| {
        b.iter(|| {
            let caller = verifiers.authenticate(black_box(&token), Api::Istio, &allowed);
            runtime.block_on(caller).unwrap()
        });
    });
}

fn ledger(bench: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    // Not on a file system in memory, where a sync costs nothing.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("ledger.db");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (ledger, sample) = runtime.block_on(async {
        let ledger = Sqlite::open(&path, OpenMode::Server, clock).await.unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let sample = Authority::new().intent(ledger.as_ref()).await;
        (ledger, sample)
    });
    let mut group = bench.benchmark_group("ledger");
    group.throughput(Throughput::Elements(CONCURRENT));
    group.bench_function(
        format!("record and conclude, {CONCURRENT} concurrent callers"),
        |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let callers: Vec<_> = (0..CONCURRENT)
                        .map(|_| {
                            let (ledger, mut intent) = (Arc::clone(&ledger), sample.clone());
                            intent.serial = Some(Serial::new(intent.recorded_at));
                            tokio::spawn(async move {
                                let Record::New(id) = ledger.record(intent).await.unwrap() else {
                                    panic!("a serial number was used twice");
                                };
                                let signature = vec![0x30; 71];
                                ledger
                                    .conclude(id, Outcome::Issued { signature })
                                    .await
                                    .unwrap();
                            })
                        })
                        .collect();
                    for caller in callers {
                        caller.await.unwrap();
                    }
                });
            });
        },
    );
    group.finish();
    runtime.block_on(ledger.close());
}

criterion_group!(steps, x509, jwt, ledger);
criterion_main!(steps);
