//! The upstream CA as a server of the Certificate Management Protocol: openssl's, and one of ours that
//! answers as it is told, after openssl's client has got a certificate from it.

mod openssl;
mod stand_in;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use rootbridge::upstream::{Answer, Unreachable};
use rootbridge::x509::read_certificates;
use rootbridge_test_support::command::run;
use rootbridge_test_support::openssl::{OpensslCa, csr, key};
use rootbridge_test_support::{TestServer, tls_server};

use crate::authority::{certify_and_serve, upstream_test};
use crate::contract::{At, Protocol, connect, contract, listen, submission};
use crate::enterprise::{Behaviour, Enterprise};
use openssl::Server;
use stand_in::{Echo, SECRET};

struct StandIn;

impl Protocol for StandIn {
    const WAITS: bool = true;
    // It holds the CA's last nonce.
    const STEADY: bool = false;

    fn section(at: &At) -> String {
        let section = section(&at.directory, &at.url);
        format!("{section}ca_file = \"{}\"\n", at.ca_file.display())
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        stand_in::router(ca)
    }
}

fn section(directory: &Path, url: &str) -> String {
    let file = directory.join("cmp.secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    format!(
        "kind = \"cmp\"\naddress = \"{url}/cmp/corp\"\nreference = \"rootbridge\"\nsecret_file = \"{}\"\n",
        file.display()
    )
}

contract!(StandIn);

/// Somebody else's client gets what ours does: at once, after a wait, and a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_is_served_by_the_same_server() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let ca = Enterprise::new(at("enterprise"));
    let url = listen(stand_in::router(Arc::clone(&ca))).await;
    fs::write(at("csr"), submission().csr_pem()).unwrap();
    let (csr, issued) = (at("csr"), at("issued.pem"));
    let client = move || {
        let mut command = Command::new("openssl");
        command.args([
            "cmp", "-cmd", "p10cr", "-batch", "-server", &url, "-path", "cmp/corp",
        ]);
        command.args(["-ref", "rootbridge", "-secret", &format!("pass:{SECRET}")]);
        command.args(["-total_timeout", "3", "-recipient", "/CN=corp"]);
        command.arg("-csr").arg(&csr).arg("-certout").arg(&issued);
        command.output().unwrap()
    };
    let ask = async || tokio::task::spawn_blocking(client.clone()).await.unwrap();
    let output = ask().await;
    let log = [output.stdout, output.stderr].concat();
    let log = String::from_utf8_lossy(&log).into_owned();
    assert!(output.status.success(), "{log}");
    let mut show = Command::new("openssl");
    show.args(["x509", "-noout", "-subject", "-in"]);
    let subject = run(show.arg(at("issued.pem")));
    assert!(subject.contains("Mesh CA"), "{subject}");
    for (behaviour, says) in [
        (Behaviour::Refuse("the board said no"), "the board said no"),
        (Behaviour::Pending, "received 'waiting' PKIStatus"),
    ] {
        ca.tell(behaviour);
        let output = ask().await;
        let log = [output.stdout, output.stderr].concat();
        let log = String::from_utf8_lossy(&log).into_owned();
        assert!(log.contains(says), "{says}: {log}");
        assert!(!output.status.success(), "{log}");
    }
}

fn reason(answer: Result<Answer, Unreachable>) -> String {
    match answer {
        Err(error) => error.reason,
        Ok(answer) => panic!("an answer: {answer:?}"),
    }
}

/// From `upstream test` to workloads' certificates by way of a wait, with a shared secret; then what
/// openssl's server does otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_certifies_the_issuing_ca() {
    let setup = TestServer::bare();
    let directory = setup.path("cmp");
    fs::create_dir_all(&directory).unwrap();
    let ca = Enterprise::new(directory.join("enterprise"));
    let server = Server::new(&ca);
    let secret = format!("pass:{SECRET}");
    let with_secret = ["-srv_ref", "rootbridge", "-srv_secret", &secret];
    server.with(&[&with_secret[..], &["-poll_count", "1", "-check_after", "1"]].concat());
    let url = listen(server.router()).await;
    let section = section(&directory, &url);
    let found = upstream_test(&setup, &section, "subject = \"Mesh CA\"");
    assert!(found.contains("its answer is protected"), "{found}");
    certify_and_serve(&setup, &ca.root.pem(), "Mesh CA").await;
    assert_eq!(ca.submissions(), 1, "asked once");

    let upstream = connect(&section);
    let request = submission();
    server.with(&[&with_secret[..], &["-grant_implicitconf"]].concat());
    let answer = upstream.submit(&request).await;
    assert!(matches!(answer, Ok(Answer::Issued(_))), "{answer:?}");
    let rejects = [
        "-pkistatus",
        "2",
        "-failure",
        "19",
        "-statusstring",
        "the board said no",
    ];
    server.with(&[&with_secret[..], &rejects].concat());
    match upstream.submit(&request).await {
        Ok(Answer::Refused(why)) => assert_eq!(why, "the board said no (badCertTemplate)"),
        other => panic!("not refused: {other:?}"),
    }
    // A reason that passes is no decision.
    server.with(&[&with_secret[..], &["-pkistatus", "2", "-failure", "24"]].concat());
    let busy = reason(upstream.submit(&request).await);
    assert!(busy.contains("systemUnavail"), "{busy}");
    server.with(&[&with_secret[..], &["-send_unprotected"]].concat());
    let unprotected = reason(upstream.submit(&request).await);
    assert!(unprotected.contains("it is not protected"), "{unprotected}");
    server.with(&[
        "-srv_ref",
        "rootbridge",
        "-srv_secret",
        "pass:another",
        "-accept_unprotected",
    ]);
    let stranger = reason(upstream.submit(&request).await);
    assert!(
        stranger.contains("not made with this shared secret"),
        "{stranger}"
    );
    for refused in [&stranger, &unprotected] {
        assert!(!refused.contains(SECRET), "{refused}");
    }
}

/// With the signature of a client certificate, which is read again; the answers' signer is pinned.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_signed_and_signatures_are_verified() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let text = |name: &str| at(name).display().to_string();
    let ca = Enterprise::new(at("enterprise"));
    let identity = |name: &str, issuer: &OpensslCa, kind: &str| {
        let key = key(directory.path(), name, kind);
        let csr = fs::read_to_string(csr(&key, "DNS:client")).unwrap();
        let leaf = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                    subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid";
        fs::write(at(&format!("{name}.pem")), issuer.sign(&csr, leaf, &[])).unwrap();
        fs::copy(key, at(&format!("{name}.signing"))).unwrap();
    };
    identity("server", &ca.root, "ecdsa-p256");
    let server = Server::new(&ca);
    let root = ca.root.pem_file().display().to_string();
    let (certificate, signing) = (text("server.pem"), text("server.signing"));
    let signed = [
        "-srv_cert",
        &certificate,
        "-srv_key",
        &signing,
        "-srv_trusted",
        &root,
    ];
    server.with(&signed);
    let url = listen(server.router()).await;
    let section = |pinned: &str| {
        format!(
            "kind = \"cmp\"\naddress = \"{url}/cmp/corp\"\nclient_certificate_file = \"{}\"\n\
             client_key_file = \"{}\"\nserver_certificate_file = \"{pinned}\"\n",
            text("client.pem"),
            text("client.key")
        )
    };
    let request = submission();
    let upstream = connect(&section(&certificate));
    let copy = |name: &str| {
        fs::copy(at(&format!("{name}.pem")), at("client.pem")).unwrap();
        fs::copy(at(&format!("{name}.signing")), at("client.key")).unwrap();
    };
    for (name, kind) in [("first", "ecdsa-p384"), ("second", "rsa-2048")] {
        identity(name, &ca.root, kind);
        copy(name);
        let bytes = match upstream.submit(&request).await {
            Ok(Answer::Issued(bytes)) => bytes,
            other => panic!("{kind}: {other:?}"),
        };
        assert!(read_certificates(&bytes).unwrap().len() >= 3);
    }
    // Another CA's client.
    let stranger = OpensslCa::new(directory.path(), "other");
    identity("third", &stranger, "ecdsa-p256");
    copy("third");
    match upstream.submit(&request).await {
        Ok(Answer::Refused(why)) => assert!(why.contains("no suitable sender cert"), "{why}"),
        other => panic!("a stranger: {other:?}"),
    }
    // Another server, of the same CA.
    copy("second");
    let other = connect(&section(&root)).submit(&request).await;
    let other = reason(other);
    assert!(
        other.contains("no certificate of server_certificate_file"),
        "{other}"
    );
    let secret = fs::read_to_string(at("client.key")).unwrap();
    fs::write(at("client.key"), secret.replace("PRIVATE", "SECRET")).unwrap();
    let unusable = reason(upstream.submit(&request).await);
    assert!(
        unusable.contains("cannot use the client certificate"),
        "{unusable}"
    );
    assert!(!unusable.contains(secret.lines().nth(1).unwrap()));
}

/// An answer to another message is not taken for one to this: a CA's old answer, sent again.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_answer_is_none_to_a_new_request() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Enterprise::new(directory.path().join("enterprise"));
    let old = Arc::new(std::sync::Mutex::new(None));
    let layer = axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let old = Arc::clone(&old);
            async move {
                let kept: Option<axum::body::Bytes> = old.lock().unwrap().clone();
                let bytes = match kept {
                    Some(bytes) => bytes,
                    None => {
                        let body = next.run(request).await.into_body();
                        axum::body::to_bytes(body, 1 << 20).await.unwrap()
                    }
                };
                *old.lock().unwrap() = Some(bytes.clone());
                bytes
            }
        },
    );
    ca.tell(Behaviour::Pending);
    let (port, pem) = tls_server::serve(stand_in::router(Arc::clone(&ca)).layer(layer)).await;
    fs::write(directory.path().join("tls.pem"), pem).unwrap();
    let pbmac1 = format!(
        "{}mac = \"pbmac1\"\nca_file = \"{}\"\n",
        section(directory.path(), &format!("https://127.0.0.1:{port}")),
        directory.path().join("tls.pem").display()
    );
    let upstream = connect(&pbmac1);
    // The stand-in has verified the protection by PBMAC1 with openssl.
    let first = upstream.submit(&submission()).await;
    assert!(matches!(first, Ok(Answer::Pending { .. })), "{first:?}");
    let second = reason(upstream.submit(&submission()).await);
    assert!(second.contains("one to another message"), "{second}");
}

/// Each of the two is compared, in an answer that the CA has protected.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_one_in_this_transaction_and_to_this_message() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Enterprise::new(directory.path().join("enterprise"));
    for (echo, is_used) in [
        (Echo::Both, true),
        (Echo::Nonce, false),
        (Echo::Transaction, false),
    ] {
        let url = listen(stand_in::router_with(Arc::clone(&ca), echo)).await;
        let upstream = connect(&section(directory.path(), &url));
        let answer = upstream.submit(&submission()).await;
        match is_used {
            true => assert!(matches!(answer, Ok(Answer::Issued(_))), "{answer:?}"),
            false => {
                let why = reason(answer);
                assert!(why.contains("one to another message"), "{why}");
            }
        }
    }
}
