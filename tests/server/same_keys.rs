//! An authority's key in two tokens, as in a cluster of HSMs: whichever is away, callers notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::p11_kit::P11KitServer;
use rootbridge_test_support::softhsm::{self, copy_tokens, p11_kit_client};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

async fn is_up(server: &RunningServer, token: &str, up: f64) {
    let name = format!("rootbridge_hsm_up{{token=\"{token}\"}}");
    let metric = async || server.metric(&name).await == Some(up);
    eventually(PATIENCE, &format!("{name} {up}"), metric).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_token_is_away_no_call_fails() {
    let setup = TestServer::new();
    // With the keys of `ca init`.
    let configuration = copy_tokens(&setup.path("token/tokens"), &setup.path("second"));
    let socket = setup.path("p11-kit.sock");
    let start_second = || {
        let environment = [("SOFTHSM2_CONF", configuration.as_path())];
        P11KitServer::start_with(&softhsm::module(), &socket, &environment)
    };
    let second = format!(
        "[hsm.tokens.second]\nmodule = {:?}\nlabel = \"rootbridge\"\npin_file = {:?}\n\n\
         [hsm.tokens.main]\nsame_keys_in = [\"second\"]\n",
        p11_kit_client(),
        setup.path("token/pin")
    );
    setup.edit("[hsm.tokens.main]\n", &second);
    let command = setup.use_faulty_module();
    let address = format!(
        "environment = {{ P11_KIT_SERVER_ADDRESS = \"unix:path={}\", ",
        socket.display()
    );
    setup.edit("environment = { ", &address);
    let process = start_second();
    // A test signature with the issuing key in each.
    let report = setup.try_cli(&["check"]).stdout;
    let report = String::from_utf8_lossy(&report);
    assert_eq!(
        report.matches("a test signature took").count(),
        2,
        "{report}"
    );

    let server = setup.serve().await;
    for token in ["main", "second"] {
        is_up(&server, token, 1.0).await;
    }
    let (done, issued) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut callers = Vec::new();
    for number in 0..4 {
        let account = format!("cart-{number}");
        let token = setup.issuer.istio("shop", &account);
        let csr = KeyAndCsr::workload("shop", &account);
        let client = server.client(TD).await;
        let (done, issued) = (done.clone(), issued.clone());
        callers.push(tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                client.istio(&token, &csr).await.expect("no call fails");
                issued.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }));
    }
    let goes_on = async |what: &str| {
        let before = issued.load(Ordering::Relaxed);
        let more = async || issued.load(Ordering::Relaxed) >= before + 8;
        eventually(PATIENCE, what, more).await;
    };
    goes_on("with both").await;
    // CKR_DEVICE_ERROR.
    command("sign_rv 48\n");
    goes_on("while the first one fails").await;
    is_up(&server, "main", 0.0).await;
    goes_on("without the first").await;
    command("");
    is_up(&server, "main", 1.0).await;
    drop(process);
    goes_on("while the second is killed").await;
    is_up(&server, "second", 0.0).await;
    goes_on("without the second").await;
    let _process = start_second();
    is_up(&server, "second", 1.0).await;
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    server.stop().await;
    for state in ["pending", "unknown", "failed"] {
        let open = setup.certificates(&["--state", state]);
        assert!(open.is_empty(), "{state}: {open:#?}");
    }

    // A start without the token that the records name; it is used when it comes.
    command("initialize_rv 5\n");
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    client.istio(&token, &csr).await.unwrap();
    assert_eq!(
        server.metric("rootbridge_hsm_up{token=\"main\"}").await,
        Some(0.0)
    );
    command("");
    server
        .wait_for_log("the token signs with its copy of the key too")
        .await;
    server.stop().await;
}
