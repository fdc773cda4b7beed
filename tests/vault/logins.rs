//! Logins, and the life of their tokens.

use std::fs;

use nix::sys::signal::Signal;
use rootbridge_test_support::TestServer;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::files::write_secret;
use serde_json::{Value, json};

use crate::harness::{Vault, VaultServer, configured, text};
use crate::leaves::verified;

/// Every field that vaultrs reads without a default.
const AUTH_FIELDS: [&str; 12] = [
    "accessor",
    "client_token",
    "entity_id",
    "lease_duration",
    "metadata",
    "mfa_requirement",
    "num_uses",
    "orphan",
    "policies",
    "renewable",
    "token_policies",
    "token_type",
];

async fn signs(client: &Vault, namespace: &str, account: &str) {
    let csr = KeyAndCsr::workload(namespace, account).pem;
    let data = client
        .put("pki/sign/any", json!({ "csr": csr }))
        .await
        .data();
    assert_eq!(
        verified(&data).names()[0].to_string(),
        id(namespace, account)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_login_is_the_caller_that_it_proves_to_be() {
    let world = VaultServer::start().await;
    // A service account.
    let jwt = json!({ "role": "web", "jwt": world.jwt("shop", "cart") });
    let answer = world.client.put("auth/kubernetes/login", jwt.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let mut fields: Vec<&String> = body["auth"].as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, AUTH_FIELDS);
    let auth = &body["auth"];
    assert_eq!(
        (&auth["renewable"], &auth["lease_duration"]),
        (&json!(true), &json!(3600))
    );
    assert_eq!(auth["policies"], json!([id("shop", "cart")]));
    let workload = world.client.login("kubernetes", jwt).await;
    signs(&workload, "shop", "cart").await;
    // A person of another issuer.
    let mut claims = rootbridge_test_support::jwt::claims("x", "y", "vault");
    claims["iss"] = "https://people.example".into();
    claims["sub"] = "ana".into();
    let person = json!({ "role": "", "jwt": world.setup.issuer.mint(&claims) });
    let person = world.client.login("jwt", person).await;
    let lookup = person.get("auth/token/lookup-self").await.data();
    assert_eq!(lookup["display_name"], "subject:people:ana");
    // An operator, whose name and credential are an AppRole.
    let role = json!({ "role_id": "admin", "secret_id": world.setup.operator });
    let approle = world.client.login("approle", role).await;
    let lookup = approle.get("auth/token/lookup-self").await.data();
    assert_eq!(lookup["display_name"], "operator:admin");
    signs(&approle, "shop", "other").await;
    // The holder of a certificate that a workload got with its token.
    let key = KeyAndCsr::workload("shop", "cart");
    let token = world.setup.issuer.istio("shop", "cart");
    let client = world.server.client(rootbridge_test_support::TD).await;
    let chain = client.istio(&token, &key).await.unwrap();
    let identity = chain.pem() + &key.key.serialize_pem();
    let connected = Vault::connect(&world.setup, &world.server, Some(identity)).await;
    let holder = connected.login("cert", json!({ "name": "web" })).await;
    signs(&holder, "shop", "cart").await;
    // The token counts without the certificate, and a certificate alone does not.
    signs(
        &world.client.with_token(holder.token.as_deref().unwrap()),
        "shop",
        "cart",
    )
    .await;
    let csr = json!({ "csr": key.pem });
    assert_eq!(
        connected.put("pki/sign/any", csr).await.error(403),
        "permission denied"
    );

    refused(&world).await;
    world.server.stop().await;
}

async fn refused(world: &VaultServer) {
    let jwt = |audience: &str| {
        let claims = rootbridge_test_support::jwt::claims("shop", "cart", audience);
        json!({ "role": "web", "jwt": world.setup.issuer.mint(&claims) })
    };
    let secret = |role: &str, secret: &str| json!({ "role_id": role, "secret_id": secret });
    let (own, other) = (&world.setup.operator, &world.setup.other_operator);
    let wrong_secret = "invalid role or secret ID";
    for (method, body, status, says) in [
        ("kubernetes", jwt("istio-ca"), 403, "permission denied"),
        (
            "kubernetes",
            json!({ "jwt": "a.b.c" }),
            403,
            "permission denied",
        ),
        (
            "kubernetes",
            json!({ "jwt": world.setup.operator }),
            403,
            "permission denied",
        ),
        ("kubernetes", json!({ "role": "web" }), 400, "missing jwt"),
        ("elsewhere", jwt("vault"), 403, "permission denied"),
        ("approle", secret("admin", other), 400, wrong_secret),
        ("approle", secret("other", other), 400, wrong_secret),
        ("approle", secret("nobody", own), 400, wrong_secret),
        ("approle", secret("", own), 400, "missing role_id"),
        ("approle", secret("admin", ""), 400, "missing secret_id"),
        (
            "cert",
            json!({}),
            400,
            "invalid certificate or no client certificate supplied",
        ),
    ] {
        let answer = world
            .client
            .put(&format!("auth/{method}/login"), body)
            .await;
        assert!(
            answer.error(status).starts_with(says),
            "{method}: {answer:?}"
        );
    }
    // The same text each time: cert-manager tries again at once when its issuer's condition changes.
    let attempt = || {
        world
            .client
            .put("auth/approle/login", secret("nobody", own))
    };
    let (first, second) = (attempt().await, attempt().await);
    assert_eq!(first.error(400), second.error(400));
    // The log says why, where the caller learns nothing.
    world
        .server
        .wait_for_log("role admin: no operator here has this credential")
        .await;
    world
        .server
        .wait_for_log("role_id names no operator of this listener")
        .await;
    world
        .server
        .wait_for_log("there is no login at auth/elsewhere")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_lock_a_role_for_a_while() {
    let world = VaultServer::start().await;
    let login = |secret: &str| json!({ "role_id": "admin", "secret_id": secret });
    for _ in 0..5 {
        let wrong = login(&world.setup.other_operator);
        let answer = world.client.put("auth/approle/login", wrong).await;
        assert!(answer.error(400).starts_with("invalid role or secret ID"));
    }
    // Not even the right one is looked at.
    let answer = world
        .client
        .put("auth/approle/login", login(&world.setup.operator))
        .await;
    assert!(answer.error(429).contains("try again later"));
    let seconds: u64 = answer.retry_after.unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // Another role is none of it, and neither is a credential that needs no login.
    let stranger = json!({ "role_id": "stranger", "secret_id": world.setup.other_operator });
    world.client.login("approle", stranger).await;
    assert_eq!(
        world.operator().get("auth/token/lookup-self").await.status,
        200
    );
    world
        .server
        .wait_for_log("too many wrong secrets for the role admin")
        .await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_looked_up_renewed_and_revoked_by_its_holder() {
    let world = VaultServer::start().await;
    let holder = world.workload("shop", "cart").await;
    for answer in [
        holder.get("auth/token/lookup-self").await,
        holder.put("auth/token/lookup-self", json!({})).await,
    ] {
        let data = answer.data();
        assert_eq!(Some(text(&data, "id")), holder.token.as_deref());
        assert_eq!(data["renewable"], Value::Bool(true));
        let ttl = data["ttl"].as_u64().unwrap();
        assert!((3000..=3600).contains(&ttl), "{ttl}");
        assert_eq!(data["explicit_max_ttl"], 86_400);
    }
    // No longer than a login's, whatever is asked for, as a number or a text.
    for (increment, most) in [
        (json!(60), 60),
        (json!("2m"), 120),
        (json!("720h"), 3600),
        (json!(""), 3600),
    ] {
        let body = json!({ "increment": increment });
        let renewed = holder.put("auth/token/renew-self", body).await.json();
        assert_eq!(renewed["auth"]["lease_duration"], most, "{renewed}");
        assert_eq!(renewed["auth"]["renewable"], true);
        assert_eq!(
            renewed["auth"]["client_token"].as_str(),
            holder.token.as_deref()
        );
        let ttl = holder.get("auth/token/lookup-self").await.data()["ttl"]
            .as_u64()
            .unwrap();
        assert!(ttl <= most, "{ttl} {most}");
    }
    assert_eq!(
        holder.put("auth/token/revoke-self", json!({})).await.status,
        204
    );
    for path in ["auth/token/lookup-self", "pki/roles/web"] {
        assert_eq!(holder.get(path).await.error(403), "permission denied");
    }
    let renewal = holder.put("auth/token/renew-self", json!({})).await;
    assert_eq!(renewal.error(403), "permission denied");
    world.server.wait_for_log("has expired or is revoked").await;

    // An operator's credential has no lease.
    let operator = world.operator();
    let data = operator.get("auth/token/lookup-self").await.data();
    assert_eq!(
        (&data["renewable"], &data["ttl"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(data["expire_time"], Value::Null);
    assert_eq!(data["id"], "operator:admin");
    let renewal = operator.put("auth/token/renew-self", json!({})).await;
    assert!(renewal.error(400).starts_with("lease is not renewable"));
    let revocation = operator.put("auth/token/revoke-self", json!({})).await;
    assert!(
        revocation
            .error(400)
            .starts_with("an operator's credential ends with its file")
    );

    // A reload that takes the operator from the listener ends its sessions, and no other.
    let role = json!({ "role_id": "admin", "secret_id": world.setup.operator });
    let session = world.client.login("approle", role).await;
    let workload = world.workload("shop", "cart").await;
    world.setup.edit(
        "operators = [\"admin\", \"stranger\"]",
        "operators = [\"stranger\"]",
    );
    world.server.signal(Signal::SIGHUP);
    world.server.wait_for_log("configuration reloaded").await;
    assert_eq!(
        session.get("auth/token/lookup-self").await.error(403),
        "permission denied"
    );
    assert_eq!(
        operator.get("auth/token/lookup-self").await.error(403),
        "permission denied"
    );
    assert_eq!(workload.get("auth/token/lookup-self").await.status, 200);
    world.server.stop().await;
}

/// A key in a file makes tokens that outlive a restart; without it they end with the process.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_outlive_a_restart_with_a_key_of_their_own() {
    let setup: TestServer = configured();
    let file = setup.path("token.key");
    write_secret(&file, &"k".repeat(31));
    setup.edit(
        "[vault.mount.pki]",
        &format!(
            "[vault]\ntoken_key_file = \"{}\"\n\n[vault.mount.pki]",
            file.display()
        ),
    );
    let error = setup.refused(&["serve"]);
    assert!(
        error.contains("holds 31 bytes, and must hold 32 to 4096"),
        "{error}"
    );
    fs::write(&file, "k".repeat(32)).unwrap();
    let world = VaultServer::of(setup).await;
    let session = world.workload("shop", "cart").await.token.unwrap();
    let VaultServer { setup, server, .. } = world;
    server.stop().await;
    let world = VaultServer::of(setup).await;
    let again = world.client.with_token(&session);
    assert_eq!(again.get("auth/token/lookup-self").await.status, 200);
    let VaultServer { setup, server, .. } = world;
    server.stop().await;
    fs::write(&file, "l".repeat(32)).unwrap();
    let world = VaultServer::of(setup).await;
    let again = world.client.with_token(&session);
    assert_eq!(
        again.get("auth/token/lookup-self").await.error(403),
        "permission denied"
    );
    world
        .server
        .wait_for_log("it was not made with this server's key")
        .await;
    world.server.stop().await;
}
