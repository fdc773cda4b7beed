#![allow(clippy::unwrap_used)]

use super::*;
use crate::authn::Pod;
use crate::x509::{SpiffeId, TrustDomain};

fn caller(account: &str, pod: Option<&str>, cluster: &str) -> Caller {
    let id = SpiffeId::parse(&format!("spiffe://td/ns/shop/sa/{account}")).unwrap();
    Caller {
        identity: Identity::Workload(id),
        method: Method::TokenReview,
        cluster: Some(cluster.to_owned()),
        pod: pod.map(|uid| Pod {
            name: uid.to_owned(),
            uid: uid.to_owned(),
            namespace: "shop".to_owned(),
        }),
        ..Caller::local(TrustDomain::parse("td").unwrap(), "test")
    }
}

fn limited(text: &str) -> Admission {
    let raw: RawAdmission = toml::from_str(text).unwrap();
    let admission = Admission::default();
    admission.configure(&AdmissionConfig::try_from(raw).unwrap());
    admission
}

#[test]
fn a_thousand_pods_of_one_account_start_at_once() {
    let by_pod = Admission::default();
    let pods: Vec<_> = (0..1000)
        .map(|n| by_pod.admit(&caller("cart", Some(&format!("p{n}")), "east"), false))
        .collect();
    assert!(pods.iter().all(Result::is_ok), "known by their pods");
    let by_account = Admission::default();
    let cart = caller("cart", None, "east");
    let pods: Vec<_> = (0..1000).map(|_| by_account.admit(&cart, false)).collect();
    assert!(
        pods.iter().all(Result::is_ok),
        "known by their account only"
    );
}

#[test]
fn a_pod_that_asks_too_much_is_limited_and_no_other() {
    let admission = limited("pod = { per_second = 1, burst = 3, concurrency = 2 }");
    let noisy = caller("cart", Some("p1"), "east");
    let held = [0, 1].map(|_| admission.admit(&noisy, false).unwrap());
    let error = admission.admit(&noisy, false).unwrap_err();
    assert_eq!((error.whose, error.what), (Whose::Pod, What::Concurrency));
    // A refusal holds nothing, and its place is free again once the others have ended.
    drop(held);
    drop(admission.admit(&noisy, false).unwrap());
    let error = admission.admit(&noisy, false).unwrap_err();
    assert_eq!((error.whose, error.what), (Whose::Pod, What::Rate));
    assert!(error.retry_after <= Duration::from_secs(1) && !error.retry_after.is_zero());
    let text = error.to_string();
    assert!(
        text.starts_with("the caller's pod requests more than admission.pod.per_second allows"),
        "{text}"
    );
    for other in [
        caller("cart", Some("p2"), "east"),
        caller("cart", Some("p1"), "west"),
        caller("till", Some("p1"), "east"),
        caller("cart", None, "east"),
    ] {
        drop(admission.admit(&other, false).unwrap());
    }
    // For the workloads of its node it has another limit.
    drop(admission.admit(&noisy, true).unwrap());
    assert!(admission.in_progress().is_empty());
}

#[test]
fn a_cluster_has_a_limit_that_its_refused_callers_do_not_use_up() {
    let admission =
        limited("cluster = { per_second = 1, burst = 5, concurrency = 10 }\npod = { burst = 1 }");
    let noisy = caller("cart", Some("p1"), "east");
    let admitted = (0..50).filter(|_| admission.admit(&noisy, false).is_ok());
    assert_eq!(admitted.count(), 1);
    let mut pods = (2..50).map(|n| caller("cart", Some(&format!("p{n}")), "east"));
    let admitted = pods
        .by_ref()
        .take(10)
        .filter(|pod| admission.admit(pod, false).is_ok());
    assert_eq!(admitted.count(), 4);
    let error = admission.admit(&pods.next().unwrap(), false).unwrap_err();
    assert_eq!((error.whose, error.what), (Whose::Cluster, What::Rate));
    admission
        .admit(&caller("cart", Some("p1"), "west"), false)
        .unwrap();
    assert!(admission.in_progress().is_empty());
}

#[test]
fn this_server_itself_is_not_limited() {
    let admission = limited("cluster = { burst = 1, concurrency = 1 }\nidentity = { burst = 1 }");
    let own = Caller::local(TrustDomain::parse("td").unwrap(), "listener");
    let held: Vec<_> = (0..10).map(|_| admission.admit(&own, false)).collect();
    assert!(held.iter().all(Result::is_ok));
}
