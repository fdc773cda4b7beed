//! A node's proxy requests certificates for the workloads of its node.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rootbridge::authn::{Caller, Method};
use rootbridge::cluster::NodeAuthorizationError;
use rootbridge::policy::NotAuthorized;
use serde_json::json;

use rootbridge_test_support::{PATIENCE, eventually};

use crate::fake_api_server::{Answer, FakeApiServer};
use crate::fixture::{ACCOUNT, Fixture, ISSUER, POD, accepted, account, pod, token};

const CART: &str = "spiffe://td/ns/shop/sa/cart";
const NODES: &str = "node_accounts = ['istio-system/ztunnel']\nwatch_silence = '10s'\n\
                     namespaces = ['istio-system', 'shop']";

/// A cluster with a proxy on `n1`, and the caller that the proxy's token is.
async fn ready(fake: &FakeApiServer) -> (Fixture, Caller) {
    fake.pods
        .add(pod("istio-system", "ztunnel-1", POD, "ztunnel", "n1"));
    let Answer::Json(mut review) = accepted("istio-system:ztunnel") else {
        panic!("no review");
    };
    review["status"]["user"]["extra"] = json!({
        "authentication.kubernetes.io/pod-name": ["ztunnel-1"],
        "authentication.kubernetes.io/pod-uid": [POD],
        "authentication.kubernetes.io/node-name": ["n1"],
    });
    fake.set_review(Answer::Json(review));
    let fixture = Fixture::new(&[("east", fake, NODES), ("west", fake, "")]).await;
    let cluster = fixture.cluster("east");
    eventually(PATIENCE, "the index", async || {
        cluster.index().unwrap().time_since_contact().is_some()
    })
    .await;
    let caller = fixture.ask("east", &token()).await.unwrap();
    (fixture, caller)
}

async fn refused(fixture: &Fixture, caller: &Caller, asked: &str) -> NotAuthorized {
    match fixture
        .clusters
        .authorize_node(caller, asked)
        .await
        .unwrap_err()
    {
        NodeAuthorizationError::Refused(why) => why,
        NodeAuthorizationError::Unavailable(why) => panic!("{asked}: {why}"),
    }
}

/// Without a wait for a pod that could still appear.
fn refused_at_once(fixture: &Fixture, caller: &Caller, asked: &str) -> NotAuthorized {
    let refused = refused(fixture, caller, asked).now_or_never();
    refused.expect("without waiting")
}

#[tokio::test]
async fn a_pod_that_was_just_created_is_waited_for() {
    let fake = FakeApiServer::start(ISSUER).await;
    fake.accounts.add(account("shop", "cart", ACCOUNT));
    let (fixture, caller) = ready(&fake).await;
    eventually(PATIENCE, "a watch", async || {
        fake.pods.watches.load(std::sync::atomic::Ordering::SeqCst) > 0
    })
    .await;
    let comes = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fake.pods.add(pod("shop", "cart-0", "u", "cart", "n1"));
    };
    let (delegation, ()) = tokio::join!(fixture.clusters.authorize_node(&caller, CART), comes);
    assert_eq!(delegation.unwrap().identity().as_str(), CART);
    // The next one finds it at once.
    let found = fixture.clusters.authorize_node(&caller, CART);
    found.now_or_never().expect("without waiting").unwrap();
}

#[tokio::test]
async fn only_pods_of_the_node_are_neighbours() {
    let fake = FakeApiServer::start(ISSUER).await;
    fake.accounts.add(account("shop", "cart", ACCOUNT));
    let (fixture, caller) = ready(&fake).await;
    fake.pods.add(pod("shop", "cart-0", "u", "cart", "n2"));
    let started = Instant::now();
    let why = refused(&fixture, &caller, CART).await;
    assert!(matches!(why, NotAuthorized::NotOnNode { .. }), "{why}");
    let waited = started.elapsed();
    assert!(
        waited > Duration::from_secs(1) && waited < PATIENCE,
        "{waited:?}"
    );
}

/// A proxy fetches few certificates at a time: forty names that no pod can have take no turn of the others.
#[tokio::test]
async fn an_account_that_does_not_exist_is_hardly_waited_for() {
    let fake = FakeApiServer::start(ISSUER).await;
    fake.accounts.add(account("shop", "cart", ACCOUNT));
    let (fixture, caller) = ready(&fake).await;
    let started = Instant::now();
    for n in 0..3 {
        let asked = format!("spiffe://td/ns/shop/sa/nobody-{n}");
        let why = refused(&fixture, &caller, &asked).await;
        assert!(matches!(why, NotAuthorized::NotOnNode { .. }), "{why}");
    }
    let without = started.elapsed();
    let started = Instant::now();
    let why = refused(&fixture, &caller, CART).await;
    assert!(matches!(why, NotAuthorized::NotOnNode { .. }), "{why}");
    let with = started.elapsed();
    assert!(
        without < with,
        "{without:?} for three, {with:?} for one that exists"
    );
}

/// Pods as no API server has them: none of them is the account beside the proxy.
#[tokio::test]
async fn pods_with_odd_names_are_not_neighbours() {
    let fake = FakeApiServer::start(ISSUER).await;
    let (fixture, caller) = ready(&fake).await;
    let odd = [
        "",
        "*",
        "cart ",
        "Cart",
        "cart\0",
        "cart\n",
        "cart/",
        "cart,cart",
        "c\u{430}rt",
    ];
    for (n, account) in odd.into_iter().enumerate() {
        fake.pods
            .add(pod("shop", &format!("a-{n}"), "u", account, "n1"));
        let namespace = account.replace("cart", "shop").replace("Cart", "Shop");
        fake.pods.add(pod(&namespace, "cart-0", "u", "cart", "n1"));
        let node = account.replace("cart", "n1").replace("Cart", "N1");
        fake.pods
            .add(pod("shop", &format!("b-{n}"), "u", "cart", &node));
    }
    let cluster = fixture.cluster("east");
    let all = 1 + 3 * odd.len();
    eventually(PATIENCE, "all of them", async || {
        cluster.index().unwrap().counts().0 == all
    })
    .await;
    let why = refused(&fixture, &caller, CART).await;
    assert!(matches!(why, NotAuthorized::NotOnNode { .. }), "{why}");
    fake.pods.add(pod("shop", "cart-0", "u", "cart", "n1"));
    fixture
        .clusters
        .authorize_node(&caller, CART)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_no_event_can_change_is_refused_at_once() {
    let fake = FakeApiServer::start(ISSUER).await;
    let (fixture, caller) = ready(&fake).await;
    fake.pods.add(pod("shop", "cart-0", "u", "cart", "n1"));
    for asked in [
        "spiffe://other/ns/shop/sa/cart",
        "spiffe://td/ns/bank/sa/cart",
        "spiffe://td/ns/shop/sa/cart/",
        "spiffe://td/ns/shop",
        "spiffe://a,evil.example,b/ns/x/sa/y",
        "spiffe://td/ns/shop/sa/*",
        "shop/cart",
        "",
        "spiffe://td/ns/shop/sa/cart\0",
        "spiffe://td/ns/shop/sa/cart\n",
        " spiffe://td/ns/shop/sa/cart",
        "spiffe://td/ns/shop/sa/cart,spiffe://td/ns/istio-system/sa/ztunnel",
        "spiffe://td/ns/bank/../shop/sa/cart",
        "spiffe://td/ns/shop/sa/%63art",
        "spiffe://td/ns/shop/sa/cart?x",
        "spiffe://td/ns/shop/sa/cart#x",
        "spiffe://td:443/ns/shop/sa/cart",
        "spiffe://u@td/ns/shop/sa/cart",
        "spiffe://TD/ns/shop/sa/cart",
        "SPIFFE://td/ns/shop/sa/cart",
        "spiffe://td/ns/shop+bank/sa/cart",
        "spiffe://td/ns/sh\u{43e}p/sa/cart",
        &format!("spiffe://td/ns/shop/sa/{}", "a".repeat(254)),
        &format!("spiffe://td/{}", "ns/".repeat(1 << 18)),
    ] {
        let why = refused_at_once(&fixture, &caller, asked);
        assert!(!why.is_transient(), "{asked:.100}: {why}");
        let text = why.to_string();
        assert!(
            !text.chars().any(char::is_control) && text.len() < 1000,
            "{text:?}"
        );
    }
    // Of all that makes the caller a node's proxy, nothing may be missing.
    let mut other = caller.clone();
    other.cluster = Some("west".to_owned());
    assert!(matches!(
        refused_at_once(&fixture, &other, CART),
        NotAuthorized::NotListed(_)
    ));
    let mut other = caller.clone();
    other.method = Method::Jwt {
        verifier: "v".to_owned(),
        issuer: ISSUER.to_owned(),
        key_id: None,
    };
    assert!(matches!(
        refused_at_once(&fixture, &other, CART),
        NotAuthorized::NoCluster
    ));
    let mut other = caller.clone();
    other.pod = None;
    assert!(matches!(
        refused_at_once(&fixture, &other, CART),
        NotAuthorized::Unbound
    ));
    let mut other = caller.clone();
    other.node = Some("n2".to_owned());
    assert!(matches!(
        refused_at_once(&fixture, &other, CART),
        NotAuthorized::OtherNode(_)
    ));
    let mut other = caller;
    other.pod.as_mut().unwrap().uid = "another".to_owned();
    assert!(matches!(
        refused(&fixture, &other, CART).await,
        NotAuthorized::NoPod(_)
    ));
}

#[tokio::test]
async fn an_outdated_index_is_unavailable() {
    let fake = FakeApiServer::start(ISSUER).await;
    let (fixture, caller) = ready(&fake).await;
    fake.pods.add(pod("shop", "cart-0", "u", "cart", "n1"));
    fake.pods
        .deaf
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let cluster = fixture.cluster("east");
    eventually(PATIENCE, "silence", async || {
        cluster.index().unwrap().time_since_contact().unwrap() > Duration::from_secs(10)
    })
    .await;
    let verdict = fixture.clusters.authorize_node(&caller, CART).await;
    assert!(matches!(
        verdict,
        Err(NodeAuthorizationError::Unavailable(_))
    ));
}
