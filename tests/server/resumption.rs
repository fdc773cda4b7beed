//! A resumed session brings its client certificate along: it is verified like any other.

use std::sync::Arc;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;

use crate::ceremonies::sql;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{istio_request, refusal};
use rootbridge_test_support::{Client, TD, TestServer};

/// A connection with sessions of `config`, and how its handshake went.
async fn connect(port: u16, config: &Arc<ClientConfig>) -> (Client, HandshakeKind) {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = TlsConnector::from(Arc::clone(config));
    let tls = tls.connect(name, tcp).await.unwrap();
    let kind = tls.get_ref().1.handshake_kind().unwrap();
    let mut once = Some(TokioIo::new(tls));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.take();
        async move { stream.ok_or_else(|| std::io::Error::other("one connection only")) }
    });
    // TLS is the connector's affair.
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    (Client(channel), kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_connection_is_verified_again() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let token = setup.issuer.istio("foo", "bar");
    let chain = server.client(TD).await.istio(&token, &csr).await.unwrap();

    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(setup.roots(TD).as_bytes()).unwrap();
    roots.add(root).unwrap();
    let certificates = CertificateDer::pem_slice_iter(chain.pem().as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(csr.key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let body = || istio_request(&csr.pem, 0, &[]);

    let (first, kind) = connect(server.port(), &config).await;
    assert_ne!(kind, HandshakeKind::Resumed);
    first.create(body(), MetadataMap::new()).await.unwrap();
    let (second, kind) = connect(server.port(), &config).await;
    assert_eq!(kind, HandshakeKind::Resumed);
    second.create(body(), MetadataMap::new()).await.unwrap();

    sql(
        &setup,
        "UPDATE issuer SET state = 'retired' WHERE role = 'issuing'",
    );
    sql(&setup, "UPDATE revision SET value = value + 1");
    let (third, kind) = connect(server.port(), &config).await;
    assert_eq!(kind, HandshakeKind::Resumed);
    for client in [first, second, third] {
        let answer = client.create(body(), MetadataMap::new()).await;
        refusal(answer, Code::Unauthenticated);
    }
    server.stop().await;
}
