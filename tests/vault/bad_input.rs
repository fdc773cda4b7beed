//! Bodies and paths that no client sends on purpose.

use reqwest::Method;
use rootbridge_test_support::csr::KeyAndCsr;
use serde_json::json;

use crate::harness::VaultServer;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_refused_with_a_sentence() {
    let world = VaultServer::start().await;
    let workload = world.workload("shop", "cart").await;
    let csr = json!(KeyAndCsr::workload("shop", "cart").pem).to_string();
    let deep = format!(
        "{{\"csr\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = format!(
        "{{\"csr\":{csr},\"alt_names\":\"{}\"}}",
        "a.shop.svc,".repeat(65)
    );
    for (body, says) in [
        ("not json".to_owned(), "failed to parse JSON input"),
        ("[]".to_owned(), "failed to parse JSON input"),
        ("\"x\"".to_owned(), "failed to parse JSON input"),
        ("{\"csr\":".to_owned(), "failed to parse JSON input"),
        ("{}".to_owned(), "\"csr\" is empty"),
        ("{\"csr\":{}}".to_owned(), "field \"csr\""),
        ("{\"csr\":true}".to_owned(), "csr: "),
        ("{\"csr\":\"-----BEGIN\"}".to_owned(), "csr: "),
        (format!("{{\"csr\":{csr},\"ttl\":{{}}}}"), "field \"ttl\""),
        (format!("{{\"csr\":{csr},\"ttl\":1e300}}"), "field \"ttl\""),
        (format!("{{\"csr\":{csr},\"ttl\":-1}}"), "field \"ttl\""),
        (
            format!("{{\"csr\":{csr},\"ttl\":\"soon\"}}"),
            "field \"ttl\"",
        ),
        (
            format!("{{\"csr\":{csr},\"exclude_cn_from_sans\":\"maybe\"}}"),
            "field \"exclude_cn_from_sans\"",
        ),
        (
            format!("{{\"csr\":{csr},\"alt_names\":[1]}}"),
            "field \"alt_names\"",
        ),
        (
            format!("{{\"csr\":{csr},\"other_sans\":\"1.2;UTF8:x\"}}"),
            "other_sans: ",
        ),
        (
            format!("{{\"csr\":{csr},\"not_after\":\"2030-01-01T00:00:00Z\"}}"),
            "not_after: ",
        ),
        (many, "more than 64 elements"),
    ] {
        let answer = workload.call(Method::POST, "pki/sign/web", &body).await;
        let error = answer.error(400);
        let shown: String = body.chars().take(80).collect();
        assert!(error.contains(says), "{shown}: {error}");
    }
    // Larger than the listener reads, nested without end, and 10 MB of nothing.
    for body in [
        deep,
        format!("{{\"csr\":\"{}\"}}", "A".repeat(10_000_000)),
        " ".repeat(10_000_000),
    ] {
        let answer = workload.call(Method::POST, "pki/sign/web", &body).await;
        assert!(
            answer.error(413).contains("max_message_bytes"),
            "{answer:?}"
        );
    }
    // Numbers where texts belong, and the reverse, and fields that nobody knows.
    let body = format!(
        "{{\"csr\":{csr},\"ttl\":\"3600\",\"exclude_cn_from_sans\":1,\"later\":{{\"a\":[]}}}}"
    );
    assert_eq!(
        workload
            .call(Method::POST, "pki/sign/web", &body)
            .await
            .status,
        200
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_lead_nowhere_but_to_their_mount() {
    let world = VaultServer::start().await;
    let workload = world.workload("shop", "cart").await;
    for path in [
        "",
        "pki//ca/pem",
        "pki/ca/pem/x",
        "pki/sign/",
        "pki/sign/a/b",
        "pki/sign/a%2Fb",
        "pki/sign/%00",
        "pki/sign/%C3%A4",
        "PKI/ca/pem",
        "pkix/ca/pem",
        "team-pki/ca/pem",
        "auth/token/create",
        "sys/policies/acl/x",
        "sys/internal/ui/mounts",
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = workload.call(method.clone(), path, "{}").await;
            assert!(
                matches!(answer.status, 404 | 405),
                "{method} {path}: {answer:?}"
            );
            answer.error(answer.status);
        }
    }
    // A namespace by its header, and before the path; another one is nowhere.
    let team = workload.in_namespace("team-a");
    assert_eq!(team.get("team-pki/ca/pem").await.status, 200);
    assert_eq!(team.get("pki/ca/pem").await.status, 404);
    assert_eq!(workload.get("team-a/team-pki/ca/pem").await.status, 200);
    assert_eq!(
        workload
            .in_namespace("team-b")
            .get("pki/ca/pem")
            .await
            .status,
        404
    );
    assert_eq!(
        workload
            .in_namespace("team-b")
            .get("sys/health")
            .await
            .status,
        200
    );
    let csr = json!({ "csr": KeyAndCsr::workload("shop", "cart").pem });
    assert_eq!(team.put("team-pki/sign/web", csr).await.status, 200);
    world.server.stop().await;
}
