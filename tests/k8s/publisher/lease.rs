//! One writer among several.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;

use super::{Cluster, ISTIO, PATIENCE, published, stands};
use rootbridge_test_support::eventually;

impl Cluster {
    async fn lease(&self) -> LeaseSpec {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), "rootbridge");
        let lease = api.get("rootbridge-publisher").await.unwrap();
        lease.spec.unwrap()
    }
}

/// Seconds since the epoch.
fn renewed(lease: &LeaseSpec) -> i64 {
    lease.renew_time.as_ref().unwrap().0.as_second()
}

fn end(lease: &LeaseSpec) -> i64 {
    renewed(lease) + i64::from(lease.lease_duration_seconds.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writes_and_another_takes_over() {
    let cluster = Cluster::of_chart().await;
    // Two CAs with bundles of their own, so that it shows who has written.
    let (one, two) = (cluster.setup(ISTIO), cluster.setup(ISTIO));
    two.edit("name = \"test-0\"", "name = \"test-1\"");
    let (first, second) = (published(&one), published(&two));
    assert_ne!(first, second);

    let mut leader = one.serve().await;
    stands(&one, &leader, "the first writes", |status| {
        status["in_step"] == 5
    })
    .await;
    let follower = two.serve().await;
    stands(&two, &follower, "the second waits", |status| {
        status["writer"]["state"] == "other" && status["writer"]["holder"] == "test-0"
    })
    .await;
    // The holder renews the Lease, past the end of the one that the second saw.
    let seen = cluster.lease().await;
    eventually(PATIENCE, "it is renewed", async || {
        renewed(&cluster.lease().await) > end(&seen)
    })
    .await;
    assert_eq!(cluster.pem("default").await.as_ref(), Some(&first));
    assert_eq!(super::status(&two, &follower)["writes"], 0);

    // Killed, it gives nothing up: the other waits for the Lease to run out.
    leader.kill();
    let held = cluster.lease().await;
    cluster.has("default", &second, PATIENCE).await;
    let taken = cluster.lease().await;
    assert!(
        taken.acquire_time.as_ref().unwrap().0.as_second() >= end(&held),
        "before the Lease ran out: {held:?} {taken:?}"
    );

    // Stopped in order, it gives the Lease up.
    let leader = one.serve().await;
    stands(&one, &leader, "the first waits now", |status| {
        status["writer"]["holder"] == "test-1"
    })
    .await;
    follower.stop().await;
    assert_ne!(
        cluster.lease().await.holder_identity.as_deref(),
        Some("test-1")
    );
    cluster.has("default", &first, PATIENCE).await;
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_namespace_no_instance_writes() {
    let cluster = Cluster::of_chart().await;
    let target = ISTIO.replace("[publisher]", "[publisher]\nlease_namespace = \"nowhere\"");
    let setup = cluster.setup(&target);
    let server = setup.serve().await;
    let status = stands(&setup, &server, "no lease", |status| {
        status["writer"]["state"] == "unreachable"
            && status["writer"]["why"]
                .as_str()
                .is_some_and(|why| why.contains("nowhere"))
    })
    .await;
    assert_eq!(cluster.pem("default").await, None, "{status}");
    server.stop().await;
}
