//! ztunnel: a node's proxy asks for the workloads of its node.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tonic::{Code, Status};

use super::callers::{ca, credential, headers};
use super::objects::{namespace, node, phase, pod, service_account, token, token_for};
use super::server::shared;
use super::support::calls::{istio_request, text, told};
use super::support::chain::Chain;
use super::support::request::{Request, id};
use super::support::{Client, PATIENCE, TD, eventually};

/// As ztunnel asks: a P-256 key, an empty subject, one critical URI SAN, its own token.
async fn ask(client: &Client, token: &str, identity: &str) -> Result<Vec<String>, Status> {
    let csr = Request::new(&[identity]);
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
        let line = ca(&[("east", shared(), &credential, &keys)], "");
        let server = line.serve().await;
        let ca = server.client(TD).await;
        let cart = id(shop, "cart");
        eventually(PATIENCE, "a workload beside it", async || {
            ask(&ca, &ours, &cart).await.is_ok()
        })
        .await;
        assert_eq!(ask(&ca, &ours, &cart).await.unwrap(), [cart.as_str()]);
        // The certificate names the workload, and the record says who got it.
        let rows = line.certificates(&[]);
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
        ] {
            let csr = Request::workload(shop, "cart");
            let metadata = [("ImpersonatedIdentity", text(identity))];
            let body = istio_request(&csr.pem, 86_400, &metadata);
            let answer = ca.create(body, headers(token, Some("east"))).await;
            told(answer, Code::Unauthenticated);
        }
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
