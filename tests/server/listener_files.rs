//! The certificate and key files of a listener: what `serve` and `check` say of them is the same.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rootbridge_test_support::command::run;
use rootbridge_test_support::{TD, TestServer};

struct Files {
    setup: TestServer,
}

impl Files {
    fn new() -> Self {
        let setup = TestServer::new();
        setup.edit(
            &format!("trust_domain = \"{TD}\"\ndns = [\"localhost\"]\nip = [\"127.0.0.1\"]"),
            &format!(
                "certificate_file = {:?}\nkey_file = {:?}",
                setup.path("tls.crt"),
                setup.path("tls.key")
            ),
        );
        Self { setup }
    }

    fn write(&self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) {
        std::fs::write(self.setup.path("tls.crt"), certificate).unwrap();
        std::fs::write(self.setup.path("tls.key"), key).unwrap();
    }

    /// What `serve` and `check` say of a file that cannot be used.
    fn refused(&self, expected: &[&str]) {
        for command in [&["serve"][..], &["check"]] {
            let output = self.setup.try_cli(command);
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(!output.status.success(), "{command:?}: {text}");
            for word in expected {
                assert!(text.contains(word), "{command:?}: {word} is not in: {text}");
            }
            assert!(!text.contains("MIG"), "{command:?} shows a key: {text}");
        }
    }
}

fn own_certificate(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn openssl(arguments: &[&str], directory: &Path) {
    let mut command = std::process::Command::new("openssl");
    run(command.args(arguments).current_dir(directory));
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_and_check_say_the_same_of_a_file() {
    let files = Files::new();
    let home = files.setup.path("");
    let (certificate, key) = own_certificate(|_| {});
    files.write(&certificate, &key);
    for (command, name) in [
        (
            &["pkcs8", "-topk8", "-in", "tls.key", "-passout", "pass:x"][..],
            "pkcs8.enc",
        ),
        (
            &["ec", "-in", "tls.key", "-aes128", "-passout", "pass:x"],
            "sec1.enc",
        ),
    ] {
        openssl(&[command, &["-out", name]].concat(), &home);
        let encrypted = std::fs::read(files.setup.path(name)).unwrap();
        files.write(&certificate, encrypted);
        files.refused(&["encrypted private key", "openssl pkey -in", "tls.key"]);
        files.write(&certificate, &key);
    }
    files.write(&certificate, &certificate);
    files.refused(&["tls.key", "no private key"]);
    files.write(&key, &key);
    files.refused(&["tls.crt", "a private key"]);
    files.write("", &key);
    files.refused(&["tls.crt", "holds nothing"]);
    let (_, other) = own_certificate(|_| {});
    files.write(&certificate, other);
    files.refused(&["certificate_file and key_file"]);

    // An issuer before the certificate, and the key in the same file, in DER in its own.
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(rcgen::DnType::CommonName, "CA of the listener");
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key)).unwrap();
    let joined = format!("{ca_pem}{}{}", leaf_key.serialize_pem(), leaf.pem());
    files.write(joined, leaf_key.serialize_der());
    let report = files.setup.cli(&["check"]);
    assert!(
        report.contains("√ mesh: the certificate expires"),
        "{report}"
    );
    let server = files.setup.serve().await;
    let reached = rootbridge_test_support::tls_client::leaf(server.port(), "localhost", &ca_pem);
    assert_eq!(reached.await.unwrap().der(), leaf.der().as_ref());
    server.stop().await;
}

/// It is served, since it is all there is; but not without a word.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_an_error() {
    let files = Files::new();
    let (certificate, key) = own_certificate(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    files.write(&certificate, &key);
    let output = files.setup.try_cli(&["check", "-o", "short"]);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{report}");
    assert!(
        report.contains("× listeners mesh: the certificate expired"),
        "{report}"
    );
    let server = files.setup.serve().await;
    server
        .wait_for_log("the certificate expired at 2021-01-01")
        .await;
    let name = "rootbridge_listener_certificate_not_after_timestamp_seconds{listener=\"mesh\"}";
    assert_eq!(server.metric(name).await, Some(1_609_459_200.0));

    // Another one that has ended is logged again; one that is valid ends it.
    let (second, key) = own_certificate(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2022, 2, 2);
    });
    files.write(second, key);
    server
        .wait_for_log("the certificate expired at 2022-02-02")
        .await;
    server.stop().await;
}
