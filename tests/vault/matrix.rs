//! Every call × every method × every credential.

use reqwest::Method;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{RunningServer, TD};
use serde_json::{Value, json};

use crate::harness::{Vault, VaultServer};

/// The methods, in the order of each row.
const METHODS: [&str; 6] = ["GET", "LIST", "POST", "PUT", "DELETE", "PATCH"];

/// What a path does with a good credential, for each of [`METHODS`]; `open`: also without one.
struct Row {
    path: &'static str,
    open: bool,
    statuses: [u16; 6],
}

const fn row(path: &'static str, open: bool, statuses: [u16; 6]) -> Row {
    Row {
        path,
        open,
        statuses,
    }
}

/// Bodies are empty objects: 400 means that the call was let in and lacks what it needs.
const ROWS: &[Row] = &[
    row("sys/health", true, [200, 405, 405, 405, 405, 405]),
    row("sys/seal-status", true, [200, 405, 405, 405, 405, 405]),
    row("auth/approle/login", true, [405, 405, 400, 400, 405, 405]),
    row(
        "auth/kubernetes/login",
        true,
        [405, 405, 400, 400, 405, 405],
    ),
    row("auth/jwt/login", true, [405, 405, 400, 400, 405, 405]),
    row("auth/cert/login", true, [405, 405, 400, 400, 405, 405]),
    row("auth/nowhere/login", true, [405, 405, 403, 403, 405, 405]),
    row("auth/nowhere", true, [404, 404, 404, 404, 404, 405]),
    row("sys/mounts", false, [200, 200, 405, 405, 405, 405]),
    row("sys/mounts/pki", false, [200, 405, 204, 204, 204, 405]),
    row("sys/mounts/pki/tune", false, [200, 405, 204, 204, 405, 405]),
    row(
        "sys/mounts/elsewhere",
        false,
        [400, 405, 400, 400, 204, 405],
    ),
    row("sys/other", true, [404, 404, 404, 404, 404, 405]),
    row(
        "auth/token/lookup-self",
        false,
        [200, 405, 200, 200, 405, 405],
    ),
    row(
        "auth/token/renew-self",
        false,
        [405, 405, 200, 200, 405, 405],
    ),
    row("pki/ca", true, [200, 405, 405, 405, 405, 405]),
    row("pki/ca/pem", true, [200, 405, 405, 405, 405, 405]),
    row("pki/ca_chain", true, [200, 405, 405, 405, 405, 405]),
    row("pki/cert/ca", true, [200, 405, 405, 405, 405, 405]),
    row("pki/cert/ca_chain", true, [200, 405, 405, 405, 405, 405]),
    row(
        "pki/issuer/default/pem",
        true,
        [200, 405, 405, 405, 405, 405],
    ),
    row("pki/issuers", false, [200, 200, 405, 405, 405, 405]),
    row("pki/issuer/default", false, [200, 405, 200, 200, 200, 405]),
    row(
        "pki/issuer/default/json",
        false,
        [200, 405, 405, 405, 405, 405],
    ),
    row("pki/issuer/other", false, [400, 405, 200, 200, 200, 405]),
    row("pki/keys", false, [200, 200, 405, 405, 405, 405]),
    row("pki/key/default", false, [200, 405, 200, 200, 200, 405]),
    row("pki/config/issuers", false, [200, 405, 200, 200, 405, 405]),
    row(
        "pki/config/auto-tidy",
        false,
        [200, 405, 200, 200, 405, 405],
    ),
    row("pki/config/urls", false, [200, 405, 200, 200, 405, 405]),
    row("pki/roles", false, [200, 200, 405, 405, 405, 405]),
    row("connect-root/roles", false, [404, 404, 405, 405, 405, 405]),
    row("pki/roles/web", false, [200, 405, 200, 200, 204, 405]),
    row("pki/sign/web", false, [405, 405, 400, 400, 405, 405]),
    row(
        "pki/issuer/default/sign/web",
        false,
        [404, 404, 400, 400, 404, 405],
    ),
    row("pki/issue/web", false, [405, 405, 400, 400, 405, 405]),
    row("pki/root", false, [405, 405, 405, 405, 400, 405]),
    row(
        "pki/root/sign-intermediate",
        false,
        [405, 405, 400, 400, 405, 405],
    ),
    row(
        "pki/root/sign-self-issued",
        false,
        [405, 405, 400, 400, 405, 405],
    ),
    row(
        "pki/root/generate/internal",
        false,
        [405, 405, 400, 400, 405, 405],
    ),
    row(
        "pki/intermediate/generate/internal",
        false,
        [405, 405, 200, 200, 405, 405],
    ),
    row(
        "pki/intermediate/generate/exported",
        false,
        [405, 405, 400, 400, 405, 405],
    ),
    row(
        "pki/intermediate/set-signed",
        false,
        [405, 405, 400, 400, 405, 405],
    ),
    row("pki/revoke", false, [405, 405, 400, 400, 405, 405]),
    row("pki/nothing", true, [404, 404, 404, 404, 404, 405]),
    row("pki", true, [404, 404, 404, 404, 404, 405]),
    row("nowhere/ca/pem", true, [404, 404, 404, 404, 404, 405]),
    row(
        "auth/token/revoke-self",
        false,
        [405, 405, 204, 204, 405, 405],
    ),
];

/// Credentials that let nobody in.
async fn worthless(world: &VaultServer) -> Vec<(&'static str, Vault)> {
    let revoked = world.workload("shop", "revoked").await;
    assert_eq!(
        revoked
            .put("auth/token/revoke-self", json!({}))
            .await
            .status,
        204
    );
    let good = world.workload("shop", "good").await.token.unwrap();
    let (payload, tag) = good.split_once('.').unwrap();
    let other = world.workload("shop", "other").await.token.unwrap();
    let (_, other_tag) = other.split_once('.').unwrap();
    let login = world.client.in_namespace("team-a");
    let jwt = json!({ "jwt": world.jwt("shop", "team") });
    let of_team = login.login("kubernetes", jwt).await.token.unwrap();
    let with = |token: &str| world.client.with_token(token);
    vec![
        ("none", world.client.clone()),
        ("nonsense", with("hvs.nonsense")),
        ("a JWT without a login", with(&world.jwt("shop", "cart"))),
        (
            "another operator's",
            with(&format!("rb_op_{}", "A".repeat(43))),
        ),
        ("a revoked session", revoked),
        (
            "a session with another's signature",
            with(&format!("{payload}.{other_tag}")),
        ),
        ("a cut session", with(&good[..good.len() - tag.len()])),
        ("a session of another namespace", with(&of_team)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_every_method_and_credential() {
    let world = VaultServer::start().await;
    let refused = worthless(&world).await;
    let session = world.workload("shop", "cart").await;
    for row in ROWS {
        for (name, expected) in METHODS.iter().zip(row.statuses) {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            let holder = match row.path {
                // It ends the session.
                "auth/token/revoke-self" => world.workload("shop", "cart").await,
                _ => session.clone(),
            };
            let answer = holder.call(method.clone(), row.path, "{}").await;
            assert_eq!(answer.status, expected, "{name} {}: {answer:?}", row.path);
            check_shape(name, row.path, &answer);
            // What a path does not do, it tells anyone.
            let let_in = row.open || matches!(expected, 404 | 405);
            for (kind, client) in &refused {
                let answer = client.call(method.clone(), row.path, "{}").await;
                let is_list_of_none =
                    row.path == "connect-root/roles" && matches!(*name, "GET" | "LIST");
                let expected = match let_in && !is_list_of_none {
                    true => expected,
                    false => 403,
                };
                assert_eq!(
                    answer.status, expected,
                    "{name} {} {kind}: {answer:?}",
                    row.path
                );
                if expected == 403 {
                    assert_eq!(answer.error(403), "permission denied");
                }
            }
        }
    }
    refusals_are_counted(&world.server).await;
    world.server.stop().await;
}

/// Data has the whole envelope, an error the list of errors and nothing else.
fn check_shape(method: &str, path: &str, answer: &crate::harness::Answer) {
    let raw = [
        "pki/ca",
        "pki/ca/pem",
        "pki/ca_chain",
        "pki/issuer/default/pem",
    ];
    let plain = ["sys/health", "sys/seal-status"];
    match answer.status {
        204 => assert_eq!(answer.text, "", "{method} {path}"),
        200 if raw.contains(&path) || plain.contains(&path) => {}
        200 => {
            let body = answer.json();
            let mut names: Vec<&String> = body.as_object().unwrap().keys().collect();
            names.sort();
            let all = [
                "auth",
                "data",
                "lease_duration",
                "lease_id",
                "renewable",
                "request_id",
                "warnings",
                "wrap_info",
            ];
            assert_eq!(names, all, "{method} {path}");
        }
        status => assert!(!answer.error(status).is_empty()),
    }
}

async fn refusals_are_counted(server: &RunningServer) {
    let name = "rootbridge_authentications_refused_total{listener=\"vault\",api=\"vault\",cluster=\"\",reason=\"rejected\"}";
    assert!(server.metric(name).await.unwrap() > 100.0);
}

/// A caller of another trust domain gets nothing of a mount, whatever it calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_another_trust_domain_is_refused() {
    let world = VaultServer::start().await;
    let stranger = world.client.with_token(&world.setup.other_operator);
    let lookup = stranger.get("auth/token/lookup-self").await.data();
    assert_eq!(lookup["meta"]["trust_domain"], "other.example");
    let csr = KeyAndCsr::workload("shop", "cart").pem;
    for (path, body) in [
        ("pki/sign/web", json!({ "csr": csr })),
        ("pki/root/sign-intermediate", json!({ "csr": csr })),
        ("pki/intermediate/generate/internal", json!({})),
        ("pki/roles/web", json!({})),
        ("sys/mounts/pki", json!({ "type": "pki" })),
        ("pki/config/auto-tidy", json!({})),
    ] {
        let answer = stranger.put(path, body).await;
        assert_eq!(answer.error(403), "permission denied", "{path}");
    }
    assert_eq!(
        stranger.get("sys/mounts").await.data(),
        Value::Object(serde_json::Map::new())
    );
    world
        .server
        .wait_for_log(&format!(
            "is of the trust domain other.example, and the mount pki is for {TD}"
        ))
        .await;
    world.server.stop().await;
}
