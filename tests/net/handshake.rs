//! Handshakes in memory, with a client that trusts any server.

use std::io;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rootbridge::net::{self, Certificates, Clients, Entry};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error, ServerConfig,
    ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

/// The server is not what is tried here.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A self-signed certificate.
pub(crate) fn certificate(key: &KeyPair, name: &str) -> Vec<CertificateDer<'static>> {
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    vec![params.self_signed(key).unwrap().der().clone()]
}

pub(crate) fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

/// A client that speaks `version` alone.
pub(crate) fn client(
    version: &'static SupportedProtocolVersion,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
}

/// A listener with one certificate.
pub(crate) fn server(key: &KeyPair, clients: Clients) -> ServerConfig {
    let certificates = Certificates::default();
    certificates.replace(vec![entry(key, &["localhost"])]);
    net::server_config(Arc::new(certificates), clients).unwrap()
}

/// A certificate and the names that it is for.
pub(crate) fn entry(key: &KeyPair, names: &[&str]) -> Entry {
    Entry {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        key: net::certified_key(certificate(key, "server.example"), private(key)).unwrap(),
    }
}

/// Both ends after the handshake, or why the server ended it.
pub(crate) fn connect(
    client: ClientConfig,
    server: ServerConfig,
    name: &'static str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        let mut rest = sent.as_slice();
        while server.read_tls(&mut rest).unwrap() > 0 {}
        server.process_new_packets()?;
        let mut sent = Vec::new();
        server.write_tls(&mut sent).unwrap();
        let mut rest = sent.as_slice();
        while client.read_tls(&mut rest as &mut dyn io::Read).unwrap() > 0 {}
        client.process_new_packets().unwrap();
    }
    assert!(!server.is_handshaking(), "it neither ended nor failed");
    Ok((client, server))
}
