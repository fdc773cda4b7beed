//! A real OpenBao as the upstream CA, where a pod logs in with the token of its service account.

use std::fs;

use reqwest::Method;
use rootbridge_test_support::TestServer;
use rootbridge_test_support::openbao::OpenBao;
use serde_json::json;

use super::access::Credential;
use super::objects::{granted, namespace, rule, service_account, token};
use super::server::shared;

const NS: &str = "openbao-login";

/// OpenBao asks the API server about the token, as its account that may create TokenReviews.
#[tokio::test(flavor = "multi_thread")]
async fn a_pods_token_logs_in_to_openbao() {
    let server = shared();
    let client = server.client().await;
    namespace(&client, NS).await;
    for account in ["rootbridge", "other"] {
        service_account(&client, NS, account).await;
    }
    let reviews = rule("authentication.k8s.io", &["tokenreviews"], &["create"], &[]);
    let Credential::Token(reviewer) = granted(&client, NS, "bao", vec![reviews]).await else {
        panic!("an account has a token");
    };
    let of = async |account| token(&client, (NS, account), &[], 3600, None).await;

    let setup = TestServer::bare();
    let bao = OpenBao::start(&setup.path("")).await;
    bao.pki().await;
    bao.enable_login("kubernetes").await;
    let config = json!({
        "kubernetes_host": format!("https://127.0.0.1:{}", server.port()),
        "kubernetes_ca_cert": server.ca(),
        "token_reviewer_jwt": reviewer,
        "disable_local_ca_jwt": true,
    });
    bao.call(Method::POST, "auth/kubernetes/config", config)
        .await;
    let role = json!({
        "bound_service_account_names": "rootbridge",
        "bound_service_account_namespaces": NS,
        "token_policies": "rootbridge",
        "token_ttl": "5m",
    });
    bao.call(Method::POST, "auth/kubernetes/role/mesh", role)
        .await;

    let file = setup.path("own-token");
    fs::write(&file, of("rootbridge").await).unwrap();
    let text = format!(
        "{}\n[upstream.corp]\n{}login = \"kubernetes\"\nrole = \"mesh\"\ntoken_file = \"{}\"\n",
        fs::read_to_string(setup.config()).unwrap(),
        bao.section(),
        file.display()
    );
    fs::write(setup.config(), text).unwrap();
    let found = setup.cli(&["upstream", "test", "corp"]);
    for says in ["accepts the credential", "may sign CAs"] {
        assert!(found.contains(says), "{found}");
    }
    let other = of("other").await;
    fs::write(&file, &other).unwrap();
    let refused = setup.refused(&["upstream", "test", "corp"]);
    assert!(
        refused.contains("auth/kubernetes/login answered 403"),
        "{refused}"
    );
    assert!(!refused.contains(&other), "{refused}");
}
