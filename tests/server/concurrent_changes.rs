//! The CA changes many times during calls, in this process: every answer verifies as a whole.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rootbridge::app::Core;
use rootbridge::authn::{Caller, Identity, Method};
use rootbridge::config::Config;
use rootbridge::issuance::{Authorities, IssuanceRequest, Issued, Metrics, Naming};
use rootbridge::ledger::{IssuerState, Role, Snapshot};
use rootbridge::policy::Scope;
use rootbridge::x509::{Certificate, Csr, SpiffeId, TrustDomain, verify_ca_path};

use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{TD, TestServer};

const INNER: &str = "ROOTBRIDGE_CHANGES_CONFIG";

/// SoftHSM reads its environment once for each process, so the test runs itself in another one.
#[test]
fn an_answer_is_of_one_state_of_the_ca() {
    if let Ok(config) = std::env::var(INNER) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(swap(&config));
    }
    let setup = TestServer::new();
    setup.lift_limits();
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let (root, chain) = (setup.path("root.pem"), setup.path("chain.pem"));
    std::fs::write(&root, enterprise.pem()).unwrap();
    std::fs::write(&chain, enterprise.certify(&csr, 0) + &enterprise.pem()).unwrap();
    let add = ["anchors", "add", root.to_str().unwrap()];
    setup.cli(&[&add[..], &["--trust-domain", TD, "--source", "swap"]].concat());
    setup.cli(&["ca", "import", chain.to_str().unwrap()]);
    let mut inner = Command::new(std::env::current_exe().unwrap());
    let message = run(inner
        .args([
            "concurrent_changes::an_answer_is_of_one_state_of_the_ca",
            "--exact",
            "--nocapture",
        ])
        .env(INNER, setup.config())
        .env("SOFTHSM2_CONF", setup.path("token/softhsm2.conf")));
    assert!(message.contains("1 passed"), "{message}");
}

async fn swap(config: &str) {
    let config = Config::load(config.as_ref()).unwrap();
    let core = Core::open_shared(&config).await.unwrap();
    let domain = TrustDomain::parse(TD).unwrap();
    let (hsm, clock) = (Arc::clone(&core.hsm), Arc::clone(&core.clock));
    hsm.token("main")
        .unwrap()
        .ready(std::time::Duration::from_secs(20))
        .await
        .unwrap();
    let policy = config.policy().policy().clone();
    let authorities = Authorities::new(
        core.pipeline.clone(),
        hsm,
        clock,
        policy,
        Metrics::default(),
    );
    authorities.set_admission(config.admission());
    let authorities = Arc::new(authorities);
    let new = core.ledger.snapshot().await.unwrap();
    let old = before(&new, &core, &domain).await;
    assert!(authorities.refresh(&old).await);

    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (authorities, domain) = (Arc::clone(&authorities), domain.clone());
            let (clock, done) = (Arc::clone(&core.clock), Arc::clone(&done));
            tokio::spawn(async move {
                let csr = KeyAndCsr::workload("foo", "bar");
                let (mut seen, mut answers) = (std::collections::BTreeSet::new(), 0);
                while answers < 25 || !done.load(Ordering::Relaxed) {
                    let issued = authorities.issue(request_for(&domain, &csr)).await.unwrap();
                    let path: Vec<Certificate> = issued.intermediates().cloned().collect();
                    let anchors = issued.bundle().anchors();
                    verify_ca_path(&path, anchors, clock.now()).unwrap();
                    let leaf = issued.certificate();
                    leaf.verify_signed_by(path[0].public_key()).unwrap();
                    assert_eq!(leaf.issuer_der(), path[0].subject_der());
                    seen.insert(issuer_and_bundle(&issued));
                    answers += 1;
                }
                (seen, answers)
            })
        })
        .collect();
    for n in 0..rounds(1_000, 10_000) {
        let records = if n % 2 == 0 { &new } else { &old };
        assert!(authorities.refresh(records).await);
    }
    done.store(true, Ordering::Relaxed);
    let mut seen = std::collections::BTreeSet::new();
    let mut answers = 0;
    for caller in callers {
        let (states, count) = caller.await.unwrap();
        seen.extend(states);
        answers += count;
    }
    assert!(answers >= 100, "{answers} answers");
    assert_eq!(
        seen.len(),
        2,
        "the issuer of one state with the bundle of another"
    );
    core.ledger.close().await;
}

fn issuer_and_bundle(issued: &Issued) -> (String, u64) {
    (issued.issuer().id().to_string(), issued.bundle().sequence())
}

/// The records as they were before the import: the first issuer, the first bundle.
async fn before(now: &Snapshot, core: &Core, domain: &TrustDomain) -> Snapshot {
    let mut old = now.clone();
    let authority = old.authorities.first_mut().unwrap();
    let last = authority
        .issuers
        .iter_mut()
        .rfind(|issuer| issuer.role == Role::Issuing);
    let last = last.unwrap();
    last.state = IssuerState::Pending;
    last.certificates.clear();
    authority.bundle = core.ledger.bundle(domain, Some(1)).await.unwrap();
    old
}

fn request_for(domain: &TrustDomain, csr: &KeyAndCsr) -> IssuanceRequest {
    IssuanceRequest {
        caller: Caller {
            trust_domain: domain.clone(),
            identity: Identity::Workload(SpiffeId::parse(&id("foo", "bar")).unwrap()),
            method: Method::Operator,
            cluster: None,
            pod: None,
            node: None,
            token_authenticated_at: None,
        },
        csr: Csr::from_der(&csr.der).unwrap(),
        profile: String::new(),
        names: Vec::new(),
        ttl: None,
        naming: Naming::Spiffe,
        scope: Scope::CallerName,
        node_authorization: None,
        idempotency_key: None,
        request_id: "moment".to_owned(),
        lease: None,
    }
}
