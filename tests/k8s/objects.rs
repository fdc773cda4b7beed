//! Objects that tests make: namespaces, accounts, nodes, pods, tokens, roles.

use std::fmt::Debug;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::access::Credential;

/// Makes an object from its JSON.
pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

pub(crate) async fn namespace(client: &Client, name: &str) -> Namespace {
    let api = Api::all(client.clone());
    create(&api, json!({ "metadata": { "name": name } })).await
}

pub(crate) async fn service_account(client: &Client, ns: &str, name: &str) -> ServiceAccount {
    let api = Api::namespaced(client.clone(), ns);
    create(&api, json!({ "metadata": { "name": name } })).await
}

/// A node, named after the test's namespace: nodes belong to the whole cluster, which tests share.
pub(crate) async fn node(client: &Client, name: &str) -> Node {
    let api = Api::all(client.clone());
    create(&api, json!({ "metadata": { "name": name } })).await
}

/// A pod of an account, on a node where one is named, which need not be an object.
pub(crate) async fn pod(client: &Client, ns: &str, name: &str, sa: &str, node: &str) -> Pod {
    let api = Api::namespaced(client.clone(), ns);
    let mut pod = json!({
        "metadata": { "name": name },
        "spec": {
            "serviceAccountName": sa,
            "containers": [{ "name": "main", "image": "none" }],
        },
    });
    if !node.is_empty() {
        pod["spec"]["nodeName"] = node.into();
    }
    create(&api, pod).await
}

/// Sets what a kubelet would: `Running`, `Failed`, `Succeeded`.
pub(crate) async fn phase(client: &Client, ns: &str, pod: &str, phase: &str) {
    let api: Api<Pod> = Api::namespaced(client.clone(), ns);
    let patch = Patch::Merge(json!({ "status": { "phase": phase } }));
    api.patch_status(pod, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// What a token is bound to: kind, name and UID.
pub(crate) type Bound<'a> = Option<(&'a str, &'a str, &'a str)>;

/// A token of an account, as a kubelet asks for it.
pub(crate) async fn token(
    client: &Client,
    (ns, sa): (&str, &str),
    audiences: &[&str],
    seconds: i64,
    bound: Bound<'_>,
) -> String {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), ns);
    let mut request = json!({ "spec": { "audiences": audiences, "expirationSeconds": seconds } });
    if let Some((kind, name, uid)) = bound {
        request["spec"]["boundObjectRef"] =
            json!({ "apiVersion": "v1", "kind": kind, "name": name, "uid": uid });
    }
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    let answer = api
        .create_token_request(sa, &PostParams::default(), &request)
        .await
        .unwrap();
    answer.status.unwrap().token.unwrap()
}

/// An hour's token for one audience, bound to a pod.
pub(crate) async fn token_for(
    client: &Client,
    sa: (&str, &str),
    audience: &str,
    pod: &Pod,
) -> String {
    let (name, uid) = (pod.name_any(), pod.uid().unwrap());
    token(client, sa, &[audience], 3600, Some(("Pod", &name, &uid))).await
}

/// What the API server says of a token.
pub(crate) async fn review(client: &Client, token: &str, audiences: &[&str]) -> TokenReview {
    let api = Api::all(client.clone());
    create(
        &api,
        json!({ "spec": { "token": token, "audiences": audiences } }),
    )
    .await
}

/// An account with a cluster role of these rules, and the account's token for the API server: what
/// Rootbridge has in a cluster. `ns` must be there.
pub(crate) async fn granted(
    client: &Client,
    ns: &str,
    sa: &str,
    rules: Vec<PolicyRule>,
) -> Credential {
    service_account(client, ns, sa).await;
    let name = format!("{ns}-{sa}");
    let role: Api<ClusterRole> = Api::all(client.clone());
    create(
        &role,
        json!({ "metadata": { "name": name }, "rules": rules }),
    )
    .await;
    let binding: Api<ClusterRoleBinding> = Api::all(client.clone());
    let object = json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": sa, "namespace": ns }],
    });
    create(&binding, object).await;
    Credential::Token(token(client, (ns, sa), &[], 86_400, None).await)
}

/// One RBAC rule.
pub(crate) fn rule(group: &str, resources: &[&str], verbs: &[&str], names: &[&str]) -> PolicyRule {
    let owned = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        resource_names: (!names.is_empty()).then(|| owned(names)),
        non_resource_urls: None,
    }
}
