//! A client certificate proves something only with its key: a client that has seen a workload's
//! certificate, which is public, must not pass for it.

use std::sync::Arc;

use rcgen::KeyPair;
use rootbridge::net::Clients;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConnection, SignatureScheme, SupportedProtocolVersion};

use crate::handshake::{certificate, client, connect, private, server};

/// Shows `0`, whether its key is the certificate's or not: rustls itself checks that first.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // With a hint, clients would leave out certificates of other authorities.
        assert!(hints.is_empty(), "{hints:?}");
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A handshake with a client that shows the certificate of `shown` and signs by `signer`.
fn handshake(
    version: &'static SupportedProtocolVersion,
    clients: Clients,
    shown: &KeyPair,
    signer: &KeyPair,
) -> Result<ServerConnection, Error> {
    let signing = any_supported_type(&private(signer)).unwrap();
    let shows = Shows(Arc::new(CertifiedKey::new(
        certificate(shown, "workload.example"),
        signing,
    )));
    let client = client(version).with_client_cert_resolver(Arc::new(shows));
    let server = server(&KeyPair::generate().unwrap(), clients);
    connect(client, server, "localhost").map(|(_, server)| server)
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

/// A client with a token needs no certificate.
#[test]
fn a_certificate_is_optional() {
    let server_key = KeyPair::generate().unwrap();
    for version in rustls::ALL_VERSIONS {
        let server = server(&server_key, Clients::WithCertificate);
        let client = client(version).with_no_client_auth();
        let (_, server) = connect(client, server, "localhost").unwrap();
        assert!(server.peer_certificates().is_none(), "{version:?}");
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
