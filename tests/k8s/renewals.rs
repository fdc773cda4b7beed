//! Renewal with a client certificate, by callers of a real API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::DeleteParams;
use tonic::Code;
use tonic::metadata::MetadataMap;

use super::callers::{ca, credential, headers};
use super::objects::{namespace, node, pod, service_account, token_for};
use super::server::shared;
use rootbridge_test_support::chain::Chain;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{istio_request, sign_request};
use rootbridge_test_support::{PATIENCE, TD, eventually};

/// Between calls of one caller, which stays below its rate.
const PAUSE: Duration = Duration::from_millis(200);

/// The certificate of a pod or an account that is gone renews nothing, by either API.
#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_is_renewed_for_who_is_gone() {
    let client = shared().client().await;
    let ns = "renewals-gone";
    namespace(&client, ns).await;
    node(&client, ns).await;
    let credential = credential(&client, ns).await;
    let setup = ca(
        &[("east", shared(), &credential, "authenticate = \"offline\"")],
        "",
    );
    let server = setup.serve().await;
    let plain = server.client(TD).await;
    for sa in ["pod-goes", "account-goes"] {
        service_account(&client, ns, sa).await;
        let app = pod(&client, ns, sa, sa, ns).await;
        let token = token_for(&client, (ns, sa), "istio-ca", &app).await;
        setup.issuer.minted.lock().unwrap().push(token.clone());
        let csr = KeyAndCsr::workload(ns, sa);
        let body = || istio_request(&csr.pem, 3600, &[]);
        let mut first = None;
        eventually(PATIENCE, "the cluster", async || {
            let answer = plain.create(body(), headers(&token, Some("east"))).await;
            first = answer.ok();
            first.is_some()
        })
        .await;
        let chain = Chain::istio(&first.unwrap().cert_chain);
        let key = csr.key.serialize_pem();
        let held = server.client_as(TD, Some((&chain.pem(), &key))).await;
        held.create(body(), MetadataMap::new()).await.unwrap();

        let now = DeleteParams::default().grace_period(0);
        if sa == "pod-goes" {
            let pods: Api<Pod> = Api::namespaced(client.clone(), ns);
            pods.delete(sa, &now).await.unwrap();
        } else {
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), ns);
            accounts.delete(sa, &now).await.unwrap();
        }
        let is_refused = |code| code == Code::Unauthenticated;
        eventually(PATIENCE, "by Istio's API", async || {
            tokio::time::sleep(PAUSE).await;
            let answer = held.create(body(), MetadataMap::new()).await;
            answer.is_err_and(|no| is_refused(no.code()))
        })
        .await;
        eventually(PATIENCE, "by our API", async || {
            tokio::time::sleep(PAUSE).await;
            let answer = held.sign("", sign_request(&csr, "workload", &[])).await;
            answer.is_err_and(|no| is_refused(no.code()))
        })
        .await;
        server.wait_for_log("is gone from cluster east").await;
    }
    server.stop().await;
}
