//! How proxies come: TLS 1.3 without ALPN, or in plaintext from the same host.

use rustls::ProtocolVersion;
use tonic::Code;

use super::proxy::{CONTROL, Proxy, code, name, path, take};
use super::{LISTENER, Scene};
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::tls_client::{handshake, leaf};

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_1_3_and_asks_for_no_certificate() {
    let scene = Scene::new("certify-tls").await;
    let own = name(scene.ns, "app");
    let token = scene.token().await;
    let csr = KeyAndCsr::new(&[&own]);
    let server = scene.setup.serve().await;
    let port = server.port_of("identity");
    let anchors = scene.anchors();

    let first = scene.proxy(&server).await;
    let answer = first.own((scene.ns, "app"), &token, &csr).await.unwrap();
    take(&answer, &own, &csr, &anchors);
    // From then on the proxy would show what it has, if it were asked.
    let later = Proxy::connect(port, &anchors, Some((path(&answer), &csr)));
    let later = later.await.unwrap();
    let again = later.own((scene.ns, "app"), &token, &csr).await.unwrap();
    take(&again, &own, &csr, &anchors);
    assert!(!first.was_asked() && !later.was_asked());
    // Where a listener does ask, as another one of this server, this client notices.
    let elsewhere = Proxy::connect_to(server.port(), "localhost", &anchors, None).await;
    assert!(elsewhere.unwrap().was_asked());
    let service = name(CONTROL, "linkerd-identity");

    let only_12 = &[&rustls::version::TLS12];
    let refused = handshake(port, &service, &anchors, only_12, &[], &[]).await;
    let refused = refused.err().expect("TLS 1.2 was spoken");
    assert!(
        format!("{refused:?}").contains("ProtocolVersion"),
        "{refused:?}"
    );
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let versions = rustls::DEFAULT_VERSIONS;
        let handshake = handshake(port, &service, &anchors, versions, &[], alpn).await;
        assert_eq!(handshake.unwrap().version, ProtocolVersion::TLSv1_3);
    }
    let shown = leaf(port, &service, &anchors).await.unwrap();
    assert!(!shown.public_key().kind().to_string().starts_with("rsa"));
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_for_this_host() {
    let scene = Scene::new("certify-plain").await;
    let own = name(scene.ns, "app");
    let token = scene.token().await;
    let csr = KeyAndCsr::new(&[&own]);
    let tls = "tls = { trust_domain = \"cluster.local\" }\n";
    scene.setup.edit(tls, "");
    let server = scene.setup.serve().await;
    let address = format!("127.0.0.1:{}", server.port_of("identity"));
    let proxy = Proxy::plain(&address).await.unwrap();
    let answer = proxy.own((scene.ns, "app"), &token, &csr).await.unwrap();
    take(&answer, &own, &csr, &scene.anchors());
    server.stop().await;

    // As in the pod of the controller: on every address, and the proxy connects to the pod's own.
    let everywhere = LISTENER
        .replace("127.0.0.1:0", "0.0.0.0:0")
        .replace(tls, "behind_proxy = true\n");
    scene.setup.edit(&LISTENER.replace(tls, ""), &everywhere);
    let server = scene.setup.serve().await;
    let address = format!("{}:{}", own_address(), server.port_of("identity"));
    let proxy = Proxy::plain(&address).await.unwrap();
    let answer = proxy.own((scene.ns, "app"), &token, &csr).await.unwrap();
    take(&answer, &own, &csr, &scene.anchors());
    let other = proxy.own((scene.ns, "other"), &token, &csr).await;
    assert_eq!(code(&other), Code::FailedPrecondition);
}

/// An address of this host that is not loopback.
pub(super) fn own_address() -> std::net::IpAddr {
    // Nothing is sent: the system only says from where it would be.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("192.0.2.1:9")
        .expect("this host has no route at all");
    let address = socket.local_addr().unwrap().ip();
    assert!(!address.is_loopback() && !address.is_unspecified());
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_of_the_controllers_pod_are_answered() {
    let scene = Scene::new("certify-probes").await;
    let server = scene.setup.serve().await;
    assert_eq!(server.get("/ping").await, (200, "pong\n".to_owned()));
    assert_eq!(server.get("/ready").await.0, 200);
}
