//! `rootbridge agent` in a cluster that the server does not know how to reach, with its network cut for
//! a part of a rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::files::write_secret;
use rootbridge_test_support::process::Process;
use rootbridge_test_support::{RunningServer, TD, TestServer, eventually};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::{Cluster, KEY, NAME, PATIENCE, published};
use crate::rootbridge::rootbridge;

const MORE: &str = r#"
[watchers.west]
trust_domain = "cluster.local"
identity = "spiffe://cluster.local/ns/rootbridge/sa/agent"
cluster = "west"

[rotation]
settle = "1h"
"#;

/// The network between the agent and the server.
struct Network {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Network {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                if cut.load(Ordering::Relaxed) {
                    continue;
                }
                let cut = Arc::clone(&cut);
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let cut = async {
                        while !cut.load(Ordering::Relaxed) {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = cut => {}
                    }
                });
            }
        });
        Self { port, is_cut }
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }
}

/// Writes the agent's file; `credential` is its lines about that.
fn configure(setup: &TestServer, cluster: &Cluster, network: &Network, credential: &str) {
    let kubeconfig = setup.path("west.kubeconfig");
    std::fs::write(&kubeconfig, cluster.api.kubeconfig(&cluster.credential)).unwrap();
    let roots = setup.path("first-roots.pem");
    if !roots.exists() {
        std::fs::write(&roots, setup.roots(TD)).unwrap();
    }
    let text = format!(
        r#"
[agent]
server = "https://localhost:{}"
ca_file = "{}"
trust_domain = "cluster.local"
state_file = "{}"
{credential}

[clusters.west]
trust_domain = "cluster.local"
kubeconfig = "{}"

[bundle_targets.istio]
trust_domain = "cluster.local"
clusters = ["west"]
preset = "istio"

[publisher]
lease_duration = "5s"

[log]
format = "json"
level = "info"
"#,
        network.port,
        roots.display(),
        setup.path("agent-state/bundle.json").display(),
        kubeconfig.display(),
    );
    std::fs::write(setup.path("agent.toml"), text).unwrap();
}

fn start(setup: &TestServer, log: &str) -> Process {
    let file = setup.path("agent.toml").display().to_string();
    let mut command = setup.command(&["agent", "--config", &file]);
    command.env_remove("ROOTBRIDGE_CONFIG");
    Process::start(&mut command, &setup.path(log))
}

fn rotate(setup: &TestServer, server: &RunningServer, arguments: &[&str]) -> Result<Value, String> {
    let admin = format!("http://127.0.0.1:{}", server.admin);
    let file = setup.path("operator.token").display().to_string();
    let access = ["--admin", &admin, "--credential-file", &file, "-o", "json"];
    let output = setup.try_cli(&[&["rotate"], arguments, &access].concat());
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// What the agent's cluster holds back.
fn held(setup: &TestServer, server: &RunningServer) -> Vec<Value> {
    let explain = ["explain", "--trust-domain", TD];
    let explained = rotate(setup, server, &explain).unwrap();
    let all = explained["held"].as_array().unwrap().iter();
    all.filter(|each| each["cluster"] == "west")
        .cloned()
        .collect()
}

async fn logged(agent: &Process, text: &str) {
    eventually(PATIENCE, text, async || agent.log().contains(text)).await;
}

/// Somebody puts another text into the object.
async fn edit(cluster: &Cluster) {
    let patch = Patch::Merge(json!({ "data": { KEY: "an old root" } }));
    let params = PatchParams {
        field_manager: Some("somebody".to_owned()),
        ..PatchParams::default()
    };
    cluster
        .maps("default")
        .patch(NAME, &params, &patch)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_publishes_where_the_server_cannot() {
    let cluster = Cluster::of_chart().await;
    let setup = rootbridge(&[], MORE);
    let server = setup.serve().await;
    let network = Network::to(server.port()).await;
    let token = setup.path("agent.token");
    write_secret(&token, &setup.issuer.own("rootbridge", "agent"));
    let by_token = format!("token_file = \"{}\"", token.display());
    configure(&setup, &cluster, &network, &by_token);
    let mut agent = start(&setup, "agent.log");
    let old = published(&setup);
    cluster.has("default", &old, PATIENCE).await;
    logged(&agent, "the server is followed").await;

    // The network is cut, and a new root is published meanwhile.
    network.cut(true);
    logged(&agent, "the server is not followed").await;
    rotate(&setup, &server, &["start", "--trust-domain", TD]).unwrap();
    for phase in ["publish", "converge"] {
        eventually(PATIENCE, phase, async || {
            let moved = rotate(&setup, &server, &["advance", "--trust-domain", TD]);
            moved.is_ok_and(|moved| moved["phase"] == phase)
        })
        .await;
    }
    let west = held(&setup, &server);
    assert_eq!(west[0]["condition"], "target", "{west:?}");
    assert_eq!(west[0]["what"], "target istio", "{west:?}");

    // It works from the last bundle, over a restart too.
    edit(&cluster).await;
    cluster.has("default", &old, PATIENCE).await;
    agent.kill();
    edit(&cluster).await;
    let csr = KeyAndCsr::workload("rootbridge", "agent");
    let caller = setup.issuer.istio("rootbridge", "agent");
    let chain = server.client(TD).await.istio(&caller, &csr).await.unwrap();
    std::fs::write(setup.path("agent.pem"), chain.pem()).unwrap();
    write_secret(&setup.path("agent.key"), &csr.key.serialize_pem());
    let by_certificate = format!(
        "certificate_file = \"{}\"\nkey_file = \"{}\"",
        setup.path("agent.pem").display(),
        setup.path("agent.key").display()
    );
    configure(&setup, &cluster, &network, &by_certificate);
    let mut agent = start(&setup, "agent-again.log");
    logged(
        &agent,
        "the last bundle is published until the server has a newer one",
    )
    .await;
    cluster.has("default", &old, PATIENCE).await;

    // Declared gone, it is not waited for; it comes back, is told so, and is waited for until it has
    // the bundle.
    let gone = ["gone", "--cluster", "west", "--reason", "CHG-7: deleted"];
    rotate(&setup, &server, &gone).unwrap();
    assert_eq!(held(&setup, &server), [] as [Value; 0]);
    network.cut(false);
    logged(&agent, "CHG-7: deleted").await;
    server
        .wait_for_log("a cluster that was declared gone is back")
        .await;
    eventually(PATIENCE, "both roots", async || {
        let pem = cluster.pem("default").await.unwrap_or_default();
        parse_pem_chain(pem.as_bytes()).is_ok_and(|roots| roots.len() == 2)
    })
    .await;
    // Only pods may not have read it yet, for as long as the configuration says.
    eventually(PATIENCE, "the cluster has the bundle", async || {
        let west = held(&setup, &server);
        west.len() == 1 && west[0]["condition"] == "settling"
    })
    .await;

    // Who edited is said.
    edit(&cluster).await;
    eventually(PATIENCE, "the edit is named", async || {
        let west = held(&setup, &server);
        west.iter().any(|each| {
            let why = each["why"].as_str().unwrap();
            why.contains("\"somebody\" changed the object in namespace default")
        })
    })
    .await;
    // It may no more than its targets need.
    for log in [
        agent.log(),
        std::fs::read_to_string(setup.path("agent.log")).unwrap(),
    ] {
        assert!(!log.contains("orbidden"), "{log}");
    }
    agent.terminate(PATIENCE).await;
    server.stop().await;
}
