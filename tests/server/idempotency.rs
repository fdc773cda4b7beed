//! Idempotency keys: the same request gets the same bytes, another request is refused.

use prost_types::Duration as Span;
use rootbridge::mesh::proto::rootbridge_v1::SignCertificateRequest;
use tonic::Code;

use crate::ceremonies::sql;
use rootbridge_test_support::chain::Chain;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::grpc::{refusal, sign_request};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

fn keyed(csr: &KeyAndCsr, key: &str) -> SignCertificateRequest {
    SignCertificateRequest {
        idempotency_key: key.to_owned(),
        ..sign_request(csr, "workload", &[&id("foo", "bar")])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_gets_the_same_bytes() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let operator = &setup.operator;
    let csr = KeyAndCsr::new(&[]);
    let first = client.sign(operator, keyed(&csr, "one")).await.unwrap();
    let before = server.signatures().await;
    let again = client.sign(operator, keyed(&csr, "one")).await.unwrap();
    assert_eq!(first, again);
    // The same key by a CSR with the name in it is the same request.
    let named = KeyAndCsr::with(
        rcgen::KeyPair::from_pem(&csr.key.serialize_pem()).unwrap(),
        &[&id("foo", "bar")],
        rcgen::DistinguishedName::new(),
    );
    let by_csr = SignCertificateRequest {
        names: vec![],
        ..keyed(&named, "one")
    };
    assert_eq!(client.sign(operator, by_csr).await.unwrap(), first);
    assert_eq!(
        server.signatures().await,
        before,
        "nothing was signed again"
    );

    for (what, other) in [
        ("another key", keyed(&KeyAndCsr::new(&[]), "one")),
        (
            "another name",
            SignCertificateRequest {
                names: vec![id("foo", "other")],
                ..keyed(&csr, "one")
            },
        ),
        (
            "another profile",
            SignCertificateRequest {
                profile: "short".into(),
                ..keyed(&csr, "one")
            },
        ),
        (
            "another life",
            SignCertificateRequest {
                ttl: Some(Span {
                    seconds: 3600,
                    nanos: 0,
                }),
                ..keyed(&csr, "one")
            },
        ),
    ] {
        let message = refusal(client.sign(operator, other).await, Code::InvalidArgument);
        assert!(
            message.contains("used for another request"),
            "{what}: {message}"
        );
    }
    // Without a key, or with another, it is another certificate.
    for key in ["", "two"] {
        let other = client.sign(operator, keyed(&csr, key)).await.unwrap();
        assert_ne!(other.serial_number, first.serial_number);
    }
    for key in ["x".repeat(129), "a\nb".to_owned()] {
        refusal(
            client.sign(operator, keyed(&csr, &key)).await,
            Code::InvalidArgument,
        );
    }
    // Another caller's key of the same name is another key.
    let workload = setup.issuer.own("foo", "bar");
    let other = client.sign(&workload, keyed(&csr, "one")).await.unwrap();
    assert_ne!(other.serial_number, first.serial_number);
    // It outlives the server.
    server.stop().await;
    let server = setup.serve().await;
    let client = server.client(TD).await;
    assert_eq!(
        client.sign(operator, keyed(&csr, "one")).await.unwrap(),
        first
    );
    // What has ended is not answered again.
    let short = SignCertificateRequest {
        profile: "short".into(),
        ..keyed(&csr, "brief")
    };
    client.sign(operator, short.clone()).await.unwrap();
    eventually(PATIENCE, "it has ended", async || {
        client.sign(operator, short.clone()).await.is_err()
    })
    .await;
    let message = refusal(client.sign(operator, short).await, Code::InvalidArgument);
    assert!(message.contains("has expired"), "{message}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_at_the_same_time_are_one_certificate() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&[]);
    let before = server.signatures().await;
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let (client, operator, body) =
                (client.clone(), setup.operator.clone(), keyed(&csr, "race"));
            tokio::spawn(async move {
                loop {
                    match client.sign(&operator, body.clone()).await {
                        Ok(answer) => return answer,
                        Err(busy) => assert_eq!(busy.code(), Code::Unavailable, "{busy:?}"),
                    }
                }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(server.signatures().await - before, 1.0);
    server.stop().await;
}

/// A first try that failed: the same TBS is signed, with the serial number of the first.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_the_same_bytes_are_signed() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&[]);
    let first = client
        .sign(&setup.operator, keyed(&csr, "again"))
        .await
        .unwrap();
    server.stop().await;
    // The record as a token that failed would have left it.
    sql(&setup, "DROP TRIGGER conclusion_update");
    for (state, others) in [(2, "'the token was gone'"), (3, "'nobody knows'")] {
        sql(
            &setup,
            &format!(
                "UPDATE conclusion SET state = {state}, signature = NULL, reason = {others}
             WHERE intent = (SELECT id FROM intent WHERE origin IS NOT NULL)"
            ),
        );
        let server = setup.serve().await;
        let client = server.client(TD).await;
        let again = client
            .sign(&setup.operator, keyed(&csr, "again"))
            .await
            .unwrap();
        assert_eq!(again.serial_number, first.serial_number);
        let (first, again) = (Chain::own(&first), Chain::own(&again));
        assert_eq!(again.leaf.tbs_der(), first.leaf.tbs_der());
        server.stop().await;
    }
    assert_eq!(
        setup.certificates(&["--state", "issued"]).len(),
        2 + 4,
        "CAs, listener, one leaf"
    );
}
