//! A TLS client that shows what was negotiated.

use std::sync::Arc;
use std::time::Duration;

use rootbridge::x509::Certificate;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a handshake came to.
pub struct Handshake {
    pub stream: TlsStream<TcpStream>,
    pub version: ProtocolVersion,
    pub group: NamedGroup,
    pub alpn: Option<Vec<u8>>,
    /// The server's certificates, leaf first.
    pub chain: Vec<Certificate>,
}

/// Shakes hands as a client that trusts `roots` and asks for `name`.
pub async fn handshake(
    port: u16,
    name: &str,
    roots: &str,
    versions: &[&'static SupportedProtocolVersion],
    groups: &[NamedGroup],
    alpn: &[&[u8]],
) -> std::io::Result<Handshake> {
    let mut provider = aws_lc_rs::default_provider();
    if !groups.is_empty() {
        provider
            .kx_groups
            .retain(|group| groups.contains(&group.name()));
    }
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|each| each.to_vec()).collect();
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let stream = tokio::time::timeout(Duration::from_secs(20), connect).await??;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap();
    Ok(Handshake {
        version: session.protocol_version().unwrap(),
        group: session.negotiated_key_exchange_group().unwrap().name(),
        alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        chain: chain
            .iter()
            .map(|der| Certificate::parse(der.as_ref()).unwrap())
            .collect(),
        stream,
    })
}

/// The leaf that the listener shows to a client that asks for `name`.
pub async fn leaf(port: u16, name: &str, roots: &str) -> std::io::Result<Certificate> {
    let handshake = handshake(port, name, roots, rustls::DEFAULT_VERSIONS, &[], &[b"h2"]).await?;
    Ok(handshake.chain[0].clone())
}
