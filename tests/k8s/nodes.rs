//! ztunnel: a node's proxy asks for the workloads of its node.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::callers::{ca, credential, headers};
use super::objects::{namespace, node, phase, pod, service_account, token, token_for};
use super::server::shared;
use rootbridge_test_support::chain::Chain;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::grpc::{istio_request, refusal, sign_request, text};
use rootbridge_test_support::{Client, PATIENCE, TD, eventually};

/// As ztunnel asks: a P-256 key, an empty subject, one critical URI SAN, its own token.
async fn ask(client: &Client, token: &str, identity: &str) -> Result<Vec<String>, Status> {
    let csr = KeyAndCsr::new(&[identity]);
    let metadata = [("ImpersonatedIdentity", text(identity))];
    let body = istio_request(&csr.pem, 86_400, &metadata);
    let answer = client
        .create(body, headers(token, Some("Kubernetes")))
        .await?;
    Ok(Chain::istio(&answer.cert_chain).names())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_has_the_workloads_of_its_node_and_no_others() {
    let client = shared().client().await;
    let (system, shop) = ("nodes-system", "nodes-shop");
    for ns in [system, shop] {
        namespace(&client, ns).await;
    }
    for name in ["nodes-1", "nodes-2"] {
        node(&client, name).await;
    }
    for (ns, sa) in [
        (system, "ztunnel"),
        (system, "other"),
        (shop, "cart"),
        (shop, "done"),
        (shop, "late"),
    ] {
        service_account(&client, ns, sa).await;
    }
    let proxy = pod(&client, system, "ztunnel-1", "ztunnel", "nodes-1").await;
    let far = pod(&client, system, "ztunnel-2", "ztunnel", "nodes-2").await;
    let other = pod(&client, system, "other-1", "other", "nodes-1").await;
    pod(&client, shop, "cart-0", "cart", "nodes-1").await;
    pod(&client, shop, "done-0", "done", "nodes-1").await;
    phase(&client, shop, "done-0", "Running").await;
    let of =
        async |sa: &'static str, pod: &Pod| token_for(&client, (system, sa), "istio-ca", pod).await;
    let (ours, theirs) = (of("ztunnel", &proxy).await, of("ztunnel", &far).await);
    let unlisted = of("other", &other).await;
    let unbound = token(&client, (system, "ztunnel"), &["istio-ca"], 3600, None).await;
    let credential = credential(&client, system).await;

    for way in ["token-review", "offline"] {
        let keys = format!(
            "aliases = [\"Kubernetes\"]\nauthenticate = \"{way}\"\n\
             node_accounts = [\"{system}/ztunnel\"]"
        );
        let setup = ca(&[("east", shared(), &credential, &keys)], "");
        let server = setup.serve().await;
        let ca = server.client(TD).await;
        let cart = id(shop, "cart");
        eventually(PATIENCE, "a workload beside it", async || {
            ask(&ca, &ours, &cart).await.is_ok()
        })
        .await;
        assert_eq!(ask(&ca, &ours, &cart).await.unwrap(), [cart.as_str()]);
        // The certificate names the workload, and the record says who got it.
        let rows = setup.certificates(&[]);
        let row = rows
            .iter()
            .find(|row| row["caller"]["identity"] == id(system, "ztunnel").as_str());
        let row = row.unwrap();
        assert_eq!(row["caller"]["node"], "nodes-1");
        assert!(
            row["caller"]["pod"]
                .as_str()
                .unwrap()
                .contains(&proxy.uid().unwrap())
        );
        assert!(row.to_string().contains(&cart));

        let foreign = cart.replace(TD, "other.example");
        for (token, identity) in [
            (&theirs, cart.as_str()),
            (&unlisted, &cart),
            (&unbound, &cart),
            (&ours, &foreign),
            (&ours, &id(shop, "cart2")),
            (&ours, "spiffe://a,evil.example,b/ns/x/sa/y"),
            (&ours, &format!("{cart}/x")),
            (&ours, &format!("{cart}\0")),
            (&ours, &format!("{cart}\n")),
            (&ours, &format!("{cart},{}", id(system, "ztunnel"))),
            (&ours, &id(shop, "*")),
            (&ours, &id(shop, &"a".repeat(60_000))),
        ] {
            let csr = KeyAndCsr::workload(shop, "cart");
            let metadata = [("ImpersonatedIdentity", text(identity))];
            let body = istio_request(&csr.pem, 86_400, &metadata);
            let answer = ca.create(body, headers(token, Some("east"))).await;
            refusal(answer, Code::Unauthenticated);
        }
        let refused = "rootbridge_authentications_refused_total{listener=\"mesh\",api=\"istio\",\
                       cluster=\"east\",reason=\"not_delegated\"}";
        assert!(server.metric(refused).await >= Some(12.0));
        // One that has ended runs no more.
        if way == "token-review" {
            ask(&ca, &ours, &id(shop, "done")).await.unwrap();
            phase(&client, shop, "done-0", "Succeeded").await;
        }
        eventually(PATIENCE, "its end", async || {
            let answer = ask(&ca, &ours, &id(shop, "done")).await;
            matches!(answer, Err(no) if no.code() == Code::Unauthenticated)
        })
        .await;
        // Asked for a moment before it comes.
        if way == "offline" {
            let comes = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                pod(&client, shop, "late-0", "late", "nodes-1").await;
            };
            let late = id(shop, "late");
            let (answer, ()) = tokio::join!(ask(&ca, &ours, &late), comes);
            assert_eq!(answer.unwrap(), [late]);
        }
        server.stop().await;
    }
}

/// A certificate that a node's proxy got for a workload is no credential for another one: its
/// holder never presented that workload's token. One that the workload got by its own token is.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_got_for_a_workload_renews_nothing() {
    let client = shared().client().await;
    let ns = "nodes-renewal";
    namespace(&client, ns).await;
    node(&client, ns).await;
    let mut tokens = Vec::new();
    for sa in ["ztunnel", "cart"] {
        service_account(&client, ns, sa).await;
        let pod = pod(&client, ns, sa, sa, ns).await;
        tokens.push(token_for(&client, (ns, sa), "istio-ca", &pod).await);
    }
    let credential = credential(&client, ns).await;
    let keys = format!("aliases = [\"Kubernetes\"]\nnode_accounts = [\"{ns}/ztunnel\"]");
    let setup = ca(&[("east", shared(), &credential, &keys)], "");
    setup.issuer.minted.lock().unwrap().extend(tokens.clone());
    let server = setup.serve().await;
    let plain = server.client(TD).await;
    let cart = id(ns, "cart");
    eventually(PATIENCE, "a workload beside it", async || {
        ask(&plain, &tokens[0], &cart).await.is_ok()
    })
    .await;

    // Both calls name one workload; they differ in whose token came with them.
    let asked = [("ImpersonatedIdentity", text(&cart))];
    for (token, metadata, renews) in [(&tokens[0], &asked[..], false), (&tokens[1], &[], true)] {
        let csr = KeyAndCsr::workload(ns, "cart");
        let body = |metadata| istio_request(&csr.pem, 3600, metadata);
        let answer = plain.create(body(metadata), headers(token, Some("Kubernetes")));
        let chain = Chain::istio(&answer.await.unwrap().cert_chain);
        assert_eq!(chain.names(), [cart.as_str()]);
        let key = csr.key.serialize_pem();
        let held = server.client_as(TD, Some((&chain.pem(), &key))).await;
        let by_istio = held.create(body(&[]), MetadataMap::new()).await;
        let by_ours = held.sign("", sign_request(&csr, "workload", &[])).await;
        if renews {
            let renewed = Chain::istio(&by_istio.unwrap().cert_chain);
            assert_eq!(renewed.names(), [cart.as_str()]);
            assert_eq!(Chain::own(&by_ours.unwrap()).names(), [cart.as_str()]);
        } else {
            refusal(by_istio, Code::Unauthenticated);
            refusal(by_ours, Code::Unauthenticated);
            let why = "its holder never presented a token";
            assert!(server.log().contains(why), "another reason");
            // A token in the header still counts on that connection.
            let body = body(&[]);
            let answer = held.create(body, headers(&tokens[1], Some("Kubernetes")));
            answer.await.unwrap();
        }
    }

    // The proxy renews its own certificate, and with that it is no node's proxy any more.
    let csr = KeyAndCsr::workload(ns, "ztunnel");
    let body = istio_request(&csr.pem, 3600, &[]);
    let answer = plain.create(body, headers(&tokens[0], Some("Kubernetes")));
    let chain = Chain::istio(&answer.await.unwrap().cert_chain);
    let key = csr.key.serialize_pem();
    let held = server.client_as(TD, Some((&chain.pem(), &key))).await;
    let body = istio_request(&csr.pem, 3600, &[]);
    held.create(body, MetadataMap::new()).await.unwrap();
    let body = istio_request(&KeyAndCsr::workload(ns, "cart").pem, 3600, &asked);
    refusal(
        held.create(body, MetadataMap::new()).await,
        Code::Unauthenticated,
    );
    server.stop().await;
}
