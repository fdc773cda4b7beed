//! The chart's configuration for Linkerd as it is, but for paths and ports, with the rights that the
//! chart gives: the other identity service that proxies are pointed to.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::in_place::configured;
use super::proxy::{Proxy, name, take};
use super::{AUDIENCE, app};
use crate::chart;
use crate::objects::{namespace, token_for};
use crate::server::ApiServer;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, TD, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_certified_and_given_roots() {
    let server = ApiServer::start();
    let client = server.client().await;
    let mut values = chart::values("linkerd");
    let domain = format!("trustDomain={TD}");
    values.extend(["--set".to_owned(), domain]);
    namespace(&client, "linkerd").await;
    let who = chart::rights(&client, "rootbridge", &values).await;
    let text = chart::configuration("rootbridge", &values);
    let setup = configured(&text, "local", &server, &who);
    setup.init(TD, &[]);
    let running = setup.serve().await;

    let pod = app(&client, "shop").await;
    let token = token_for(&client, ("shop", "app"), AUDIENCE, &pod).await;
    setup.issuer.minted.lock().unwrap().push(token.clone());
    let own = name("shop", "app");
    let csr = KeyAndCsr::new(&[&own]);
    let roots = setup.roots(TD);
    // By the name that proxies verify anywhere: it is in no value.
    let proxy = Proxy::connect(running.port_of("linkerd"), &roots, None).await;
    let proxy = proxy.unwrap();
    let answer = proxy.own(("shop", "app"), &token, &csr).await.unwrap();
    take(&answer, &own, &csr, &roots);
    assert!(!proxy.was_asked());

    let maps: Api<ConfigMap> = Api::namespaced(client, "linkerd");
    eventually(PATIENCE, "the roots", async || {
        let map = maps.get_opt("linkerd-identity-trust-roots").await.unwrap();
        let data = map.and_then(|map| map.data).unwrap_or_default();
        data.get("ca-bundle.crt") == Some(&roots)
    })
    .await;
    running.stop().await;
}
