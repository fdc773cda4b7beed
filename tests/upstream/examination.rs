//! What becomes of an upstream CA's answers, whatever kind it is of: when a certificate is used, and when
//! it is not.

use std::sync::Arc;

use rootbridge_test_support::{PATIENCE, TestServer, eventually};

use crate::authority::{
    approve, configure, fingerprint, issue, issuers, status, wait_for_problem, wait_for_state,
};
use crate::enterprise::{Bad, Behaviour, Enterprise};

fn enterprise(setup: &TestServer) -> Arc<Enterprise> {
    Enterprise::new(setup.path("enterprise"))
}

/// The first certificate of a new authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_used_once_its_root_is_approved() {
    let setup = TestServer::bare();
    let ca = enterprise(&setup);
    configure(&setup, &ca, "subject = \"Mesh CA\"").await;
    let server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    wait_for_problem(&setup, &server, "rootbridge anchors approve").await;
    assert_eq!(server.get("/readyz").await.0, 503, "an unknown root");

    let listed = setup.cli(&["ca", "list"]);
    assert!(listed.contains("received"), "{listed}");
    let other = fingerprint(&ca.middle.pem());
    let refused = setup.refused(&["anchors", "approve", &other]);
    assert!(
        refused.contains("no request waits for the root"),
        "{refused}"
    );
    let refused = setup.refused(&["anchors", "approve", &other[..20]]);
    assert!(refused.contains("the whole fingerprint"), "{refused}");
    assert_eq!(server.get("/readyz").await.0, 503, "another root");

    approve(&setup, &ca);
    server.ready().await;
    let above = issue(&setup, &server).await;
    assert_eq!(above.len(), 2, "{above:?}");
    assert!(above[0].contains("Mesh CA"), "{above:?}");
    assert!(above[1].contains("middle"), "{above:?}");
    assert_eq!(ca.submissions(), 1, "asked once");
    eventually(PATIENCE, "no request in flight", async || {
        let status = status(&setup, &server).await;
        status["request"].is_null() && status["renewal_at"].is_string()
    })
    .await;
    server.metrics_are_listed().await;
    server.stop().await;
}

/// Pending, a restart in between, refused, pending once more, and issued.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_days_later() {
    let setup = TestServer::bare();
    let ca = enterprise(&setup);
    ca.tell(Behaviour::Pending);
    configure(&setup, &ca, "").await;
    let mut server = setup.start().await;
    let request = wait_for_state(&setup, &server, "pending").await;
    let id = request["request"].as_i64().unwrap();
    let reference = request["reference"].as_str().unwrap().to_owned();
    assert!(!reference.is_empty());
    server.kill();
    drop(server);

    let server = setup.start().await;
    let request = wait_for_state(&setup, &server, "pending").await;
    assert_eq!(request["request"], id, "the same after a restart");
    assert_eq!(request["reference"], reference.as_str());
    eventually(PATIENCE, "a poll", async || {
        ca.calls()
            .last()
            .is_some_and(|call| call.reference.is_some())
    })
    .await;
    assert_eq!(
        ca.submissions(),
        1,
        "a request that is pending is not sent again"
    );

    ca.tell(Behaviour::Refuse("the board said no"));
    eventually(PATIENCE, "the refusal", async || {
        let status = status(&setup, &server).await;
        let why = status["last_refusal"].as_str().unwrap_or_default();
        why.contains("the board said no")
    })
    .await;
    ca.tell(Behaviour::Pending);
    eventually(PATIENCE, "the next request", async || {
        let open = status(&setup, &server).await["request"].clone();
        open["state"] == "pending" && open["request"] != id
    })
    .await;
    assert_eq!(issuers(&setup).len(), 1, "the refused key is used again");

    ca.tell(Behaviour::Issue);
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;
    issue(&setup, &server).await;
    server.stop().await;
}

/// Each is answered for a request that a usable certificate ends.
#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_are_not_used() {
    let setup = TestServer::bare();
    let ca = enterprise(&setup);
    ca.tell(Behaviour::Down);
    configure(&setup, &ca, "").await;
    let server = setup.start().await;
    wait_for_state(&setup, &server, "submitted").await;
    eventually(PATIENCE, "unreachable", async || {
        server.log().contains("upstream.unreachable")
    })
    .await;
    for (bad, says) in [
        (Bad::OtherKey, "no authority here has the key"),
        (Bad::Leaf, "not a CA"),
        (Bad::Expired, "expired"),
        (Bad::NotYetValid, "not valid before"),
        (Bad::Short, "the profiles in use need one until"),
        (Bad::NoCertSign, "keyCertSign"),
        (Bad::UriConstraint, "name constraint on URIs"),
        (Bad::Html, "HTML"),
        (Bad::Empty, "the answer cannot be read"),
        (Bad::Garbage, "the answer cannot be read"),
        (Bad::Huge, "the answer"),
        (Bad::GarbageBetween, "the answer cannot be read"),
        (Bad::Loop, "the root is missing"),
        (Bad::Long, "more than 10 certificates"),
        (Bad::WithoutRoot, "the root is missing"),
    ] {
        ca.tell(Behaviour::Bad(bad));
        wait_for_problem(&setup, &server, says).await;
    }
    ca.tell(Behaviour::Refuse("not below this root"));
    eventually(PATIENCE, "the refusal", async || {
        let status = status(&setup, &server).await;
        let why = status["last_refusal"].as_str().unwrap_or_default();
        why.contains("not below this root")
    })
    .await;
    assert_eq!(server.get("/readyz").await.0, 503);
    assert_eq!(issuers(&setup).len(), 1, "one key for all of them");
    ca.tell(Behaviour::Issue);
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;
    issue(&setup, &server).await;
    server.stop().await;
}
