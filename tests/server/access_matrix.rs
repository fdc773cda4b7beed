//! Every operation × every credential. A method or route without a row here fails the test.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use reqwest::Method;
use rootbridge::mesh::proto::DESCRIPTORS;
use rootbridge::mesh::proto::istio::IstioCertificateRequest;

use crate::http_routes::collect;
use crate::worthless_credentials::{WORTHLESS, worthless};
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{TD, TestServer};

/// The credentials, in the order of each row's answers.
const CREDENTIALS: [&str; 8] = [
    "none",
    "nonsense",
    "JWT for istio",
    "JWT for certificates",
    "a person's JWT",
    "operator",
    "operator of elsewhere",
    "client certificate",
];

/// gRPC codes: 0 open, 3 let in (an empty request is then malformed), 12 not served there, 16
/// unauthenticated.
const GRPC: &[(&str, [u8; 8])] = &[
    (
        "istio.v1.auth.IstioCertificateService/CreateCertificate",
        [16, 16, 3, 16, 16, 3, 16, 3],
    ),
    (
        "rootbridge.v1.CertificateService/SignCertificate",
        [16, 16, 16, 3, 3, 3, 16, 3],
    ),
    (
        "envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        [12; 8],
    ),
    (
        "envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        [12; 8],
    ),
    (
        "envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
        [12; 8],
    ),
    ("io.linkerd.proxy.identity.Identity/Certify", [12; 8]),
    ("rootbridge.v1.TrustBundleService/GetTrustBundle", [0; 8]),
    ("rootbridge.v1.TrustBundleService/WatchTrustBundle", [0; 8]),
    (
        "rootbridge.v1.TrustBundleService/ReportTrustBundle",
        [16, 16, 16, 3, 3, 3, 16, 3],
    ),
    ("grpc.health.v1.Health/Check", [0; 8]),
    ("grpc.health.v1.Health/Watch", [0; 8]),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        [0; 8],
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        [0; 8],
    ),
];

/// The same on Linkerd's listener: the credential is in the message, and one in a header is none.
const LINKERD: &[(&str, [u8; 8])] = &[
    ("io.linkerd.proxy.identity.Identity/Certify", [3; 8]),
    (
        "envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        [12; 8],
    ),
    (
        "envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        [12; 8],
    ),
    (
        "envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
        [12; 8],
    ),
    (
        "istio.v1.auth.IstioCertificateService/CreateCertificate",
        [12; 8],
    ),
    ("rootbridge.v1.CertificateService/SignCertificate", [12; 8]),
    ("rootbridge.v1.TrustBundleService/GetTrustBundle", [12; 8]),
    ("rootbridge.v1.TrustBundleService/WatchTrustBundle", [12; 8]),
    (
        "rootbridge.v1.TrustBundleService/ReportTrustBundle",
        [12; 8],
    ),
    ("grpc.health.v1.Health/Check", [0; 8]),
    ("grpc.health.v1.Health/Watch", [0; 8]),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        [0; 8],
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        [0; 8],
    ),
];

const IDENTITY: &str = r#"
[listeners.identity]
address = "127.0.0.1:0"
apis = ["linkerd"]
jwt = ["cluster"]
tls = { trust_domain = "cluster.local", dns = ["localhost"] }

[listeners.ops]
address = "127.0.0.1:0"
apis = ["admin"]
jwt = ["cluster", "people"]
operators = ["admin"]
client_certificates = { trust_domains = ["cluster.local"] }
tls = { trust_domain = "cluster.local", dns = ["localhost"] }

[jwt.cluster]
"#;

/// HTTP statuses of GET on the mesh listener.
const MESH: &[(&str, [u16; 8])] = &[
    ("/v1/trust-bundles/{trust_domain}", [200; 8]),
    ("/", [404; 8]),
    ("/metrics", [404; 8]),
    ("/v1/status", [404; 8]),
];

/// HTTP statuses on the admin port, which has no TLS and so no client certificates.
const ADMIN: &[(&str, &str, [u16; 7])] = &[
    ("GET", "/livez", [200; 7]),
    ("HEAD", "/livez", [200; 7]),
    ("POST", "/livez", [401, 401, 401, 401, 401, 405, 401]),
    ("GET", "/ping", [200; 7]),
    ("POST", "/ping", [401, 401, 401, 401, 401, 405, 401]),
    ("GET", "/ready", [200; 7]),
    ("GET", "/readyz", [200; 7]),
    ("DELETE", "/readyz", [401, 401, 401, 401, 401, 405, 401]),
    ("GET", "/metrics", [200; 7]),
    ("PUT", "/metrics", [401, 401, 401, 401, 401, 405, 401]),
    ("GET", "/v1/status", [401, 401, 401, 401, 401, 200, 401]),
    ("HEAD", "/v1/status", [401, 401, 401, 401, 401, 200, 401]),
    ("POST", "/v1/status", [401, 401, 401, 401, 401, 405, 401]),
    ("OPTIONS", "/v1/status", [401, 401, 401, 401, 401, 405, 401]),
    ("GET", "/v1/rotations", [401, 401, 401, 401, 401, 200, 401]),
    ("POST", "/v1/rotations", [401, 401, 401, 401, 401, 405, 401]),
    // Without a body.
    (
        "POST",
        "/v1/rotations/start",
        [401, 401, 401, 401, 401, 415, 401],
    ),
    (
        "POST",
        "/v1/rotations/advance",
        [401, 401, 401, 401, 401, 415, 401],
    ),
    (
        "POST",
        "/v1/rotations/back",
        [401, 401, 401, 401, 401, 415, 401],
    ),
    (
        "POST",
        "/v1/rotations/compromised",
        [401, 401, 401, 401, 401, 415, 401],
    ),
    (
        "POST",
        "/v1/rotations/gone",
        [401, 401, 401, 401, 401, 415, 401],
    ),
    (
        "POST",
        "/v1/rotations/forget",
        [401, 401, 401, 401, 401, 415, 401],
    ),
    (
        "GET",
        "/v1/rotations/back",
        [401, 401, 401, 401, 401, 405, 401],
    ),
    ("GET", "/", [401, 401, 401, 401, 401, 404, 401]),
    ("GET", "/livez/", [401, 401, 401, 401, 401, 404, 401]),
    (
        "GET",
        "/livez/../v1/status",
        [401, 401, 401, 401, 401, 200, 401],
    ),
    ("GET", "//livez", [401, 401, 401, 401, 401, 404, 401]),
    ("GET", "/LIVEZ", [401, 401, 401, 401, 401, 404, 401]),
    ("GET", "/debug/pprof", [401, 401, 401, 401, 401, 404, 401]),
    ("POST", "/quitquitquit", [401, 401, 401, 401, 401, 404, 401]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_with_every_credential() {
    let setup = TestServer::with(&[
        ("[jwt.cluster]\n", IDENTITY),
        (
            "istio = \"istio-ca\"",
            "istio = \"istio-ca\", linkerd = \"identity.l5d.io\"",
        ),
    ]);
    let server = setup.serve().await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let token = setup.issuer.istio("foo", "bar");
    let chain = server.client(TD).await.istio(&token, &csr).await.unwrap();
    let mut tokens: Vec<Option<String>> = vec![
        None,
        Some("nonsense".to_owned()),
        Some(token),
        Some(setup.issuer.own("foo", "bar")),
        Some(setup.issuer.person("alice")),
        Some(setup.operator.clone()),
        Some(setup.other_operator.clone()),
        None,
    ];
    let nonsense = 1;
    // A credential by its place among the tokens, its name, and the place of its answer in a row.
    let known = CREDENTIALS.iter().enumerate();
    let mut credentials: Vec<_> = known.map(|(at, name)| (at, *name, at)).collect();
    for (name, token) in WORTHLESS.iter().zip(worthless(&setup)) {
        credentials.push((tokens.len(), *name, nonsense));
        tokens.push(Some(token));
    }
    let root = reqwest::Certificate::from_pem(setup.roots(TD).as_bytes()).unwrap();
    let builder = || reqwest::Client::builder().tls_certs_only([root.clone()]);
    let plain = builder().build().unwrap();
    let pem = chain.pem() + &csr.key.serialize_pem();
    let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
    let certified = builder().identity(identity).build().unwrap();
    let mut wrong = Vec::new();
    let mesh = format!("https://localhost:{}", server.port());
    let ask = async |method: &str, url: String, at: usize, grpc: bool| {
        let client = if CREDENTIALS.get(at) == Some(&"client certificate") {
            &certified
        } else {
            &plain
        };
        let mut request = client.request(method.parse().unwrap(), url);
        if let Some(token) = &tokens[at] {
            request = request.bearer_auth(token);
        }
        if grpc {
            // One empty message.
            request = request
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            request = request.body(vec![0_u8; 5]);
        }
        tokio::time::timeout(Duration::from_secs(20), request.send())
            .await
            .unwrap()
            .unwrap()
    };
    let identity = format!("https://localhost:{}", server.port_of("identity"));
    let on_mesh = GRPC.iter().map(|row| (&mesh, row));
    let on_linkerds = LINKERD.iter().map(|row| (&identity, row));
    for (at_listener, (method, expected)) in on_mesh.chain(on_linkerds) {
        for &(at, credential, answer) in &credentials {
            let response = ask("POST", format!("{at_listener}/{method}"), at, true).await;
            // Errors have no body, so their code is in the headers.
            let code = response
                .headers()
                .get("grpc-status")
                .map_or("0", |code| code.to_str().unwrap());
            if (response.status().as_u16(), code) != (200, &expected[answer].to_string()) {
                wrong.push(format!(
                    "{at_listener}/{method} with {credential}: {} {code}",
                    response.status()
                ));
            }
        }
    }
    for (path, expected) in MESH {
        for &(at, credential, answer) in &credentials {
            let url = format!("{mesh}{}", path.replace("{trust_domain}", TD));
            let status = ask("GET", url, at, false).await.status().as_u16();
            if status != expected[answer] {
                wrong.push(format!("GET {path} with {credential}: {status}"));
            }
        }
    }
    for (method, path, expected) in ADMIN {
        for &(at, credential, answer) in credentials.iter().filter(|(at, ..)| *at != 7) {
            let method: Method = method.parse().unwrap();
            let (status, _) = server
                .admin_request(method.clone(), path, tokens[at].as_deref())
                .await;
            if status != expected[answer] {
                wrong.push(format!("{method} {path} with {credential}: {status}"));
            }
        }
    }
    // The same over TLS, where a certificate's holder is known and none of the admins.
    let ops = format!("https://localhost:{}", server.port_of("ops"));
    for (method, path, expected) in ADMIN {
        for &(at, credential, answer) in &credentials {
            let wanted = match (CREDENTIALS.get(at), expected[0]) {
                (Some(&"client certificate"), 401) => 403,
                (Some(&"client certificate"), public) => public,
                _ => expected[answer],
            };
            let status = ask(method, format!("{ops}{path}"), at, false)
                .await
                .status()
                .as_u16();
            if status != wanted {
                wrong.push(format!(
                    "{method} {path} on ops with {credential}: {status}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(IstioCertificateRequest::default().encoded_len(), 0);
    server.stop().await;
}

#[test]
fn every_grpc_method_has_a_row() {
    let sets = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut served = BTreeSet::new();
    for set in sets {
        for file in FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                let methods = service.method.iter().map(|method| {
                    format!("{}.{}/{}", file.package(), service.name(), method.name())
                });
                served.extend(methods);
            }
        }
    }
    for listener in [GRPC, LINKERD] {
        let rows = listener.iter().map(|(method, _)| (*method).to_owned());
        assert_eq!(served, rows.collect());
    }
}

#[test]
fn every_http_route_has_a_row() {
    let mut routes = BTreeSet::new();
    collect(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut routes,
    );
    assert!(
        routes.contains("/livez"),
        "the search finds nothing: {routes:?}"
    );
    for route in routes {
        let known = MESH.iter().any(|(path, _)| *path == route)
            || ADMIN.iter().any(|(_, path, _)| *path == route);
        assert!(known, "{route} has no row");
    }
}
