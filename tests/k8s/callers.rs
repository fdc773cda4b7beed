//! Pods as callers: their real tokens, verified by a real API server and by its keys.

use std::io::Write as _;
use std::pin::pin;
use std::process::Stdio;

use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tonic::Code;
use tonic::metadata::MetadataMap;

use super::access::Credential;
use super::chart;
use super::objects::{create, namespace, node, pod, service_account, token, token_for};
use super::rootbridge::rootbridge;
use super::server::{ApiServer, shared};
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::grpc::{istio_request, refusal};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

/// What Rootbridge may do in a cluster: ask about tokens, and watch pods and accounts.
pub(crate) async fn credential(client: &Client, ns: &str) -> Credential {
    chart::rights(client, ns, &chart::set(&["authentication.method=offline"])).await
}

/// A CA whose one listener takes these clusters alone; each with its further keys.
pub(crate) fn ca(clusters: &[(&str, &ApiServer, &Credential, &str)], default: &str) -> TestServer {
    let reached: Vec<_> = clusters
        .iter()
        .map(|(name, at, who, _)| (*name, *at, *who))
        .collect();
    let setup = rootbridge(&reached, "");
    for (name, _, _, more) in clusters {
        let head = format!("[clusters.{name}]\n");
        let keys = format!("{head}audiences = {{ istio = \"istio-ca\" }}\n{more}\n");
        setup.edit(&head, &keys);
    }
    let names: Vec<_> = clusters.iter().map(|(name, ..)| *name).collect();
    setup.edit(
        "jwt = [\"cluster\", \"people\"]",
        &format!("clusters = {names:?}\n{default}"),
    );
    setup
}

/// Istio's headers, with a cluster's id where one is given.
pub(crate) fn headers(token: &str, cluster: Option<&str>) -> MetadataMap {
    let mut headers = MetadataMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    if let Some(cluster) = cluster {
        headers.insert("clusterid", cluster.parse().unwrap());
    }
    headers
}

pub(crate) struct Caller {
    client: rootbridge_test_support::Client,
    csr: KeyAndCsr,
}

impl Caller {
    pub(crate) async fn new(server: &RunningServer, ns: &str, sa: &str) -> Self {
        Self {
            client: server.client(TD).await,
            csr: KeyAndCsr::workload(ns, sa),
        }
    }

    /// The names that were certified.
    pub(crate) async fn ask(
        &self,
        token: &str,
        cluster: Option<&str>,
    ) -> Result<Vec<String>, tonic::Status> {
        let body = istio_request(&self.csr.pem, 3600, &[]);
        let answer = self.client.create(body, headers(token, cluster)).await?;
        Ok(rootbridge_test_support::chain::Chain::istio(&answer.cert_chain).names())
    }
}

/// The callers on record, the newest last.
pub(crate) fn recorded(setup: &TestServer, method: &str) -> Vec<Value> {
    let all = setup.certificates(&[]);
    let callers = all.into_iter().map(|row| row["caller"].clone());
    callers
        .filter(|caller| caller["method"] == method)
        .collect()
}

/// Waits until a token is verified here.
pub(crate) async fn offline(setup: &TestServer, caller: &Caller, token: &str) {
    eventually(PATIENCE, "a token that needs no request", async || {
        caller.ask(token, None).await.unwrap();
        !recorded(setup, "cluster_keys").is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_token_is_its_accounts_identity_in_both_modes() {
    let client = shared().client().await;
    let ns = "callers-both";
    namespace(&client, ns).await;
    node(&client, "callers-both").await;
    let uid = service_account(&client, ns, "app").await.uid().unwrap();
    let app = pod(&client, ns, "app-0", "app", "callers-both").await;
    let credential = credential(&client, ns).await;
    let bound = token_for(&client, (ns, "app"), "istio-ca", &app).await;
    let other = token_for(&client, (ns, "app"), "other", &app).await;
    let free = token(&client, (ns, "app"), &["istio-ca"], 3600, None).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ns);
    let secret = create(&secrets, json!({ "metadata": { "name": "held" } })).await;
    let held = ("Secret", "held", &secret.uid().unwrap()[..]);
    let held = token(&client, (ns, "app"), &["istio-ca"], 3600, Some(held)).await;

    for way in ["token-review", "offline"] {
        let keys = format!("aliases = [\"Kubernetes\"]\nauthenticate = \"{way}\"");
        let setup = ca(
            &[("east", shared(), &credential, &keys)],
            "default_cluster = \"east\"",
        );
        let minted = [&bound, &other, &free, &held].map(Clone::clone);
        setup.issuer.minted.lock().unwrap().extend(minted);
        let server = setup.serve().await;
        let caller = Caller::new(&server, ns, "app").await;
        eventually(PATIENCE, "the cluster", async || {
            caller.ask(&bound, None).await.is_ok()
        })
        .await;
        if way == "offline" {
            offline(&setup, &caller, &bound).await;
        }
        for cluster in [None, Some(""), Some("east"), Some("Kubernetes")] {
            let names = caller.ask(&bound, cluster).await.unwrap();
            assert_eq!(names, [id(ns, "app")]);
        }
        let method = match way {
            "offline" => "cluster_keys",
            _ => "token_review",
        };
        let on_record = recorded(&setup, method).pop().unwrap();
        assert_eq!(on_record["cluster"], "east");
        assert_eq!(on_record["node"], "callers-both");
        let name = format!("{ns}/app-0 {}", app.uid().unwrap());
        assert_eq!(on_record["pod"], name.as_str());

        // Bound to no pod: the API server verifies it, and no pod is recorded.
        let before = recorded(&setup, "token_review").len();
        for token in [&free, &held] {
            caller.ask(token, None).await.unwrap();
        }
        let reviewed = recorded(&setup, "token_review");
        assert_eq!(reviewed.len(), before + 2);
        assert!(reviewed.iter().filter(|each| each["pod"].is_null()).count() >= 2);

        refusal(caller.ask(&other, None).await, Code::Unauthenticated);
        let cut = bound.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
        refusal(caller.ask(&cut, None).await, Code::Unauthenticated);
        refusal(caller.ask("opaque", None).await, Code::Unauthenticated);
        refusal(
            caller.ask(&bound, Some("north")).await,
            Code::Unauthenticated,
        );
        for odd in ["east,west", "east/", "../east", "*", "%65ast", "EAST"] {
            refusal(caller.ask(&bound, Some(odd)).await, Code::Unauthenticated);
        }
        server.wait_for_log("a call names an unknown cluster").await;
        assert!(server.log().contains("\\\"north\\\""), "which one");
        let mut twice = headers(&bound, Some("east"));
        twice.append("clusterid", "east".parse().unwrap());
        let body = istio_request(&caller.csr.pem, 3600, &[]);
        let answer = caller.client.create(body, twice).await;
        refusal(answer, Code::Unauthenticated);
        let refused = async |cluster: &str| {
            let of = format!(
                "listener=\"mesh\",api=\"istio\",cluster=\"{cluster}\",reason=\"rejected\""
            );
            let name = format!("rootbridge_authentications_refused_total{{{of}}}");
            server.metric(&name).await.unwrap_or_default()
        };
        // Its own word; and what is no JWT, or names no cluster or two: no label has what they named.
        assert_eq!((refused("east").await, refused("").await), (2.0, 9.0));
        server.stop().await;
    }
    // For the account's next life.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), ns);
    accounts
        .delete("app", &DeleteParams::default())
        .await
        .unwrap();
    assert_ne!(
        service_account(&client, ns, "app").await.uid().unwrap(),
        uid
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_outlives_its_pod_or_its_account() {
    let client = shared().client().await;
    let ns = "callers-gone";
    namespace(&client, ns).await;
    node(&client, ns).await;
    let credential = credential(&client, ns).await;
    let setup = ca(
        &[("east", shared(), &credential, "authenticate = \"offline\"")],
        "default_cluster = \"east\"",
    );
    let server = setup.serve().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), ns);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), ns);
    for (sa, again) in [("pod-goes", false), ("account-goes", true)] {
        service_account(&client, ns, sa).await;
        let app = pod(&client, ns, sa, sa, ns).await;
        let bound = token_for(&client, (ns, sa), "istio-ca", &app).await;
        let caller = Caller::new(&server, ns, sa).await;
        eventually(PATIENCE, "the cluster", async || {
            caller.ask(&bound, None).await.is_ok()
        })
        .await;
        offline(&setup, &caller, &bound).await;
        if again {
            accounts.delete(sa, &DeleteParams::default()).await.unwrap();
            service_account(&client, ns, sa).await;
        } else {
            let now = DeleteParams::default().grace_period(0);
            pods.delete(sa, &now).await.unwrap();
            // Its name is taken by another at once, as a StatefulSet does.
            pod(&client, ns, sa, sa, ns).await;
        }
        // The API server keeps its own yes for ten seconds.
        eventually(PATIENCE, "a rejection", async || {
            matches!(caller.ask(&bound, None).await, Err(no) if no.code() == Code::Unauthenticated)
        })
        .await;
    }
    server.stop().await;
}

/// One API server hangs: its callers get an error that allows retries, in time, and those of another
/// cluster notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_hangs_delays_no_other_clusters_callers() {
    let stopped = ApiServer::start();
    let mut tokens = Vec::new();
    let mut credentials = Vec::new();
    for at in [&stopped, shared()] {
        let client = at.client().await;
        let ns = "callers-still";
        namespace(&client, ns).await;
        service_account(&client, ns, "app").await;
        node(&client, "callers-still").await;
        let app = pod(&client, ns, "app-0", "app", "callers-still").await;
        credentials.push(credential(&client, ns).await);
        let mut many = Vec::new();
        // New ones each time: the API server remembers for ten seconds what it has accepted.
        for _ in 0..2 {
            many.push(token_for(&client, (ns, "app"), "istio-ca", &app).await);
        }
        tokens.push(many);
    }
    let setup = ca(
        &[
            (
                "east",
                &stopped,
                &credentials[0],
                "review_timeout = \"10s\"",
            ),
            ("west", shared(), &credentials[1], ""),
        ],
        "",
    );
    let server = setup.serve().await;
    let caller = Caller::new(&server, "callers-still", "app").await;
    for (name, tokens) in [("east", &tokens[0]), ("west", &tokens[1])] {
        eventually(PATIENCE, name, async || {
            caller.ask(&tokens[0], Some(name)).await.is_ok()
        })
        .await;
    }
    // A token of one cluster is nothing in the other, and without a default none is none.
    refusal(
        caller.ask(&tokens[0][0], Some("west")).await,
        Code::Unauthenticated,
    );
    refusal(caller.ask(&tokens[0][0], None).await, Code::Unauthenticated);
    // It is not even shown to the other, once the keys are known: they have the same issuer.
    let screened = "rootbridge_cluster_tokens_total{cluster=\"west\",verification=\"none\",result=\"rejected\"}";
    eventually(PATIENCE, "it is refused without a question", async || {
        let answer = caller.ask(&tokens[0][1], Some("west")).await;
        refusal(answer, Code::Unauthenticated);
        server.metric(screened).await.is_some()
    })
    .await;

    stopped.pause();
    let mut east = pin!(tokio::time::timeout(
        PATIENCE,
        caller.ask(&tokens[0][1], Some("east"))
    ));
    tokio::select! {
        biased;
        answer = caller.ask(&tokens[1][1], Some("west")) => { answer.unwrap(); }
        _ = &mut east => panic!("the cluster that hangs was answered first"),
    }
    refusal(east.await.expect("it is bounded"), Code::Unavailable);
    let metric = "rootbridge_cluster_up{cluster=\"east\"}";
    eventually(PATIENCE, "it is seen", async || {
        server.metric(metric).await == Some(0.0)
    })
    .await;
    stopped.resume();
    eventually(PATIENCE, "it heals", async || {
        caller.ask(&tokens[0][1], Some("east")).await.is_ok()
    })
    .await;
    server.stop().await;
}

/// Istio's own client, whose token only the API server can verify.
#[tokio::test(flavor = "multi_thread")]
async fn istios_own_client_by_token_review() {
    let client = shared().client().await;
    let ns = "callers-istio";
    namespace(&client, ns).await;
    service_account(&client, ns, "app").await;
    node(&client, ns).await;
    let app = pod(&client, ns, "app-0", "app", ns).await;
    let credential = credential(&client, ns).await;
    let setup = ca(
        &[("east", shared(), &credential, "aliases = [\"Kubernetes\"]")],
        "",
    );
    let server = setup.serve().await;
    let mut list = Vec::new();
    for audience in ["istio-ca", "other"] {
        let token = token_for(&client, (ns, "app"), audience, &app).await;
        let path = setup.path(audience);
        std::fs::write(&path, &token).unwrap();
        setup.issuer.minted.lock().unwrap().push(token);
        list.push(json!({
            "name": audience, "token_file": path, "key": "ecdsa-p256",
            "identity": id(ns, "app"), "ttl": 3600,
        }));
    }
    let metric = "rootbridge_cluster_up{cluster=\"east\"}";
    eventually(PATIENCE, "it is up", async || {
        server.metric(metric).await == Some(1.0)
    })
    .await;
    let driver = rootbridge_test_support::files::repository("build/interop/istio");
    let mut child = std::process::Command::new(driver)
        .args(["calls", "-address"])
        .arg(format!("127.0.0.1:{}", server.port()))
        .arg("-roots")
        .arg(setup.path(&format!("{TD}.pem")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make setup` builds build/interop/istio");
    let mut input = child.stdin.take().unwrap();
    input.write_all(json!(list).to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&answers[0]["code"], &answers[0]["problem"]),
        (&json!("OK"), &json!(""))
    );
    assert_eq!(answers[1]["code"], "Unauthenticated", "{answers:?}");
    server.stop().await;
}
