//! Events about certificates on the service accounts that they are for.

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::proxy::{Proxy, name};
use super::{Scene, identity};
use crate::objects::{granted, rule};
use crate::server::shared;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, TD, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_an_event_on_its_service_account() {
    let scene = Scene::new("certify-events").await;
    let token = scene.token().await;
    let rules = vec![
        rule("authentication.k8s.io", &["tokenreviews"], &["create"], &[]),
        rule("", &["events"], &["create"], &[]),
    ];
    let who = granted(&scene.client, scene.ns, "rootbridge-events", rules).await;
    let setup = identity(shared(), &who, "");
    setup.issuer.minted.lock().unwrap().push(token.clone());
    let listener = "[listeners.identity]\n";
    let events = "[listeners.identity.linkerd]\nevents = true\n\n";
    setup.edit(listener, &format!("{events}{listener}"));

    let own = name(scene.ns, "app");
    let csr = KeyAndCsr::new(&[&own]);
    let server = setup.serve().await;
    let port = server.port_of("identity");
    let proxy = Proxy::connect(port, &setup.roots(TD), None).await.unwrap();
    let answer = proxy.own((scene.ns, "app"), &token, &csr).await.unwrap();
    let sha256 = hex(digest(&SHA256, &answer.leaf_certificate).as_ref());

    let api: Api<Event> = Api::namespaced(scene.client.clone(), scene.ns);
    let of = ListParams::default().fields("involvedObject.kind=ServiceAccount");
    let mut events = Vec::new();
    eventually(PATIENCE, "the event", async || {
        events = api.list(&of).await.unwrap().items;
        !events.is_empty()
    })
    .await;
    let event = events.pop().unwrap();
    assert_eq!(event.reason.as_deref(), Some("IssuedLeafCertificate"));
    assert_eq!(event.involved_object.name.as_deref(), Some("app"));
    let message = event.message.unwrap();
    assert!(message.starts_with(&format!("issued certificate for {own} until ")));
    assert!(message.ends_with(&sha256), "{message}");

    // What is not asked for is not written: the other listener of this test has no `events`.
    let quiet = Scene::new("certify-quiet").await;
    let server = quiet.setup.serve().await;
    let proxy = quiet.proxy(&server).await;
    let csr = KeyAndCsr::new(&[&name(quiet.ns, "app")]);
    let token = quiet.token().await;
    proxy.own((quiet.ns, "app"), &token, &csr).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let api: Api<Event> = Api::namespaced(quiet.client.clone(), quiet.ns);
    assert!(api.list(&of).await.unwrap().items.is_empty());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
