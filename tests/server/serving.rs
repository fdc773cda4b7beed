//! The listener's own certificate and TLS.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, ProtocolVersion, SupportedProtocolVersion};
use tonic::Code;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::tls_client::{handshake, leaf};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually, stays};

const V12: &[&SupportedProtocolVersion] = &[&TLS12];
const V13: &[&SupportedProtocolVersion] = &[&TLS13];

#[tokio::test(flavor = "multi_thread")]
async fn tls_as_clients_of_all_ages_speak_it() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    server.client(TD).await;
    let roots = setup.roots(TD);
    let try_with = async |versions, groups: &[NamedGroup], alpn: &[&[u8]]| {
        handshake(server.port(), "localhost", &roots, versions, groups, alpn).await
    };
    // Post-quantum first, for clients that offer it.
    let modern = try_with(V13, &[], &[b"h2"]).await.unwrap();
    assert_eq!(
        (modern.version, modern.group),
        (ProtocolVersion::TLSv1_3, NamedGroup::X25519MLKEM768)
    );
    assert_eq!(modern.alpn.as_deref(), Some(b"h2".as_slice()));
    assert_eq!(
        modern.chain.len(),
        2,
        "leaf and issuing CA; the root is the client's to have"
    );
    // Clients that do not know it, and older ones, are served all the same.
    let plain = try_with(V13, &[NamedGroup::X25519], &[b"h2"])
        .await
        .unwrap();
    assert_eq!(plain.group, NamedGroup::X25519);
    let old = try_with(V12, &[NamedGroup::secp256r1], &[b"h2"])
        .await
        .unwrap();
    assert_eq!(
        (old.version, old.group),
        (ProtocolVersion::TLSv1_2, NamedGroup::secp256r1)
    );
    let http = try_with(V13, &[], &[b"http/1.1"]).await.unwrap();
    assert_eq!(http.alpn.as_deref(), Some(b"http/1.1".as_slice()));
    assert_eq!(try_with(V13, &[], &[]).await.unwrap().alpn, None);
    let error = try_with(V13, &[], &[b"spdy/3"]).await.err().unwrap();
    assert!(
        format!("{error:?}").contains("NoApplicationProtocol"),
        "{error:?}"
    );
    server.stop().await;
}

/// Its life is short here; no client notices that it is renewed.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_renewed_without_a_restart() {
    let setup = TestServer::with(&[(
        "[profiles.gold]",
        "[profiles.serving]\ndefault_ttl = \"10s\"\nbackdate = \"5s\"\nusages = [\"server\"]\n\n[profiles.gold]",
    )]);
    let server = setup.serve().await;
    let kept = server.client(TD).await;
    let roots = setup.roots(TD);
    let mut serials = std::collections::BTreeSet::new();
    let started = std::time::Instant::now();
    let span = Duration::from_secs(15);
    while started.elapsed() < span || serials.len() < 3 {
        assert!(
            started.elapsed() < PATIENCE,
            "{} certificates",
            serials.len()
        );
        // Verified by the client: it is never shown past its end. Counted from notBefore, it would be
        // due again as soon as it is issued.
        let leaf = leaf(server.port(), "localhost", &roots).await.unwrap();
        serials.insert(leaf.serial().to_string());
        // What is tried is a time: how often it is renewed.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let spans = started.elapsed().as_secs_f64() / span.as_secs_f64();
    assert!(
        (serials.len() as f64) < 12.0 * spans,
        "{} certificates in {:?}",
        serials.len(),
        started.elapsed()
    );
    let token = setup.issuer.istio("foo", "bar");
    kept.istio(&token, &KeyAndCsr::workload("foo", "bar"))
        .await
        .unwrap();
    // Names that only another file gives it come with a restart; those of this one stay allowed.
    setup.edit("dns = [\"localhost\"]", "dns = [\"elsewhere\"]");
    server.signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_for_log("needs a restart").await;
    server.wait_for_log("configuration reloaded").await;
    let now = leaf(server.port(), "localhost", &roots).await.unwrap();
    eventually(
        Duration::from_secs(15),
        "it is renewed all the same",
        async || {
            leaf(server.port(), "localhost", &roots)
                .await
                .unwrap()
                .serial()
                != now.serial()
        },
    )
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_asked_for_chooses_among_authorities() {
    let setup = TestServer::new();
    setup.edit(
        "ip = [\"127.0.0.1\"]",
        "ip = [\"127.0.0.1\"]\n[[listeners.mesh.tls.sni]]\n\
        trust_domain = \"edge.example\"\ndns = [\"ca.edge.example\", \"edge\"]",
    );
    let server = setup.serve().await;
    server.client(TD).await;
    let cluster = setup.roots(TD);
    let port = server.port();
    // The second authority comes later, and is taken without a restart.
    assert!(
        leaf(port, "ca.edge.example", &cluster).await.is_err(),
        "no name of the first"
    );
    setup.init("edge.example", &[]);
    let edge = setup.roots("edge.example");
    eventually(PATIENCE, "the second certificate", async || {
        leaf(port, "ca.edge.example", &edge).await.is_ok()
    })
    .await;
    let names = |leaf: rootbridge::x509::Certificate| {
        leaf.names()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let shown = async |name, roots| leaf(port, name, roots).await.map(names);
    assert_eq!(
        shown("localhost", &cluster).await.unwrap(),
        "dns:localhost ip:127.0.0.1"
    );
    assert_eq!(
        shown("127.0.0.1", &cluster).await.unwrap(),
        "dns:localhost ip:127.0.0.1"
    );
    assert_eq!(
        shown("EDGE", &edge).await.unwrap(),
        "dns:ca.edge.example dns:edge"
    );
    let another_root = shown("localhost", &edge).await.err().unwrap();
    assert!(
        format!("{another_root:?}").contains("UnknownIssuer"),
        "{another_root:?}"
    );
    let another_name = shown("other.example", &cluster).await.err().unwrap();
    assert!(
        format!("{another_name:?}").contains("NotValidForName"),
        "{another_name:?}"
    );
    server.stop().await;
}

/// As Kubernetes mounts a secret: the files are links into a directory that is swapped.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_reloaded_when_they_are_swapped() {
    let setup = TestServer::new();
    let directory = setup.path("tls");
    std::fs::create_dir(&directory).unwrap();
    let swap = |version: &str, certificate: &str, key: &str| {
        let data = directory.join(version);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("tls.crt"), certificate).unwrap();
        std::fs::write(data.join("tls.key"), key).unwrap();
        std::os::unix::fs::symlink(version, directory.join("..next")).unwrap();
        std::fs::rename(directory.join("..next"), directory.join("..data")).unwrap();
    };
    let certificate = || {
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        (own.pem(), key.serialize_pem())
    };
    let (first, first_key) = certificate();
    swap("..1", &first, &first_key);
    for file in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), directory.join(file)).unwrap();
    }
    setup.edit(
        &format!("trust_domain = \"{TD}\"\ndns = [\"localhost\"]\nip = [\"127.0.0.1\"]"),
        &format!(
            "certificate_file = {:?}\nkey_file = {:?}",
            directory.join("tls.crt"),
            directory.join("tls.key")
        ),
    );
    let server = setup.serve().await;
    let port = server.port();
    leaf(port, "localhost", &first).await.unwrap();
    // The error is logged once; the last valid certificate stays in use.
    let (second, second_key) = certificate();
    swap("..2", &second, &first_key);
    server
        .wait_for_log("the last valid certificate stays in use")
        .await;
    leaf(port, "localhost", &first).await.unwrap();
    swap("..3", &second, &second_key);
    eventually(PATIENCE, "the second certificate", async || {
        leaf(port, "localhost", &second).await.is_ok()
    })
    .await;
    let error = leaf(port, "localhost", &first).await.err().unwrap();
    assert!(format!("{error:?}").contains("BadSignature"), "{error:?}");
    swap("..4", "nonsense", "nonsense");
    let warned = || {
        let log = server.log();
        log.matches("the last valid certificate stays in use")
            .count()
    };
    eventually(PATIENCE, "a warning", async || warned() == 2).await;
    // Longer than the files are read twice.
    let once = "one warning for each reason";
    stays(Duration::from_secs(3), once, async || warned() == 2).await;
    leaf(port, "localhost", &second).await.unwrap();
    // A hundred swaps, and the last one counts.
    let mut last = String::new();
    for n in 0..100 {
        let (certificate, key) = certificate();
        swap(&format!("..many-{n}"), &certificate, &key);
        last = certificate;
    }
    eventually(PATIENCE, "the last certificate", async || {
        leaf(port, "localhost", &last).await.is_ok()
    })
    .await;
    server.stop().await;

    // At the start a wrong file is an error that names it.
    swap("..5", "nonsense", "nonsense");
    let message = setup.refused(&["serve"]);
    assert!(
        message.contains("listeners.mesh.tls") && message.contains("tls.crt"),
        "{message}"
    );
}

/// Certificates for the names of listeners are this server's alone.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_caller_gets_the_listeners_names() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&["localhost"]);
    for profile in ["serving", "workload"] {
        let request = rootbridge_test_support::grpc::sign_request(&csr, profile, &[]);
        refusal(
            client.sign(&setup.operator, request).await,
            Code::PermissionDenied,
        );
    }
    server.stop().await;
}
