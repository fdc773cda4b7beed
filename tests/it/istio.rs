//! Istio's own, unmodified client against the real binary: what it gets, and which errors.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use rootbridge_test_support::TestServer;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::command::run;
use rootbridge_test_support::openssl::{csr, key};

use crate::support::interop::{Answer, Call, calls, driver, issue, workloads};
use crate::support::ledger;

pub(crate) const BAR: &str = "spiffe://cluster.local/ns/foo/sa/bar";
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn now() -> i64 {
    i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap()
}

/// A call that succeeds; tests change what they are about.
pub(crate) fn good(setup: &TestServer, name: &str) -> Call {
    Call {
        name: name.to_owned(),
        token_file: setup.issuer.token_file("foo", "bar", "istio-ca"),
        key: "ecdsa-p256".to_owned(),
        identity: BAR.to_owned(),
        ttl: DAY,
        ..Call::default()
    }
}

fn granted(answer: &Answer) -> i64 {
    assert_eq!(
        (answer.code.as_str(), answer.problem.as_str()),
        ("OK", ""),
        "{answer:?}"
    );
    answer.facts.as_ref().unwrap().not_after - now()
}

#[tokio::test]
async fn every_key_and_lifetime_that_the_contract_allows() {
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    let kinds = ["rsa-2048", "rsa-4096", "ecdsa-p256", "ecdsa-p384"];
    let of = |kind: &&str| Call {
        key: (*kind).to_owned(),
        ..good(&setup, kind)
    };
    let mut list: Vec<Call> = kinds.iter().map(of).collect();
    let lifetimes = [
        (0, DAY),
        (-1, DAY),
        (i64::MIN, DAY),
        (3600, 3600),
        (90 * DAY, 90 * DAY),
    ];
    list.extend(lifetimes.map(|(ttl, _)| Call {
        ttl,
        ..good(&setup, &format!("ttl {ttl}"))
    }));
    let answers = calls(&setup, &list);
    for (answer, lifetime) in answers[kinds.len()..].iter().zip(lifetimes.map(|(_, l)| l)) {
        let got = granted(answer);
        assert!(
            (lifetime - 60..=lifetime).contains(&got),
            "{}: {got} s",
            answer.name
        );
    }
    for answer in &answers {
        granted(answer);
        let facts = answer.facts.as_ref().unwrap();
        assert!(
            (100..=180).contains(&(now() - facts.not_before)),
            "{answer:?}"
        );
        assert_eq!((facts.intermediates, facts.roots), (1, 1), "{answer:?}");
    }
    ledger::verify(&setup, &[]);
}

#[tokio::test]
async fn csr_names_may_be_ignored_for_a_mesh_that_moves() {
    let setup = TestServer::on_fixed_ports();
    setup.edit(
        "backdate = \"2m\"",
        "backdate = \"2m\"\ncsr_names = \"ignore\"",
    );
    let _server = setup.serve().await;
    let old = "spiffe://old.example/ns/foo/sa/bar".to_owned();
    let call = Call {
        identity: old,
        expected: BAR.to_owned(),
        ..good(&setup, "moving")
    };
    granted(&calls(&setup, &[call])[0]);
}

#[tokio::test]
async fn csrs_of_other_makers() {
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    let made = |name: &str, kind: &str, names: &str| {
        let key = key(&setup.path(""), name, kind);
        std::fs::read_to_string(csr(&key, names)).unwrap()
    };
    // As ztunnel asks: P-256, an empty subject, one critical URI SAN.
    let list = vec![
        Call {
            csr: made("ztunnel", "ecdsa-p256", &format!("URI:{BAR}")),
            ..good(&setup, "ztunnel")
        },
        Call {
            csr: made("two", "ecdsa-p256", &format!("URI:{BAR},DNS:evil.example")),
            ..good(&setup, "two")
        },
    ];
    let answers = calls(&setup, &list);
    granted(&answers[0]);
    assert_ne!(answers[1].code, "OK", "{answers:?}");
}

#[tokio::test]
async fn many_certificates_at_once() {
    let setup = TestServer::on_fixed_ports();
    setup.lift_limits();
    let _server = setup.serve().await;
    let callers = workloads(&setup, 32);
    let witness = setup.path("witness");
    let path = witness.to_str().unwrap();
    let mut serials = BTreeSet::new();
    let tenth = rounds(20, 100);
    for (count, kind) in [(9 * tenth, "ecdsa-p256"), (tenth, "rsa-2048")] {
        let number = count.to_string();
        let tally = issue(
            &setup,
            &callers,
            &[
                "-count", &number, "-workers", "32", "-key", kind, "-out", path,
            ],
        );
        assert_eq!(
            (&tally["issued"], &tally["problems"]),
            (&json!(count), &Value::Null),
            "{tally:#}"
        );
        serials.extend(
            tally["serials"]
                .as_array()
                .unwrap()
                .iter()
                .map(ToString::to_string),
        );
    }
    assert_eq!(serials.len(), 10 * tenth);
    let report = ledger::verify(&setup, &[witness]);
    assert_eq!(report["witnessed"], 10 * tenth);
}

#[tokio::test]
async fn the_agents_secret_manager_gets_and_renews() {
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    for flags in [&["-ecdsa"][..], &[]] {
        let token = setup.issuer.token_file("foo", "bar", "istio-ca");
        run(driver("agent", &setup)
            .arg("-token-file")
            .arg(token)
            .args(["-namespace", "foo", "-service-account", "bar"])
            .args(flags));
    }
}

/// A VM's renewal: no token any more, but the certificate that this CA gave before.
#[tokio::test]
async fn renewal_by_certificate() {
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    let first = calls(&setup, &[good(&setup, "by token")]).remove(0);
    granted(&first);
    let chain = first.chain.as_ref().unwrap();
    let (cert_file, key_file) = (setup.path("vm.pem"), setup.path("vm.key"));
    std::fs::write(&cert_file, chain[..chain.len() - 1].concat()).unwrap();
    std::fs::write(&key_file, &first.key).unwrap();
    let by_certificate = Call {
        token_file: PathBuf::new(),
        cert_file,
        key_file,
        ..good(&setup, "by certificate")
    };
    let other = Call {
        identity: "spiffe://cluster.local/ns/foo/sa/evil".to_owned(),
        ..by_certificate.clone()
    };
    let answers = calls(&setup, &[by_certificate, other]);
    granted(&answers[0]);
    assert_ne!(answers[1].code, "OK", "{answers:?}");
    assert_ne!(
        first.facts.unwrap().serial,
        answers[0].facts.as_ref().unwrap().serial
    );
}
