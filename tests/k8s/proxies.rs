//! A real API server behind real proxies: tinyproxy, the same behind TLS (socat), and microsocks.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::access::{Ca, Credential};
use super::check::found;
use super::objects::{granted, namespace, rule};
use super::rootbridge::rootbridge;
use super::server::shared;
use rootbridge_test_support::process::Process;
use rootbridge_test_support::{PATIENCE, TestServer, eventually, free_port};

const CALLERS: &str = "audiences.istio = \"istio-ca\"\n";

/// Starts a proxy and waits until it accepts connections.
async fn start(setup: &TestServer, command: &mut Command, port: u16) -> Process {
    let name = command.get_program().to_string_lossy().into_owned();
    let process = Process::start(command, &setup.path(&format!("{name}.log")));
    eventually(PATIENCE, &name, async || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
    .await;
    process
}

fn edit(setup: &TestServer, change: impl Fn(&mut Value)) {
    let path = setup.path("east.kubeconfig");
    let mut kubeconfig: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut kubeconfig["clusters"][0]["cluster"]);
    fs::write(&path, kubeconfig.to_string()).unwrap();
}

/// What `check` says of the API server.
fn api(setup: &TestServer) -> (String, String) {
    let all = found(setup);
    let (_, result, said, _) = all.iter().find(|(name, ..)| name == "east API").unwrap();
    (result.clone(), said.clone())
}

async fn credential(ns: &str) -> Credential {
    let client = shared().client().await;
    namespace(&client, ns).await;
    let rules = vec![rule(
        "authentication.k8s.io",
        &["tokenreviews"],
        &["create"],
        &[],
    )];
    granted(&client, ns, "rootbridge", rules).await
}

#[tokio::test]
async fn an_api_server_is_reached_through_each_kind_of_proxy() {
    let server = shared();
    let setup = rootbridge(&[("east", server, &credential("proxies").await)], CALLERS);
    let [http, https, socks] = [free_port(), free_port(), free_port()];
    let config = setup.path("tinyproxy.conf");
    let text = format!(
        "Port {http}\nListen 127.0.0.1\nBasicAuth me pass-word\nConnectPort {}\nLogLevel Connect\n",
        server.port()
    );
    fs::write(&config, text).unwrap();
    let mut tinyproxy = Command::new("tinyproxy");
    let tinyproxy = start(&setup, tinyproxy.arg("-d").arg("-c").arg(&config), http).await;
    let ca = Ca::new();
    let (certificate, key) = ca.server();
    fs::write(setup.path("proxy.pem"), format!("{certificate}{key}")).unwrap();
    let listen = format!(
        "OPENSSL-LISTEN:{https},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={}",
        setup.path("proxy.pem").display()
    );
    let mut socat = Command::new("socat");
    let _socat = start(
        &setup,
        socat.arg(listen).arg(format!("TCP:127.0.0.1:{http}")),
        https,
    )
    .await;
    let mut microsocks = Command::new("microsocks");
    let microsocks = microsocks.args(["-i", "127.0.0.1", "-u", "me", "-P", "word", "-p"]);
    let _microsocks = start(&setup, microsocks.arg(socks.to_string()), socks).await;

    for (proxy, authority) in [
        (format!("http://me:pass%2Dword@127.0.0.1:{http}"), None),
        // Its certificate leads to an authority of the kubeconfig.
        (
            format!("https://me:pass%2Dword@localhost:{https}"),
            Some(ca.pem()),
        ),
        (format!("socks5://me:word@127.0.0.1:{socks}"), None),
    ] {
        edit(&setup, |cluster| {
            let roots = format!("{}{}", server.ca(), authority.clone().unwrap_or_default());
            let roots = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, roots);
            cluster["certificate-authority-data"] = json!(roots);
            cluster["proxy-url"] = json!(proxy);
        });
        let (result, said) = api(&setup);
        assert_eq!(
            (result.as_str(), said.as_str()),
            ("ok", "v1.37.2"),
            "{proxy}"
        );
    }
    let connects = tinyproxy.log().matches("CONNECT 127.0.0.1").count();
    assert!(connects >= 2, "{}", tinyproxy.log());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let server = shared();
    let setup = rootbridge(
        &[("east", server, &credential("proxies-refuse").await)],
        CALLERS,
    );
    let (http, socks) = (free_port(), free_port());
    let config = setup.path("tinyproxy.conf");
    fs::write(
        &config,
        format!("Port {http}\nListen 127.0.0.1\nBasicAuth me right\n"),
    )
    .unwrap();
    let mut tinyproxy = Command::new("tinyproxy");
    let _tinyproxy = start(&setup, tinyproxy.arg("-d").arg("-c").arg(&config), http).await;
    let mut microsocks = Command::new("microsocks");
    let microsocks = microsocks.args(["-i", "127.0.0.1", "-u", "me", "-P", "right", "-p"]);
    let _microsocks = start(&setup, microsocks.arg(socks.to_string()), socks).await;
    for (proxy, named) in [
        (
            format!("http://me:wr0ng@127.0.0.1:{http}"),
            format!("the proxy http://127.0.0.1:{http}: "),
        ),
        (
            format!("socks5://me:wr0ng@127.0.0.1:{socks}"),
            format!("the proxy socks5://127.0.0.1:{socks}: "),
        ),
    ] {
        edit(&setup, |cluster| cluster["proxy-url"] = json!(proxy));
        let (result, said) = api(&setup);
        assert_eq!(result, "failed", "{proxy}");
        assert!(said.contains(&named) && !said.contains("wr0ng"), "{said}");
    }
}

#[tokio::test]
async fn the_name_in_the_certificate_may_be_given() {
    let server = shared();
    let setup = rootbridge(
        &[("east", server, &credential("server-name").await)],
        CALLERS,
    );
    // The certificate has this name and the loopback address.
    edit(&setup, |cluster| {
        cluster["tls-server-name"] = json!("kubernetes.default.svc")
    });
    assert_eq!(api(&setup).0, "ok");
    edit(&setup, |cluster| {
        cluster["tls-server-name"] = json!("other.example")
    });
    let (result, said) = api(&setup);
    assert_eq!(result, "failed");
    assert!(
        said.contains("TLS with the API server") && said.contains("other.example"),
        "{said}"
    );
}

/// A program gives a client certificate, as some providers' do.
#[tokio::test]
async fn a_program_gives_a_client_certificate() {
    let server = shared();
    let setup = rootbridge(&[("east", server, &server.admin())], "");
    let Credential::Certificate { certificate, key } = server.user("jane", "system:masters") else {
        panic!("a user has a certificate");
    };
    let answer = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "clientCertificateData": certificate, "clientKeyData": key },
    });
    let program = setup.path("credential");
    fs::write(&program, format!("#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    let path = setup.path("east.kubeconfig");
    let mut kubeconfig: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    kubeconfig["users"][0]["user"] = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "credential",
        "interactiveMode": "Never",
    }});
    fs::write(&path, kubeconfig.to_string()).unwrap();
    setup.edit(
        "[clusters.east]\n",
        &format!(
            "[clusters.east]\nexec = {{ programs = ['{}'] }}\n",
            program.display()
        ),
    );
    assert_eq!(api(&setup), ("ok".to_owned(), "v1.37.2".to_owned()));
}

/// What has not been tried yet is no warning.
#[tokio::test]
async fn a_start_with_a_reachable_cluster_warns_of_nothing() {
    let server = shared();
    let callers = "audiences.istio = \"istio-ca\"\nauthenticate = \"offline\"\n";
    let setup = rootbridge(&[("east", server, &server.admin())], callers);
    // Enough for the limits of [admission].
    setup.edit("queue = 256", "queue = 2048");
    let running = setup.serve().await;
    running.wait_for_log("the API server answers").await;
    running.wait_for_log("\"verifier\":\"cluster east\"").await;
    let log = running.log();
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("\"WARN\""))
        .collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    running.stop().await;
}
