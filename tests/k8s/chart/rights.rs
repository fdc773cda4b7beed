//! With the chart's roles the features' requests pass at a real API server, and others do not: a
//! name in a rule holds for the create of a server-side apply, and for a list of that one name.

use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::install::{namespace, rights};
use super::values;
use crate::server::shared;

/// A client with the rights of the set that switches everything on.
async fn everything(ns: &str) -> Client {
    let server = shared();
    let admin = server.client().await;
    let credential = rights(&admin, ns, &values("module")).await;
    server.client_as(&credential).await
}

fn forbidden<T: std::fmt::Debug>(answer: kube::Result<T>) {
    match answer {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{status:?}"),
        other => panic!("{other:?}"),
    }
}

async fn applied<K>(api: &Api<K>, name: &str, object: Value) -> kube::Result<K>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams::apply("rootbridge").force();
    api.patch(name, &params, &Patch::Apply(object)).await
}

fn config_map(name: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
        "data": { "root-cert.pem": value } })
}

#[tokio::test]
async fn the_publisher_writes_its_config_maps_only() {
    let client = everything("chart-publisher").await;
    namespace(&shared().client().await, "chart-published", json!({})).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.list(&ListParams::default()).await.unwrap();
    forbidden(namespaces.get("chart-published").await);

    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "chart-published");
    let ours = "istio-ca-root-cert";
    applied(&maps, ours, config_map(ours, "first"))
        .await
        .unwrap();
    applied(&maps, ours, config_map(ours, "second"))
        .await
        .unwrap();
    forbidden(applied(&maps, "other", config_map("other", "first")).await);
    forbidden(maps.delete(ours, &Default::default()).await);

    let everywhere: Api<ConfigMap> = Api::all(client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={ours}"));
    let found = everywhere.list(&named).await.unwrap();
    assert!(
        found
            .items
            .iter()
            .all(|map| map.metadata.name.as_deref() == Some(ours))
    );
    forbidden(everywhere.list(&ListParams::default()).await);

    let leases: Api<Lease> = Api::namespaced(client, "chart-publisher");
    let lease = |name: &str| -> Lease {
        serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
    };
    let lock = "rb-rootbridge-publisher";
    let made = leases
        .create(&PostParams::default(), &lease(lock))
        .await
        .unwrap();
    leases
        .replace(lock, &PostParams::default(), &made)
        .await
        .unwrap();
    leases.get(lock).await.unwrap();
    forbidden(leases.get("other").await);
}

#[tokio::test]
async fn trust_bundles_are_written_under_their_signer_only() {
    let client = everything("chart-bundles").await;
    let kind = kube::core::GroupVersionKind::gvk("certificates.k8s.io", "v1", "ClusterTrustBundle");
    let resource = kube::core::ApiResource::from_gvk(&kind);
    let api: Api<kube::api::DynamicObject> = Api::all_with(client, &resource);
    let bundle = |name: &str, signer: &str| {
        json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
            "metadata": { "name": name },
            "spec": { "signerName": signer, "trustBundle": shared().ca() } })
    };
    let ours = "rootbridge.example:pod:roots";
    applied(&api, ours, bundle(ours, "rootbridge.example/pod"))
        .await
        .unwrap();
    let other = "rootbridge.example:mesh:roots";
    forbidden(applied(&api, other, bundle(other, "rootbridge.example/mesh")).await);
}

#[tokio::test]
async fn istiods_secret_is_the_only_one() {
    let client = everything("chart-istiod").await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "istio-system");
    let secret = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "ca.crt": "x" } })
    };
    applied(&secrets, "istiod-tls", secret("istiod-tls"))
        .await
        .unwrap();
    secrets.get("istiod-tls").await.unwrap();
    let named = ListParams::default().fields("metadata.name=istiod-tls");
    secrets.list(&named).await.unwrap();
    forbidden(secrets.get("cacerts").await);
    forbidden(secrets.list(&ListParams::default()).await);
    forbidden(applied(&secrets, "cacerts", secret("cacerts")).await);
    let elsewhere: Api<Secret> = Api::namespaced(client, "chart-istiod");
    forbidden(elsewhere.get("istiod-tls").await);
}

#[tokio::test]
async fn the_issuers_secret_and_events_are_all_of_linkerds_namespace() {
    let client = everything("chart-linkerd").await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "linkerd");
    let secret = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "ca.crt": "x" } })
    };
    let ours = "linkerd-identity-issuer";
    applied(&secrets, ours, secret(ours)).await.unwrap();
    secrets.get(ours).await.unwrap();
    forbidden(secrets.list(&ListParams::default()).await);
    forbidden(applied(&secrets, "other", secret("other")).await);
    let events: Api<Event> = Api::namespaced(client.clone(), "linkerd");
    events.list(&ListParams::default()).await.unwrap();
    let elsewhere: Api<Event> = Api::namespaced(client.clone(), "chart-linkerd");
    forbidden(elsewhere.list(&ListParams::default()).await);
    let pods: Api<Pod> = Api::all(client);
    pods.list(&ListParams::default()).await.unwrap();
}

/// An account with the token review's right alone reviews tokens, and sees no pod.
#[tokio::test]
async fn evaluation_reviews_tokens_and_no_more() {
    let server = shared();
    let admin = server.client().await;
    let credential = rights(&admin, "chart-reviews", &values("softhsm")).await;
    let client = server.client_as(&credential).await;
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let review = serde_json::from_value(json!({ "spec": { "token": "x" } })).unwrap();
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    assert_ne!(answer.status.unwrap().authenticated, Some(true));
    let pods: Api<Pod> = Api::all(client.clone());
    forbidden(pods.list(&ListParams::default()).await);
    let secrets: Api<Secret> = Api::namespaced(client, "chart-reviews");
    forbidden(secrets.list(&ListParams::default()).await);
}

/// What the fast way of authentication reads is open to it: pods, accounts, the published keys.
#[tokio::test]
async fn the_index_and_the_published_keys_are_read() {
    let client = everything("chart-index").await;
    let pods: Api<Pod> = Api::all(client.clone());
    pods.list(&ListParams::default()).await.unwrap();
    for path in ["/openid/v1/jwks", "/.well-known/openid-configuration"] {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        client.request_text(request).await.unwrap();
    }
}
