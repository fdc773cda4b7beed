//! One writer among several.

use std::time::Duration;

use super::{Cluster, ISTIO, PATIENCE, published, stands};

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
    // Longer than the Lease: the holder renews it.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(cluster.pem("default").await.as_ref(), Some(&first));
    assert_eq!(super::status(&two, &follower)["writes"], 0);

    // Killed, it gives nothing up: the other waits for the Lease to run out.
    leader.kill();
    let took = cluster.has("default", &second, PATIENCE).await;
    eprintln!("taken over from a dead one after {took:?}");
    assert!(
        took >= Duration::from_secs(4),
        "before the Lease ran out: {took:?}"
    );

    // Stopped in order, it gives the Lease up.
    let leader = one.serve().await;
    stands(&one, &leader, "the first waits now", |status| {
        status["writer"]["holder"] == "test-1"
    })
    .await;
    follower.stop().await;
    let took = cluster.has("default", &first, PATIENCE).await;
    eprintln!("taken over from one that stopped after {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
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
