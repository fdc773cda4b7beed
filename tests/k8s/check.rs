//! What `rootbridge check` finds in clusters.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::access::Credential;
use super::objects::{create, granted, namespace, rule, service_account, token};
use super::rootbridge::rootbridge;
use super::server::{ApiServer, shared};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

const CALLERS: &str = "audiences.istio = \"istio-ca\"\nauthenticate = \"offline\"\n";

/// What was found in a cluster: `(name, result, said, hint)`.
pub(crate) fn found(setup: &TestServer) -> Vec<(String, String, String, String)> {
    let output = setup.try_cli(&["check", "-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let all: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["category"] == "clusters")
        .map(|check| {
            let part = |key| text(check, key);
            (part("name"), part("result"), part("said"), part("hint"))
        })
        .collect();
    let fails = all.iter().any(|(_, result, ..)| result == "failed");
    assert!(!fails || output.status.code() == Some(1), "{output:?}");
    all
}

#[tokio::test]
async fn what_the_account_lacks_is_named() {
    let server = shared();
    let client = server.client().await;
    namespace(&client, "check-rights").await;
    let mut rules = vec![
        rule("authentication.k8s.io", &["tokenreviews"], &["create"], &[]),
        rule("", &["pods", "serviceaccounts"], &["list", "watch"], &[]),
    ];
    let full = granted(&client, "check-rights", "full", rules.clone()).await;
    let setup = rootbridge(&[("east", server, &full)], CALLERS);
    let all = found(&setup);
    let good: Vec<_> = all
        .iter()
        .map(|(name, result, ..)| (&name[..], &result[..]))
        .collect();
    for item in [
        "east API",
        "east clock",
        "east rights",
        "east audiences",
        "east keys",
    ] {
        assert!(good.contains(&(item, "ok")), "{item} in {all:#?}");
    }
    assert_eq!(all[0].2, "v1.37.2", "{all:#?}");

    rules.pop();
    let poor = granted(&client, "check-rights", "poor", rules).await;
    let setup = rootbridge(&[("east", server, &poor)], CALLERS);
    let all = found(&setup);
    let lacking: Vec<_> = all
        .iter()
        .filter(|(_, result, ..)| result == "failed")
        .collect();
    assert_eq!(lacking.len(), 4, "{all:#?}");
    assert_eq!(lacking[0].2, "it may not list pods");
    assert!(
        lacking[0]
            .3
            .starts_with("clusters.east.authenticate needs it"),
        "{all:#?}"
    );
}

/// A client certificate cannot be reviewed; no server at the address is reported at once.
#[tokio::test]
async fn credentials_and_addresses() {
    let server = shared();
    let admin = server.admin();
    let setup = rootbridge(&[("east", server, &admin)], CALLERS);
    let all = found(&setup);
    let echo = all
        .iter()
        .find(|(name, ..)| name == "east audiences")
        .unwrap();
    assert_eq!(echo.1, "warning", "{all:#?}");

    let gone = ApiServer::start();
    let credential: Credential = gone.admin();
    let setup = rootbridge(&[("east", &gone, &credential)], CALLERS);
    drop(gone);
    let all = found(&setup);
    assert_eq!(
        (all.len(), &all[0].0[..], &all[0].1[..]),
        (1, "east API", "failed"),
        "{all:#?}"
    );
}

#[tokio::test]
async fn an_istiod_with_a_wrong_configuration() {
    let server = shared();
    let client = server.client().await;
    namespace(&client, "check-istio").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "check-istio");
    let mesh = json!({
        "metadata": { "name": "istio" },
        "data": { "mesh": "rootNamespace: istio-system\ntrustDomain: elsewhere.example\n" },
    });
    create(&maps, mesh).await;
    let labels = json!({ "app": "istiod" });
    let deployments: Api<Deployment> = Api::namespaced(client, "check-istio");
    for (name, variable, value) in [
        ("istiod", "ENABLE_CA_SERVER", "true"),
        ("istiod-ra", "EXTERNAL_CA", "ISTIOD_RA_KUBERNETES_API"),
        ("istiod-off", "ENABLE_CA_SERVER", "false"),
    ] {
        let istiod = json!({
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{
                        "name": "discovery",
                        "image": "pilot",
                        "env": [{ "name": variable, "value": value }],
                    }]},
                },
            },
        });
        create(&deployments, istiod).await;
    }
    let admin = server.admin();
    let ours = format!(
        "\n[istiod_tls.main]\ncluster = \"east\"\nnamespace = \"check-istio\"\n\
         [bundle_targets.mesh]\ntrust_domain = \"{TD}\"\nclusters = [\"east\"]\n\
         preset = \"istio\"\nnamespaces = \"kubernetes.io/metadata.name=check-istio\"\n"
    );
    let setup = rootbridge(&[("east", server, &admin)], &ours);
    let all = found(&setup);
    let failed = |item: &str, about: &str| -> Vec<&str> {
        let failed = all
            .iter()
            .filter(|(name, result, ..)| name == item && result == "failed");
        failed
            .map(|(_, _, message, _)| &message[..])
            .filter(|message| message.contains(about))
            .collect()
    };
    // The one whose CA is off is no rival.
    let rival = |name: &str| {
        format!("istiod check-istio/{name} writes its own root there: each overwrites the other")
    };
    assert_eq!(
        failed("east bundle mesh", "istiod check-istio/"),
        [rival("istiod"), rival("istiod-ra")],
        "{all:#?}"
    );
    assert_eq!(
        failed("east istiod", ""),
        [
            &format!("its trust domain is elsewhere.example, and here it is {TD}")[..],
            "its own CA is on: it overwrites our root with its own",
        ],
        "{all:#?}"
    );
}

/// Before an instance publishes, the bundle is missing; soon after `serve` starts, it is there.
#[tokio::test]
async fn where_the_bundle_is_not_up_to_date() {
    let server = shared();
    let client = server.client().await;
    namespace(&client, "check-drift").await;
    let target = format!(
        "\n[bundle_targets.roots]\ntrust_domain = \"{TD}\"\nclusters = [\"east\"]\n\
         name = \"check-roots\"\nkey = \"roots.pem\"\n\
         namespaces = \"kubernetes.io/metadata.name=check-drift\"\n\
         [publisher]\nlease_namespace = \"check-drift\"\n"
    );
    let setup = rootbridge(&[("east", server, &server.admin())], &target);
    let state = || {
        let all = found(&setup);
        let item = all.iter().find(|(name, ..)| name == "east bundle roots");
        let (_, result, message, _) = item.unwrap_or_else(|| panic!("{all:#?}")).clone();
        (result, message)
    };
    let (result, message) = state();
    assert_eq!(
        (&result[..], &message[..]),
        ("failed", "1 of 1 are not up to date: check-drift: missing")
    );

    let running = setup.serve().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "check-drift");
    eventually(PATIENCE, "the ConfigMap", async || {
        maps.get_opt("check-roots").await.unwrap().is_some()
    })
    .await;
    assert_eq!(state().0, "ok");
    running.stop().await;

    let other = json!({ "data": { "roots.pem": "none" } });
    let merge = Patch::Merge(&other);
    maps.patch("check-roots", &PatchParams::default(), &merge)
        .await
        .unwrap();
    assert!(state().1.ends_with("check-drift: another bundle"));
}

/// Stock RBAC serves the keys of an API server's tokens to service accounts alone.
#[tokio::test]
async fn the_keys_of_an_api_server_need_a_token() {
    let (server, ns) = (shared(), "check-keys");
    let client = server.client().await;
    namespace(&client, ns).await;
    service_account(&client, ns, "rootbridge").await;
    let setup = TestServer::new();
    let file = |name: &str, text: String| {
        let path = setup.path(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca = file("api-ca.pem", server.ca());
    let anonymous = format!(
        "jwks_url = \"https://127.0.0.1:{}/openid/v1/jwks\"\njwks_ca_file = {ca:?}\n",
        server.port()
    );
    let table = |more: &str| {
        format!(
            "[jwt.api]\nissuer = \"https://api.example\"\ntrust_domain = \"{TD}\"\n\
             subject = \"kubernetes\"\naudiences = {{ istio = \"istio-ca\" }}\nrefresh = \"1s\"\n{more}\n"
        )
    };
    setup.edit("[jwt.cluster]\n", &(table(&anonymous) + "[jwt.cluster]\n"));
    let keys = || {
        let output = setup.try_cli(&["check", "-o", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut checks = report["checks"].as_array().unwrap().iter();
        let found = checks.find(|check| check["name"] == "keys of api").unwrap();
        (found["result"].clone(), found["said"].to_string())
    };
    let (result, said) = keys();
    assert_eq!(result, "failed", "{said}");
    assert!(said.contains("set jwks_token_file"), "{said}");
    let running = setup.serve().await;
    let age = "rootbridge_jwt_keys_age_seconds{verifier=\"api\"}";
    let count = "rootbridge_jwt_keys{verifier=\"api\"}";
    eventually(
        PATIENCE,
        "the metric of keys that were never read",
        async || {
            (running.metric(age).await, running.metric(count).await) == (Some(-1.0), Some(0.0))
        },
    )
    .await;
    running.stop().await;

    let token = token(&client, (ns, "rootbridge"), &[], 3600, None).await;
    let token = file("api-token", token + "\n");
    let presented = format!("{anonymous}jwks_token_file = {token:?}\n");
    setup.edit(&anonymous, &presented);
    let (result, said) = keys();
    assert_eq!(result, "ok", "{said}");
    let running = setup.serve().await;
    eventually(PATIENCE, "the keys", async || {
        running.metric(count).await >= Some(1.0) && running.metric(age).await >= Some(0.0)
    })
    .await;
    running.stop().await;
}
