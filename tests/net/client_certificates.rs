//! A client certificate proves something only with its key: a client that has seen a workload's
//! certificate, which is public, must not pass for it.

use std::io;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rootbridge::net::{self, Certificates, Clients};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};

/// Shows `0`, whether its key is the certificate's or not: rustls itself checks that first.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

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

fn certificate(key: &KeyPair) -> Vec<CertificateDer<'static>> {
    let params = CertificateParams::new(["workload.example".to_owned()]).unwrap();
    vec![params.self_signed(key).unwrap().der().clone()]
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

/// A handshake in memory with a client that shows the certificate of `shown` and signs by `signer`.
fn handshake(
    version: &'static SupportedProtocolVersion,
    clients: Clients,
    shown: &KeyPair,
    signer: &KeyPair,
) -> Result<ServerConnection, Error> {
    let server_key = KeyPair::generate().unwrap();
    let served = net::certified_key(certificate(&server_key), private(&server_key)).unwrap();
    let certificates = Certificates::default();
    certificates.replace(vec![net::Entry {
        names: Vec::new(),
        key: served,
    }]);
    let server = net::server_config(Arc::new(certificates), clients).unwrap();

    let signing = any_supported_type(&private(signer)).unwrap();
    let shows = Shows(Arc::new(CertifiedKey::new(certificate(shown), signing)));
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_cert_resolver(Arc::new(shows));
    let name = ServerName::try_from("localhost").unwrap();
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
    Ok(server)
}

#[test]
fn a_certificate_is_accepted_with_its_key_alone() {
    let (workload, thief) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for version in rustls::ALL_VERSIONS {
        let clients = Clients::WithCertificate;
        let accepted = handshake(version, clients, &workload, &workload).unwrap();
        let shown = accepted.peer_certificates().unwrap();
        assert_eq!(shown.len(), 1, "{version:?}");

        let error = handshake(version, clients, &workload, &thief).unwrap_err();
        let wrong = matches!(
            error,
            Error::InvalidCertificate(rustls::CertificateError::BadSignature)
        );
        assert!(wrong, "{version:?}: {error}");
    }
}

/// An anonymous listener asks for none, and verifies none.
#[test]
fn an_anonymous_listener_takes_no_certificate() {
    let workload = KeyPair::generate().unwrap();
    for version in rustls::ALL_VERSIONS {
        let server = handshake(version, Clients::Anonymous, &workload, &workload).unwrap();
        assert!(server.peer_certificates().is_none(), "{version:?}");
    }
}

/// Linkerd's proxies speak TLS 1.3 and could not recover from a certificate that was asked for.
#[test]
fn linkerds_listener_speaks_tls_1_3_and_asks_for_no_certificate() {
    let workload = KeyPair::generate().unwrap();
    let clients = Clients::LinkerdProxies;
    let server = handshake(&rustls::version::TLS13, clients, &workload, &workload).unwrap();
    assert!(server.peer_certificates().is_none());
    let error = handshake(&rustls::version::TLS12, clients, &workload, &workload).unwrap_err();
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error}");
}
