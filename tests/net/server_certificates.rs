//! Which certificate a client is shown, and by which protocol it goes on.

use std::sync::Arc;

use rcgen::KeyPair;
use rootbridge::net::{self, Certificates, Clients, TlsError};
use rustls::{Error, InconsistentKeys};

use crate::handshake::{certificate, client, connect, entry, private, server};

#[test]
fn the_servers_name_chooses_the_certificate() {
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificates = Arc::new(Certificates::default());
    assert!(certificates.is_empty());
    assert_eq!(format!("{certificates:?}"), "Certificates { entries: 0 }");
    certificates.replace(vec![
        entry(&first, &["a.example", "b.example"]),
        entry(&second, &["c.example", "d.example"]),
    ]);
    assert!(!certificates.is_empty());
    assert_eq!(format!("{certificates:?}"), "Certificates { entries: 2 }");
    let entries = certificates.entries();
    let names: Vec<_> = entries
        .iter()
        .map(|entry| entry.names[0].as_str())
        .collect();
    assert_eq!(names, ["a.example", "c.example"]);
    let shown = |name| {
        let server = net::server_config(Arc::clone(&certificates), Clients::Anonymous).unwrap();
        let client = client(&rustls::version::TLS13).with_no_client_auth();
        let (client, _) = connect(client, server, name).unwrap();
        let shown = client.peer_certificates().unwrap()[0].clone();
        match entries.iter().position(|entry| entry.key.cert[0] == shown) {
            Some(0) => "first",
            Some(1) => "second",
            other => panic!("{other:?}"),
        }
    };
    for (name, expected) in [
        ("a.example", "first"),
        ("b.example", "first"),
        ("c.example", "second"),
        ("d.example", "second"),
        ("D.Example", "second"),
        // The first is for all others, and for clients that name none.
        ("e.example", "first"),
        ("x.c.example", "first"),
        ("127.0.0.1", "first"),
    ] {
        assert_eq!(shown(name), expected, "{name}");
    }
    // The next handshake sees the next certificates.
    certificates.replace(vec![entry(&second, &[]), entry(&first, &["c.example"])]);
    let now = certificates.entries();
    let server = net::server_config(certificates, Clients::Anonymous).unwrap();
    let client = client(&rustls::version::TLS13).with_no_client_auth();
    let (client, _) = connect(client, server, "c.example").unwrap();
    assert_eq!(client.peer_certificates().unwrap()[0], now[1].key.cert[0]);
}

#[test]
fn a_listener_without_a_certificate_ends_the_handshake() {
    let certificates = Arc::new(Certificates::default());
    let server = net::server_config(certificates, Clients::Anonymous).unwrap();
    let client = client(&rustls::version::TLS13).with_no_client_auth();
    let error = connect(client, server, "localhost").map(drop).unwrap_err();
    assert!(matches!(error, Error::General(_)), "{error}");
}

#[test]
fn a_certificate_needs_its_own_key() {
    let (one, two) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let chain = || certificate(&one, "server.example");
    net::certified_key(chain(), private(&one)).unwrap();
    let TlsError::Rustls(error) = net::certified_key(chain(), private(&two)).unwrap_err();
    let mismatch = Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
    assert_eq!(error, mismatch);
}

/// gRPC clients ask for HTTP/2, others may for HTTP/1.1; Linkerd's proxies ask for nothing.
#[test]
fn protocols_are_negotiated() {
    let key = KeyPair::generate().unwrap();
    for (asked, agreed) in [
        (&["h2"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&[], None),
    ] {
        let mut client = client(&rustls::version::TLS13).with_no_client_auth();
        client.alpn_protocols = asked.iter().map(|name| name.as_bytes().to_vec()).collect();
        let server = server(&key, Clients::Anonymous);
        let (client, _) = connect(client, server, "localhost").unwrap();
        assert_eq!(
            client.alpn_protocol(),
            agreed.map(str::as_bytes),
            "{asked:?}"
        );
    }
}
