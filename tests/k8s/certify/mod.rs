//! Linkerd's proxies, and Rootbridge in the place of their identity controller.

mod chart;
mod events;
mod faults;
mod generated;
mod in_place;
mod keys;
mod proxy;
mod speed;
mod table;
mod transport;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;

use super::access::Credential;
use super::callers::credential;
use super::objects::{namespace, node, pod, service_account, token_for};
use super::rootbridge::rootbridge;
use super::server::{ApiServer, shared};
use proxy::Proxy;
use rootbridge_test_support::{RunningServer, TD, TestServer};

/// The audience of the tokens that Linkerd's injector projects.
const AUDIENCE: &str = "identity.l5d.io";

/// A CA that is the identity service of a cluster; `more` are further keys of the cluster.
fn identity(at: &ApiServer, who: &Credential, more: &str) -> TestServer {
    let setup = rootbridge(&[("east", at, who)], LISTENER);
    let head = "[clusters.east]\n";
    setup.edit(
        head,
        &format!("{head}audiences = {{ linkerd = \"{AUDIENCE}\" }}\n{more}\n"),
    );
    setup
}

const LISTENER: &str = r#"
[listeners.identity]
address = "127.0.0.1:0"
apis = ["linkerd"]
clusters = ["east"]
tls = { trust_domain = "cluster.local" }
"#;

/// A pod of the account `app`, in a namespace and on a node of its own.
async fn app(client: &Client, ns: &str) -> Pod {
    namespace(client, ns).await;
    node(client, ns).await;
    service_account(client, ns, "app").await;
    pod(client, ns, "app-0", "app", ns).await
}

/// A namespace with a pod of the account `app`, and a CA beside it.
struct Scene {
    client: Client,
    ns: &'static str,
    pod: Pod,
    setup: TestServer,
}

impl Scene {
    async fn new(ns: &'static str) -> Self {
        let client = shared().client().await;
        let pod = app(&client, ns).await;
        let who = credential(&client, ns).await;
        let setup = identity(shared(), &who, "");
        Self {
            client,
            ns,
            pod,
            setup,
        }
    }

    /// The token that is projected into the pod.
    async fn token(&self) -> String {
        self.token_for(AUDIENCE).await
    }

    async fn token_for(&self, audience: &str) -> String {
        let token = token_for(&self.client, (self.ns, "app"), audience, &self.pod).await;
        self.setup.issuer.minted.lock().unwrap().push(token.clone());
        token
    }

    fn anchors(&self) -> String {
        self.setup.roots(TD)
    }

    async fn proxy(&self, server: &RunningServer) -> Proxy {
        Proxy::connect(server.port_of("identity"), &self.anchors(), None)
            .await
            .unwrap()
    }
}
