//! What `check` says of the files that the configuration names: who may read them, and what is in them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{refusal, sign_request};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};
use serde_json::Value;
use tonic::Code;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn found(setup: &TestServer) -> String {
    let output = setup.try_cli(&["check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn files_that_others_may_read_are_named() {
    let setup = TestServer::new();
    // The directory of a test is its user's alone: nobody else reaches what is in it.
    let pin = setup.path("token/pin");
    mode(&pin, 0o644);
    let text = found(&setup);
    assert!(text.contains("are the service's alone"), "{text}");
    mode(&setup.path(""), 0o755);
    mode(&setup.path("token"), 0o755);
    for (file, bits, what, command) in [
        (
            "token/pin",
            0o644,
            "any user of this machine can read it (mode 0644)",
            "go-rwx",
        ),
        (
            "operator.token",
            0o602,
            "any user of this machine can write it (mode 0602)",
            "go-rwx",
        ),
        (
            "ledger.db",
            0o666,
            "any user of this machine can read and write it (mode 0666)",
            "go-rwx",
        ),
    ] {
        let path = setup.path(file);
        mode(&path, bits);
        let text = found(&setup);
        assert!(
            text.contains(&format!("{}: {what}", path.display())),
            "{text}"
        );
        assert!(
            text.contains(&format!("chmod {command} {}", path.display())),
            "{text}"
        );
        mode(&path, 0o600);
    }
    // Of a group to which the service does not belong.
    chown(&pin, None, Some(54_321)).unwrap();
    mode(&pin, 0o640);
    let text = found(&setup);
    assert!(
        text.contains("the group with gid 54321 can read it (mode 0640)"),
        "{text}"
    );
    assert!(
        text.contains(&format!("chmod g-rwx {}", pin.display())),
        "{text}"
    );
    mode(&pin, 0o600);
    let text = found(&setup);
    assert!(text.contains("are the service's alone"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_key_sets_are_read_as_the_server_reads_them() {
    let setup = TestServer::new();
    let (credential, keys) = (setup.path("operator.token"), setup.path("jwks.json"));
    let marked = |path: &Path| {
        let text = fs::read(path).unwrap();
        fs::write(path, [b"\xef\xbb\xbf".as_slice(), &text].concat()).unwrap();
    };
    marked(&credential);
    marked(&keys);
    let text = found(&setup);
    assert!(
        text.contains("√ credential of admin") && text.contains("√ keys of cluster: 1 key"),
        "{text}"
    );
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let token = setup.issuer.istio("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    let names = ["spiffe://cluster.local/ns/foo/sa/bar"];
    client
        .sign(&setup.operator, sign_request(&csr, "workload", &names))
        .await
        .unwrap();
    server.stop().await;

    fs::write(&credential, "rb_op_short").unwrap();
    let missing = setup.path("other.token");
    fs::remove_file(&missing).unwrap();
    fs::write(&keys, "{\"keys\":[]}").unwrap();
    let text = found(&setup);
    assert!(
        text.contains("× credential of admin")
            && text.contains("does not hold one operator credential"),
        "{text}"
    );
    assert!(
        text.contains("× keys of cluster: it has no key that can verify a token"),
        "{text}"
    );
    assert!(text.contains("rootbridge operator new other"), "{text}");
    let valid: Value =
        serde_json::from_str(&setup.cli(&["config", "validate", "-o", "json"])).unwrap();
    let warnings = valid["warnings"].to_string();
    let names = format!(
        "operators.other.credential_file: there is no {}",
        missing.display()
    );
    assert!(warnings.contains(&names), "{warnings}");
    assert!(!warnings.contains("operators.admin"), "{warnings}");
}

/// It is made once, replaced only when that is asked for, and accepted by the running server at once.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_operators_are_made() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let ask = async |credential: &str| {
        let request = sign_request(&csr, "workload", &["spiffe://cluster.local/ns/foo/sa/bar"]);
        client.sign(credential, request).await.map(|_| ())
    };
    ask(&setup.operator).await.unwrap();

    let exists = setup.try_cli(&["operator", "new", "admin"]);
    let text = String::from_utf8_lossy(&exists.stderr).into_owned();
    assert_eq!(exists.status.code(), Some(1), "{text}");
    assert!(
        text.contains("exists already") && text.contains("--replace"),
        "{text}"
    );
    let path = setup.path("operator.token");
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), setup.operator);

    let said = setup.cli(&["operator", "new", "admin", "--replace"]);
    let made = fs::read_to_string(&path).unwrap().trim().to_owned();
    assert!(!said.contains(&made), "the credential itself is not shown");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A digest is kept for a tenth of a second.
    eventually(PATIENCE, "the new one", async || ask(&made).await.is_ok()).await;
    refusal(ask(&setup.operator).await, Code::Unauthenticated);

    let unknown = setup.try_cli(&["operator", "new", "nobody"]);
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(3), "{text}");
    assert!(text.contains("there is no [operators.nobody]"), "{text}");
    // Without a configuration, for a Secret.
    let out = setup.path("secret");
    setup.cli(&["operator", "new", "nobody", "--out", out.to_str().unwrap()]);
    assert!(fs::read_to_string(&out).unwrap().starts_with("rb_op_"));
    server.stop().await;
}
