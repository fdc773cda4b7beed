//! How far the ledger has come is in a data object of the token too: an older ledger is refused although the
//! file beside it is gone. A token that holds no data objects leaves the file.

use std::fs;

use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, softhsm};

use crate::ledger_older::{ACCEPT, refuses_to_start, replace};

async fn issue(setup: &TestServer, server: &RunningServer) {
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    server.client(TD).await.istio(&token, &csr).await.unwrap();
}

/// The labels of the token's data objects, as another program sees them after a login.
fn data_objects(setup: &TestServer) -> Vec<String> {
    let pin = fs::read_to_string(setup.path("token/pin")).unwrap();
    let mut tool = std::process::Command::new("pkcs11-tool");
    tool.env("SOFTHSM2_CONF", setup.path("token/softhsm2.conf"))
        .arg("--module")
        .arg(softhsm::module())
        .args(["--login", "--pin", &pin, "--list-objects", "--type", "data"]);
    let listed = run(&mut tool);
    let labels = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("label:"));
    labels
        .map(|label| label.trim().trim_matches('\'').to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_ledger_is_refused_by_the_tokens_mark() {
    let setup = TestServer::new();
    let command = setup.use_faulty_module();
    let server = setup.serve().await;
    let (old, file) = (setup.path("old.db"), setup.path("high-water"));
    setup.cli(&["ledger", "backup", old.to_str().unwrap()]);
    issue(&setup, &server).await;
    server
        .wait_for_log("is kept in a data object of token")
        .await;
    server.stop().await;
    let labels = data_objects(&setup);
    assert_eq!(labels.len(), 1, "{labels:?}");
    assert!(labels[0].starts_with("rootbridge mark "), "{labels:?}");

    // Whoever puts a backup back may well put the whole directory back.
    fs::remove_dir_all(&file).unwrap();
    replace(&setup, Some(&old));
    let error = refuses_to_start(&setup);
    assert!(
        error.contains("is not the newest: it ends at intent"),
        "{error}"
    );
    assert!(
        error.contains("mark in a data object of token \"main\""),
        "{error}"
    );

    // A token that does not answer at the start is compared before anything replaces its mark.
    command("login_rv 48"); // CKR_DEVICE_ERROR
    let mut server = setup.start().await;
    server.wait_for_log("compared with the file alone").await;
    command("");
    let status = server.wait_exit(PATIENCE).await;
    assert_eq!(status.code(), Some(5));
    server.wait_for_log("is not the newest").await;
    drop(server);
    assert_eq!(data_objects(&setup), labels);

    let server = setup.start_with(setup.command(&ACCEPT)).await;
    server.ready().await;
    issue(&setup, &server).await;
    server.stop().await;
    // From here on this is the ledger, and there is one mark of it.
    fs::remove_dir_all(&file).unwrap();
    setup.serve().await.stop().await;
    assert_eq!(data_objects(&setup), labels);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_data_objects_leaves_the_file() {
    let setup = TestServer::new();
    let command = setup.use_faulty_module();
    command("create_rv 84"); // CKR_FUNCTION_NOT_SUPPORTED
    let server = setup.serve().await;
    issue(&setup, &server).await;
    server.wait_for_log("only, and not in the token").await;
    server.stop().await;
    assert!(data_objects(&setup).is_empty());
    let mark = fs::read_to_string(setup.path("high-water/test-0.json")).unwrap();
    assert!(mark.contains("\"reached\""), "{mark}");
}
