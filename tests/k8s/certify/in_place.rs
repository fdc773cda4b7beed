//! The configuration of deploy/linkerd/in-place as it is, but for paths and ports, with the rights
//! that its manifests and Linkerd's chart give the account.

use std::fs::{self, File};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::Value;
use tonic::Code;

use super::proxy::{Proxy, code, name, take};
use super::transport::own_address;
use super::{AUDIENCE, app};
use crate::access::Credential;
use crate::linkerd::tools::Tools;
use crate::objects::{namespace, token, token_for};
use crate::server::ApiServer;
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::files::repository;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

const CONFIGURATION: &str = "deploy/linkerd/in-place/prepare/rootbridge.toml";

/// A configuration for a pod, with this machine's token and files.
pub(super) fn configured(
    text: &str,
    cluster: &str,
    server: &ApiServer,
    who: &Credential,
) -> TestServer {
    let setup = TestServer::bare();
    let kubeconfig = setup.path("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig(who)).unwrap();
    let softhsm = setup.path("token/softhsm2.conf");
    let at = |name: &str| setup.path(name).display().to_string();
    let module = "\"/opt/pkcs11/lib/libvendorpkcs11.so\"";
    let ours = format!(
        "\"/usr/lib/softhsm/libsofthsm2.so\"\nenvironment = {{ SOFTHSM2_CONF = \"{}\" }}",
        softhsm.display()
    );
    let head = format!("[clusters.{cluster}]\n");
    let reached = format!("{head}kubeconfig = \"{}\"\n", kubeconfig.display());
    // The tests' ports are whatever is free.
    let ports = ["8080", "8443", "9901", "9990"].map(|port| format!("0.0.0.0:{port}"));
    let free = |text: String, port: &String| text.replace(port, "0.0.0.0:0");
    let text = ports.iter().fold(text.to_owned(), free);
    fs::write(setup.config(), text).unwrap();
    for (from, to) in [
        ("/var/lib/rootbridge/ledger.db", at("ledger.db")),
        ("/var/run/secrets/rootbridge/pin/pin", at("token/pin")),
        (module, ours),
        (head.as_str(), reached),
    ] {
        setup.edit(from, &to);
    }
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prepared_server_answers_as_the_controller_does() {
    let server = ApiServer::start();
    let client = server.client().await;
    namespace(&client, "linkerd").await;
    let tools = Tools::new(&server, "linkerd");
    tools.upgrade(&[]);
    let kept = "helm.sh/resource-policy=keep";
    let roots = "linkerd-identity-trust-roots";
    tools.ok("kubectl", &["annotate", "configmap", roots, kept]);
    tools.upgrade(&["--set", "identity.externalCA=true"]);
    let prepare = repository("deploy/linkerd/in-place/prepare");
    tools.ok("kubectl", &["apply", "-k", prepare.to_str().unwrap()]);

    let own = token(&client, ("linkerd", "linkerd-identity"), &[], 86_400, None).await;
    let text = fs::read_to_string(repository(CONFIGURATION)).unwrap();
    let setup = configured(&text, "local", &server, &Credential::Token(own));
    setup.init(TD, &[]);
    // What is in the cluster is what was read here.
    let map: Value = tools.object("configmap/rootbridge-identity");
    let written = map["data"]["rootbridge.toml"].as_str().unwrap();
    assert_eq!(written, text);

    let running = setup.serve().await;
    assert_eq!(running.get("/ping").await, (200, "pong\n".to_owned()));
    assert_eq!(running.get("/ready").await.0, 200);
    // The old roots join the bundle before anything of it is published.
    let old = OpensslCa::new(&setup.path(""), "old").pem();
    fs::write(setup.path("old.pem"), &old).unwrap();
    let add = ["anchors", "add", "-", "--trust-domain", TD];
    let mut add = setup.command(&[&add[..], &["--source", "Linkerd before"]].concat());
    run(add.stdin(File::open(setup.path("old.pem")).unwrap()));
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "linkerd");
    let published = async || {
        let data = maps.get(roots).await.unwrap().data.unwrap_or_default();
        data["ca-bundle.crt"].clone()
    };
    assert_eq!(published().await, "the roots of before\n");
    let publish = repository("deploy/linkerd/in-place/publish.yaml");
    tools.ok("kubectl", &["apply", "-f", publish.to_str().unwrap()]);
    eventually(PATIENCE, "the roots", async || {
        published().await.contains("BEGIN")
    })
    .await;
    let both = published().await;
    assert_eq!(both.matches("BEGIN").count(), 2);
    for root in [setup.roots(TD), old] {
        assert!(both.contains(root.trim()), "{both}");
    }
    let output = setup.try_cli(&["check", "-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let rights = checks.iter().find(|check| check["name"] == "local rights");
    assert_eq!(rights.unwrap()["result"], "ok", "{report:#}");

    let pod = app(&client, "shop").await;
    let token = token_for(&client, ("shop", "app"), AUDIENCE, &pod).await;
    setup.issuer.minted.lock().unwrap().push(token.clone());
    let own = name("shop", "app");
    let csr = KeyAndCsr::new(&[&own]);
    let port = running.port_of("identity");
    // Other pods' calls, which the proxy in the pod brings to its own address; and the proxy's own.
    for host in [own_address().to_string(), "127.0.0.1".to_owned()] {
        let proxy = Proxy::plain(&format!("{host}:{port}")).await.unwrap();
        let answer = proxy.own(("shop", "app"), &token, &csr).await.unwrap();
        take(&answer, &own, &csr, &setup.roots(TD));
        let other = proxy.own(("shop", "other"), &token, &csr).await;
        assert_eq!(code(&other), Code::FailedPrecondition);
    }
    running.stop().await;
}
