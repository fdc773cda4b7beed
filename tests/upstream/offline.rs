//! The upstream CA as people who carry files.

use std::fs;

use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

use crate::authority::{issue, issuers, status, upstream_test, wait_for_state};
use crate::contract::connect;
use crate::enterprise::{Enterprise, Said};

/// The request is a file that a restart does not change; the import is the answer, and approves its root.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_answers_the_request_in_the_file() {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    let directory = setup.path("requests");
    let section = format!(
        "kind = \"offline\"\ndirectory = \"{}\"\n",
        directory.display()
    );
    let missing = connect(&section).test().await.unwrap_err().reason;
    assert!(missing.contains("cannot write a request to"), "{missing}");
    fs::create_dir(&directory).unwrap();
    let found = upstream_test(&setup, &section, "subject = \"Mesh CA\"");
    assert!(found.contains("rootbridge ca import"), "{found}");
    let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    let mut server = setup.start().await;
    let request = wait_for_state(&setup, &server, "pending").await;
    let file = request["reference"].as_str().unwrap().to_owned();
    let csr = fs::read_to_string(&file).unwrap();
    server.kill();
    drop(server);
    // It was taken to the CA.
    fs::remove_file(&file).unwrap();
    let server = setup.start().await;
    let again = wait_for_state(&setup, &server, "pending").await;
    assert_eq!(again["request"], request["request"], "the same request");
    assert_eq!(again["reference"], request["reference"]);

    let Said::Issued(chain) = ca.answer(&csr, None) else {
        panic!("the CA issues")
    };
    let answer = setup.path("answer.p7b");
    fs::write(&answer, chain).unwrap();
    setup.cli(&["ca", "import", answer.to_str().unwrap()]);
    fs::write(setup.path(&format!("{TD}.pem")), ca.root.pem()).unwrap();
    server.ready().await;
    let above = issue(&setup, &server).await;
    assert!(above[0].contains("Mesh CA"), "{above:?}");
    eventually(PATIENCE, "no request in flight", async || {
        status(&setup, &server).await["request"].is_null()
    })
    .await;
    assert_eq!(issuers(&setup).len(), 1);
    server.stop().await;
}
