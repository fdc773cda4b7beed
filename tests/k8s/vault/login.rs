//! A pod's own token, as `auth/kubernetes/login` takes it.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};
use serde_json::{Value, json};

use super::Vault;
use crate::access::Credential;
use crate::callers::{credential, recorded};
use crate::objects::{namespace, node, pod, service_account, token, token_for};
use crate::rootbridge::rootbridge;
use crate::server::shared;

const NS: &str = "vault-login";

fn configured(credential: &Credential, way: &str) -> TestServer {
    let more = format!(
        r#"
[listeners.vault]
address = "127.0.0.1:0"
apis = ["vault"]
clusters = ["east"]
default_cluster = "east"
tls = {{ trust_domain = "{TD}", dns = ["localhost"] }}

[vault.mount.pki]
authority = "{TD}"
"#
    );
    let setup = rootbridge(&[("east", shared(), credential)], &more);
    let head = "[clusters.east]\n";
    let keys =
        format!("{head}audiences = {{ vault = \"rootbridge\" }}\nauthenticate = \"{way}\"\n");
    setup.edit(head, &keys);
    setup
}

/// The token of a login that succeeds, after what it must say was compared.
async fn log_in(setup: &TestServer, vault: &Vault, path: &str, jwt: &str) -> String {
    let body = json!({ "role": "web", "jwt": jwt });
    let (status, answer) = vault.post("", path, &body).await;
    assert_eq!(status, 200, "{answer}");
    let auth = &answer["auth"];
    assert_eq!(auth["policies"], json!([id(NS, "app")]));
    assert_eq!(auth["metadata"]["cluster"], "east");
    assert_eq!(auth["renewable"], true);
    let token = auth["client_token"].as_str().unwrap().to_owned();
    setup.issuer.minted.lock().unwrap().push(token.clone());
    token
}

async fn refused(vault: &Vault, path: &str, jwt: &str) {
    let body = json!({ "role": "web", "jwt": jwt });
    let (status, answer) = vault.post("", path, &body).await;
    let errors = json!({ "errors": ["permission denied"] });
    assert_eq!((status, &answer), (403, &errors), "{path}");
}

async fn sign(vault: &Vault, token: &str) -> Value {
    let csr = KeyAndCsr::workload(NS, "app").pem;
    let (status, answer) = vault
        .post(token, "pki/sign/any", &json!({ "csr": csr }))
        .await;
    assert_eq!(status, 200, "{answer}");
    answer["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_token_logs_in_by_review_and_by_the_clusters_keys() {
    let client = shared().client().await;
    namespace(&client, NS).await;
    node(&client, NS).await;
    service_account(&client, NS, "app").await;
    let app = pod(&client, NS, "app-0", "app", NS).await;
    let credential = credential(&client, NS).await;
    let bound = token_for(&client, (NS, "app"), "rootbridge", &app).await;
    let other = token_for(&client, (NS, "app"), "other", &app).await;
    // As cert-manager requests them, with audiences of its own too.
    let audiences = ["rootbridge", "vault://issuer", "https://localhost"];
    let several = token(&client, (NS, "app"), &audiences, 600, None).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NS);

    for (way, method) in [
        ("token-review", "token_review"),
        ("offline", "cluster_keys"),
    ] {
        let setup = configured(&credential, way);
        let minted = [&bound, &other, &several].map(Clone::clone);
        setup.issuer.minted.lock().unwrap().extend(minted);
        let server = setup.serve().await;
        let vault = Vault::connect(&setup, &server).await;
        let mut on_record = Value::Null;
        // The cluster is not known from the first moment on, nor are its keys.
        eventually(PATIENCE, "a login in this way", async || {
            let body = json!({ "jwt": bound });
            let (status, _) = vault.post("", "auth/kubernetes/login", &body).await;
            if status == 200 {
                let token = log_in(&setup, &vault, "auth/kubernetes/login", &bound).await;
                sign(&vault, &token).await;
                on_record = recorded(&setup, method).pop().unwrap_or_default();
            }
            !on_record.is_null()
        })
        .await;
        assert_eq!(on_record["cluster"], "east");
        let name = format!("{NS}/app-0 {}", app.uid().unwrap());
        assert_eq!(on_record["pod"], name.as_str());
        for (path, jwt) in [
            ("auth/east/login", &bound),
            ("auth/kubernetes/login", &several),
        ] {
            let token = log_in(&setup, &vault, path, jwt).await;
            sign(&vault, &token).await;
        }

        let cut = bound.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
        for (path, jwt) in [
            ("auth/kubernetes/login", other.as_str()),
            ("auth/kubernetes/login", &cut),
            ("auth/kubernetes/login", "opaque"),
            ("auth/west/login", &bound),
        ] {
            refused(&vault, path, jwt).await;
        }
        server.wait_for_log("there is no login at auth/west").await;
        // A login's token is for this API alone, and no token of an account replaces it.
        let csr = json!({ "csr": KeyAndCsr::workload(NS, "app").pem });
        let (status, answer) = vault.post(&bound, "pki/sign/any", &csr).await;
        assert_eq!(status, 403, "{answer}");
        if way == "offline" {
            // As a kubelet does once the containers have ended.
            let now = DeleteParams::default().grace_period(0);
            pods.delete("app-0", &now).await.unwrap();
            eventually(PATIENCE, "no login of a pod that is gone", async || {
                let body = json!({ "jwt": bound });
                let (status, _) = vault.post("", "auth/kubernetes/login", &body).await;
                status == 403
            })
            .await;
        }
        server.stop().await;
    }
}
