//! The operators' API over TLS, called with a service account's token.

use serde_json::Value;

use super::chart;
use super::objects::{namespace, service_account, token};
use super::rootbridge::rootbridge;
use super::server::shared;
use rootbridge_test_support::{TD, TestServer};

const AUDIENCE: &str = "rootbridge-admin";

/// With the rights that the chart's value gives, and the listener that it makes.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_asks_for_the_bundles_status() {
    let (api, ns) = (shared(), "admin-api");
    let client = api.client().await;
    namespace(&client, ns).await;
    for account in ["operator", "other"] {
        service_account(&client, ns, account).await;
    }
    let values = chart::set(&[
        "authentication.enabled=false",
        "admin.enabled=true",
        "admin.serviceAccounts={admin-api/operator}",
    ]);
    let made: toml::Value = toml::from_str(&chart::configuration(ns, &values)).unwrap();
    let listener = &made["listeners"]["admin"];
    let name = format!("spiffe://{TD}/ns/{ns}/sa/operator");
    assert_eq!(listener["admins"], toml::Value::from(vec![name.clone()]));
    let credential = chart::rights(&client, ns, &values).await;
    let setup = rootbridge(&[("local", api, &credential)], "");
    let audiences = format!("audiences = {{ admin = \"{AUDIENCE}\" }}\n");
    setup.edit(
        "[clusters.local]\n",
        &format!("[clusters.local]\n{audiences}"),
    );
    let ops = format!(
        "[listeners.ops]\naddress = \"127.0.0.1:0\"\napis = [\"admin\"]\nclusters = [\"local\"]\n\
         default_cluster = \"local\"\nadmins = [\"{name}\"]\n\
         tls = {{ trust_domain = \"{TD}\", dns = [\"localhost\"] }}\n\n[jwt.cluster]\n"
    );
    setup.edit("[jwt.cluster]\n", &ops);
    let server = setup.serve().await;
    let url = format!("https://localhost:{}", server.port_of("ops"));
    let ask = async |account: &str, audience: &str| {
        let token = token(&client, (ns, account), &[audience], 3600, None).await;
        let file = setup.issuer.file(&format!("{account}-{audience}"), &token);
        status(&setup, &url, file.to_str().unwrap())
    };
    let (code, out, said) = ask("operator", AUDIENCE).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        Value::Array(Vec::new())
    );
    let (code, _, said) = ask("other", AUDIENCE).await;
    assert!(code == 6 && said.contains("listener's admins"), "{said}");
    let (code, _, said) = ask("operator", "istio-ca").await;
    assert!(code == 6 && said.contains("not accepted"), "{said}");
    server.stop().await;
}

fn status(setup: &TestServer, url: &str, token: &str) -> (i32, String, String) {
    let roots = setup.path(&format!("{TD}.pem"));
    let output = setup.try_cli(&[
        "bundle",
        "status",
        "--admin",
        url,
        "--bundle",
        roots.to_str().unwrap(),
        "--token-file",
        token,
        "-o",
        "json",
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let out = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), out, said)
}
