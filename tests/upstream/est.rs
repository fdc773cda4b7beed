//! The upstream CA as a server of Enrollment over Secure Transport: ours, after a client of strongSwan's
//! has got a certificate from it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::upstream::Answer;
use rootbridge::x509::to_pem;
use rootbridge_test_support::command::run;
use rootbridge_test_support::openssl::{OpensslCa, csr, key};
use rootbridge_test_support::{TestServer, tls_server};

use crate::authority::{certify_and_serve, upstream_test};
use crate::contract::{At, Protocol, connect, contract, submission};
use crate::enterprise::{Bad, Behaviour, Enterprise, Said};

const PASSWORD: &str = "correct horse";

pub struct Est;

impl Protocol for Est {
    const WAITS: bool = true;
    // A request that waits is sent again, and has no reference of the server's.
    const FORGETS: bool = false;

    fn section(at: &At) -> String {
        section(&at.directory, &at.url, &at.ca_file)
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        Router::new()
            .route("/.well-known/est/cacerts", get(cacerts))
            .route("/.well-known/est/simpleenroll", post(enroll))
            .with_state(ca)
    }
}

fn section(directory: &Path, url: &str, ca_file: &Path) -> String {
    let file = directory.join("est.password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    format!(
        "kind = \"est\"\naddress = \"{url}\"\nca_file = \"{}\"\nusername = \"rootbridge\"\n\
         password_file = \"{}\"\n",
        ca_file.display(),
        file.display()
    )
}

/// PKCS#7 without a signature, in base64, or what is there if it is no certificate.
fn wrapped(ca: &Enterprise, certificates: &[u8]) -> Response {
    let file = ca.file("pkcs7");
    fs::write(&file, certificates).unwrap();
    let mut command = Command::new("openssl");
    command.args(["crl2pkcs7", "-nocrl", "-outform", "DER", "-certfile"]);
    let output = command.arg(&file).output().unwrap();
    // It makes an empty one of no certificates.
    let is_made = output.status.success() && certificates.contains(&b'-');
    let body = match is_made {
        true => STANDARD.encode(output.stdout).into_bytes(),
        false => certificates.to_vec(),
    };
    let headers = [
        (
            "content-type",
            "application/pkcs7-mime; smime-type=certs-only",
        ),
        ("content-transfer-encoding", "base64"),
    ];
    (headers, body).into_response()
}

async fn cacerts(State(ca): State<Arc<Enterprise>>) -> Response {
    let certificates = ca.middle.pem() + &ca.root.pem();
    wrapped(&ca, certificates.as_bytes())
}

async fn enroll(State(ca): State<Arc<Enterprise>>, headers: HeaderMap, body: String) -> Response {
    let basic = STANDARD.encode(format!("rootbridge:{PASSWORD}"));
    let given = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if given != Some(format!("Basic {basic}").as_str()) {
        let ask = [("www-authenticate", "Basic realm=\"EST\"")];
        return (StatusCode::UNAUTHORIZED, ask).into_response();
    }
    assert_eq!(headers["content-type"], "application/pkcs10");
    let text: String = body.split_whitespace().collect();
    let csr = to_pem("CERTIFICATE REQUEST", &STANDARD.decode(text).unwrap());
    // The server knows a request that it has seen by what it is.
    let reference = ca.calls().last().is_some().then(|| "seen".to_owned());
    match Arc::clone(&ca).ask(csr, reference).await {
        Said::Issued(bytes) => wrapped(&ca, own(&bytes)),
        Said::Pending(_) => (StatusCode::ACCEPTED, [("retry-after", "1")]).into_response(),
        Said::Refused(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
        Said::Forgotten | Said::Nothing => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// The new certificate of a good answer, which is all that a server of this kind sends.
fn own(answer: &[u8]) -> &[u8] {
    const LAST: &str = "-----END CERTIFICATE-----\n";
    let text = str::from_utf8(answer).unwrap();
    match text.split_once("-- then\n") {
        Some((_, own)) => &own.as_bytes()[..own.find(LAST).unwrap() + LAST.len()],
        None => answer,
    }
}

contract!(Est);

/// Runs strongSwan's `pki`, which warns of plugins that it does without.
fn pki(command: &[&str], more: impl FnOnce(&mut Command)) -> Vec<u8> {
    let mut pki = Command::new("pki");
    pki.args(command);
    more(&mut pki);
    let output = pki.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{pki:?}: {log}");
    output.stdout
}

/// Somebody else's client gets what ours does: at once, and after a wait.
#[tokio::test(flavor = "multi_thread")]
async fn strongswan_is_served_by_the_same_server() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let ca = Enterprise::new(at("enterprise"));
    let (port, pem) = tls_server::serve(Est::router(Arc::clone(&ca))).await;
    fs::write(at("tls.pem"), pem).unwrap();
    let request = submission();
    fs::write(at("csr"), &request.csr).unwrap();
    ca.tell(Behaviour::Pending);
    let told = Arc::clone(&ca);
    let decides = tokio::spawn(async move {
        while told.calls().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // It takes no certificate of a CA.
        told.tell(Behaviour::Bad(Bad::Leaf));
    });
    let url = format!("https://127.0.0.1:{port}");
    let (tls, out, from) = (at("tls.pem"), at("anchor.pem"), url.clone());
    let certificates = tokio::task::spawn_blocking(move || {
        pki(
            &["--estca", "--outform", "pem", "--url", &from],
            |command| {
                command.arg("--cacert").arg(tls).arg("--caout").arg(out);
            },
        )
    })
    .await
    .unwrap();
    assert!(certificates.is_empty(), "{certificates:?}");
    let given: String = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("anchor"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for above in [&ca.root, &ca.middle] {
        assert!(given.contains(above.pem().trim()), "{given}");
    }
    let (paths, user) = ((at("tls.pem"), at("csr")), format!("rootbridge:{PASSWORD}"));
    let roots = [ca.root.pem_file(), ca.middle.pem_file()];
    let issued = tokio::task::spawn_blocking(move || {
        let (tls, csr) = paths;
        pki(&["--est", "--outform", "pem", "--url", &url], |command| {
            command.arg("--cacert").arg(tls).arg("--in").arg(csr);
            for root in roots {
                command.arg("--cacert").arg(root);
            }
            command.args([
                "--userpass",
                &user,
                "--interval",
                "1",
                "--maxpolltime",
                "60",
            ]);
        })
    })
    .await
    .unwrap();
    decides.await.unwrap();
    assert!(ca.calls().len() >= 2, "it was polled: {:?}", ca.calls());
    fs::write(at("issued.pem"), issued).unwrap();
    let mut show = Command::new("openssl");
    show.args(["x509", "-noout", "-subject", "-in"]);
    let subject = run(show.arg(at("issued.pem")));
    assert!(subject.contains("Mesh CA"), "{subject}");
}

/// From `upstream test` to workloads' certificates, by way of a wait; then with another password.
#[tokio::test(flavor = "multi_thread")]
async fn est_certifies_the_issuing_ca() {
    let setup = TestServer::bare();
    let directory = setup.path("est");
    fs::create_dir_all(&directory).unwrap();
    let ca = Enterprise::new(directory.join("enterprise"));
    let (port, pem) = tls_server::serve(Est::router(Arc::clone(&ca))).await;
    let roots = directory.join("tls.pem");
    fs::write(&roots, pem).unwrap();
    let url = format!("https://127.0.0.1:{port}");
    let section = section(&directory, &url, &roots);
    let found = upstream_test(&setup, &section, "subject = \"Mesh CA\"");
    assert!(found.contains("did not refuse the credential"), "{found}");
    certify_and_serve(&setup, &ca.root.pem(), "Mesh CA").await;

    let upstream = connect(&section);
    let request = submission();
    ca.tell(Behaviour::Pending);
    match upstream.submit(&request).await {
        Ok(Answer::Pending { retry_after, .. }) => assert_eq!(retry_after.unwrap().as_secs(), 1),
        other => panic!("not pending: {other:?}"),
    }
    fs::write(directory.join("est.password"), "another").unwrap();
    let stranger = upstream.submit(&request).await.unwrap_err().reason;
    assert!(stranger.contains("answered 401"), "{stranger}");
    assert!(!stranger.contains("another"), "{stranger}");
}

/// The server that asks for a client certificate gets the one that is in the file then.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let ca = Enterprise::new(at("enterprise"));
    let router = Est::router(Arc::clone(&ca));
    let (port, pem) = tls_server::serve_mutual(router, &ca.root.pem()).await;
    fs::write(at("tls.pem"), pem).unwrap();
    let url = format!("https://127.0.0.1:{port}");
    let section = section(directory.path(), &url, &at("tls.pem"));
    let request = submission();
    // The reason may be the server's alert, or that it closed the connection.
    let without = connect(&section).submit(&request).await;
    assert!(without.is_err(), "{without:?}");

    let identity = |name: &str, issuer: &OpensslCa| {
        let key = key(directory.path(), name, "ecdsa-p256");
        let csr = fs::read_to_string(csr(&key, "DNS:client")).unwrap();
        let leaf = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth";
        fs::write(at("client.pem"), issuer.sign(&csr, leaf, &[])).unwrap();
        fs::copy(key, at("client.key")).unwrap();
    };
    let stranger = OpensslCa::new(directory.path(), "other");
    identity("first", &stranger);
    let upstream = connect(&format!(
        "{section}client_certificate_file = \"{}\"\nclient_key_file = \"{}\"\n",
        at("client.pem").display(),
        at("client.key").display()
    ));
    let unknown = upstream.submit(&request).await;
    assert!(unknown.is_err(), "{unknown:?}");
    assert!(ca.calls().is_empty(), "the CA was asked: {:?}", ca.calls());
    identity("second", &ca.root);
    let accepted = upstream.submit(&request).await;
    assert!(matches!(accepted, Ok(Answer::Issued(_))), "{accepted:?}");
    let secret = fs::read_to_string(at("client.key")).unwrap();
    fs::write(at("client.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    let unusable = upstream.submit(&request).await.unwrap_err().reason;
    assert!(
        unusable.contains("cannot use the client certificate"),
        "{unusable}"
    );
    assert!(!unusable.contains(secret.lines().nth(1).unwrap()));
}
