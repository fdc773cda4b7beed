//! Renewal by certificate: the account, and the pod where it is known, must still exist.

use rootbridge::authn::{AuthnError, Caller, Identity, Method, Pod};
use rootbridge::clock::UnixTime;
use rootbridge::x509::{Serial, SpiffeId, TrustDomain};
use rootbridge_test_support::{PATIENCE, eventually};

use crate::fake_api_server::{Answer, FakeApiServer};
use crate::fixture::{ACCOUNT, Fixture, ISSUER, POD, account, pod};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn holder(of_pod: Option<&str>) -> Caller {
    Caller {
        trust_domain: TrustDomain::parse("td").unwrap(),
        identity: Identity::Workload(SpiffeId::parse("spiffe://td/ns/shop/sa/cart").unwrap()),
        method: Method::Certificate {
            serial: Serial::new(NOW),
            issuer_key_id: None,
        },
        cluster: Some("east".to_owned()),
        pod: of_pod.map(|uid| Pod {
            name: "cart-0".to_owned(),
            uid: uid.to_owned(),
            namespace: "shop".to_owned(),
        }),
        node: None,
        token_authenticated_at: Some(NOW),
    }
}

async fn rejected(fixture: &Fixture, caller: &Caller, what: &str) {
    let error = fixture.clusters.check_renewal(caller).await.unwrap_err();
    let AuthnError::Rejected { reason } = &error else {
        panic!("{error:?}")
    };
    let says = format!("its {what} is gone from cluster east");
    assert!(reason.contains(&says), "{reason}");
}

/// By the index, and by the API server where there is none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_renews_nothing() {
    for (mode, has_index) in [("authenticate = 'offline'", true), ("", false)] {
        let fake = FakeApiServer::start(ISSUER).await;
        let fixture = Fixture::new(&[("east", &fake, mode)]).await;
        let cluster = fixture.cluster("east");
        assert_eq!(cluster.index().is_some(), has_index);
        if let Some(index) = cluster.index() {
            eventually(PATIENCE, "listed", async || {
                index.time_since_contact().is_some()
            })
            .await;
        }
        rejected(&fixture, &holder(None), "account").await;
        fake.accounts.add(account("shop", "cart", ACCOUNT));
        if let Some(index) = cluster.index() {
            eventually(PATIENCE, "the account", async || {
                index.account("shop", "cart").is_some()
            })
            .await;
        }
        fixture.clusters.check_renewal(&holder(None)).await.unwrap();
        rejected(&fixture, &holder(Some(POD)), "pod").await;
        // Another pod of that name.
        fake.pods.add(pod("shop", "cart-0", ACCOUNT, "cart", "n1"));
        if let Some(index) = cluster.index() {
            eventually(PATIENCE, "the pod", async || {
                index.pod("shop", "cart-0").is_some()
            })
            .await;
        }
        rejected(&fixture, &holder(Some(POD)), "pod").await;
        let same = holder(Some(ACCOUNT));
        fixture.clusters.check_renewal(&same).await.unwrap();
    }
}

/// `reauthenticate_after` bounds the certificate where the cluster cannot be asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_asked_decides_nothing() {
    let fake = FakeApiServer::start(ISSUER).await;
    let fixture = Fixture::new(&[("east", &fake, "")]).await;
    for status in [401, 403, 500] {
        *fake.objects.lock().unwrap() = Some(Answer::Status(status));
        fixture.clusters.check_renewal(&holder(None)).await.unwrap();
    }
    let elsewhere = Caller {
        cluster: Some("west".to_owned()),
        ..holder(None)
    };
    fixture.clusters.check_renewal(&elsewhere).await.unwrap();
    *fake.objects.lock().unwrap() = Some(Answer::Status(404));
    rejected(&fixture, &holder(None), "account").await;
}
