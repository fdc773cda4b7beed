//! SPIFFE's own Go library reads this server's bundle endpoint, and serves one that this server reads.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rootbridge_test_support::command::{output, run};
use rootbridge_test_support::files::repository;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};
use serde_json::{Value, json};

use crate::support::{fingerprint, ledger};

const ID: &str = "spiffe://cluster.local/rootbridge";
const OTHER: &str = "other.example";
const OTHER_ID: &str = "spiffe://other.example/spire/server";

fn library(mode: &str, trust_domain: &str) -> Command {
    let mut command = Command::new(repository("build/interop/federation"));
    command.args([mode, "-trust-domain", trust_domain]);
    command
}

/// Both profiles with one listener.
#[tokio::test]
async fn the_library_reads_this_servers_endpoint() {
    let setup = TestServer::on_fixed_ports();
    let dns = "dns = [\"rootbridge.rootbridge.svc\"]\n";
    setup.edit(dns, &format!("{dns}spiffe_id = \"{ID}\"\n"));
    let _server = setup.serve().await;
    let roots = ledger::anchors(&setup);
    let url = format!(
        "https://127.0.0.1:{}/v1/trust-bundles/{TD}.json",
        setup.port
    );
    let fetch = |id: &str| {
        let mut command = library("fetch", TD);
        command.args(["-url", &url]);
        match id {
            "" => command.arg("-ca").arg(&roots),
            id => command.args(["-id", id, "-bundle"]).arg(&roots),
        };
        command
    };
    let root = fingerprint(&roots);
    let expected = json!({
        "trust_domain": TD,
        "roots": [root.strip_prefix("sha256:").unwrap()],
        "sequence": 1,
        "refresh_hint": 300,
    });
    // The listener may have to wait for its certificate.
    eventually(PATIENCE, "the endpoint", async || {
        output(&mut fetch("")).status.success()
    })
    .await;
    for id in ["", ID] {
        let fetched: Value = serde_json::from_str(&run(&mut fetch(id))).unwrap();
        assert_eq!(fetched, expected, "{id}");
    }
    let refused = output(&mut fetch("spiffe://cluster.local/another"));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && why.contains("unexpected ID"),
        "{why}"
    );
}

/// The library as the endpoint of another trust domain.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn this_server_reads_the_librarys_endpoint() {
    let setup = TestServer::on_fixed_ports();
    let [old, new] = ["old", "new"].map(|name| OpensslCa::new(&setup.path(""), name));
    let endpoint = old.workload("endpoint", OTHER_ID);
    let document = setup.path("document.json");
    let write = |roots: &[&OpensslCa], sequence: u64| {
        let pem = setup.path(&format!("served-{sequence}.pem"));
        let text: String = roots.iter().map(|ca| ca.pem()).collect();
        fs::write(&pem, text).unwrap();
        let bundle = json!({"roots": pem, "sequence": sequence});
        let next = setup.path("next.json");
        fs::write(&next, bundle.to_string()).unwrap();
        fs::rename(next, &document).unwrap();
    };
    write(&[&old], 1);
    let mut command = library("serve", OTHER);
    command.arg("-bundle").arg(&document);
    command.arg("-certificate").arg(&endpoint.chain);
    command.arg("-key").arg(&endpoint.key);
    let child = command.stdout(Stdio::piped()).spawn();
    let mut served = Served(child.expect("`make setup` builds build/interop/federation"));
    let mut port = String::new();
    let mut printed = BufReader::new(served.0.stdout.take().unwrap());
    printed.read_line(&mut port).unwrap();

    let section = |name: &str, domain: &str, id: &str| {
        format!(
            "[federation.{name}]\ntrust_domain = \"{domain}\"\nurl = \"https://127.0.0.1:{}/\"\n\
             profile = \"https_spiffe\"\nendpoint_spiffe_id = \"{id}\"\nbundle_file = \"{}\"\n",
            port.trim(),
            old.pem_file().display(),
        )
    };
    let right = section("right", OTHER, OTHER_ID);
    let wrong = section("wrong", "wrong.example", "spiffe://wrong.example/server");
    setup.edit("[admin]\n", &format!("{right}{wrong}[admin]\n"));
    let server = setup.serve().await;
    let in_use = async |name: &str, count: f64| {
        let metric = format!("rootbridge_federation_anchors{{federation=\"{name}\"}}");
        eventually(PATIENCE, &metric, async || {
            server.metric(&metric).await == Some(count)
        })
        .await;
    };
    in_use("right", 1.0).await;
    write(&[&old, &new], 2);
    in_use("right", 2.0).await;
    write(&[&new], 3);
    in_use("right", 1.0).await;
    // The server's certificate is the old CA's still, which nobody vouches for any more.
    server.wait_for_log("UnknownIssuer").await;
    // Another ID was expected of the same server.
    let id = format!("its certificate has {OTHER_ID}");
    server.wait_for_log(&id).await;
    in_use("wrong", 0.0).await;
    server.stop().await;
}
