#![allow(clippy::unwrap_used)]
use std::path::Path;

use super::*;
use crate::clock::SystemClock;
use crate::x509::TrustDomain;

fn root() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn bundle(sequence: u64, roots: &[&Vec<u8>]) -> TrustBundle {
    let roots = roots.iter().map(|root| (*root).clone()).collect();
    TrustBundle::new(TrustDomain::parse("td").unwrap(), sequence, roots).unwrap()
}

fn agent(directory: &Path) -> Agent {
    let raw = RawAgent {
        server: "https://ca.example:8443".to_owned(),
        ca_file: directory.join("ca.pem"),
        trust_domain: "td".to_owned(),
        state_file: directory.join("state/bundle.json"),
        token_file: Some(directory.join("token")),
        certificate_file: None,
        key_file: None,
        instance: None,
    };
    Agent {
        config: AgentConfig::try_from(raw).unwrap(),
        connect: Box::new(|_| Box::pin(async { Err("nobody is there".to_owned()) })),
        bundles: Arc::default(),
        distribution: Arc::default(),
        targets: Vec::new(),
        clock: Arc::new(SystemClock),
    }
}

fn published(agent: &Agent) -> Option<TrustBundle> {
    let current = agent.bundles.current(agent.config.trust_domain());
    current.map(|current| current.bundle.clone())
}

#[test]
fn no_older_bundle_is_taken_over_a_restart_either() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (root(), root());
    let first = agent(directory.path());
    first.restore().unwrap();
    assert_eq!(published(&first), None);
    let both = bundle(7, &[&one, &two]);
    for next in [bundle(3, &[&one]), both.clone(), both.clone()] {
        first.take(next.clone()).unwrap();
        assert_eq!(published(&first), Some(next));
    }
    for _ in 0..2 {
        let again = agent(directory.path());
        again.restore().unwrap();
        assert_eq!(published(&again), Some(both.clone()));
        let older = again.take(bundle(6, &[&one])).unwrap_err();
        assert!(older.contains("bundle 6 is older than 7"), "{older}");
        let other = again.take(bundle(7, &[&one])).unwrap_err();
        assert!(other.contains("is another than the one"), "{other}");
        let domain = TrustDomain::parse("elsewhere").unwrap();
        let foreign = TrustBundle::new(domain, 9, vec![one.clone()]).unwrap();
        let foreign = again.take(foreign).unwrap_err();
        assert!(foreign.contains("a bundle of elsewhere"), "{foreign}");
        assert_eq!(published(&again), Some(both.clone()));
    }
}

#[test]
fn a_damaged_file_is_named_and_no_bundle_is_made_up() {
    let directory = tempfile::tempdir().unwrap();
    let one = root();
    let first = agent(directory.path());
    first.take(bundle(3, &[&one])).unwrap();
    let file = first.config.state_file();
    let good = std::fs::read_to_string(file).unwrap();
    for (damaged, why) in [
        (String::new(), "EOF"),
        (good.replace("\"td\"", "\"other\""), "it is of other"),
        (
            good.replace("\"sequence\":3", "\"sequence\":-3"),
            "invalid value",
        ),
        (
            good.replace(&crate::digest::hex(&bundle(3, &[&one]).digest()), "00"),
            "its digest is another",
        ),
    ] {
        assert_ne!(damaged, good);
        std::fs::write(file, damaged).unwrap();
        let again = agent(directory.path());
        let said = again.restore().unwrap_err().to_string();
        assert!(said.contains(why) && said.contains("delete it"), "{said}");
        assert_eq!(published(&again), None);
    }
}

#[test]
fn a_report_that_says_nothing_new_does_not_differ() {
    let report = |state| AgentReport {
        sequence: 3,
        digest: "00".to_owned(),
        targets: vec![AgentTarget {
            target: "istio".to_owned(),
            state,
            last_edit: None,
        }],
    };
    let holds = |secs| {
        report(AgentTargetState::Holds {
            held_for: Duration::from_secs(secs),
        })
    };
    assert!(!holds(9).differs(&holds(3)));
    // It was changed and repaired in between.
    assert!(holds(0).differs(&report(AgentTargetState::Contested { objects: 1 })));
}
