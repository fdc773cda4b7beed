//! grpcurl, which knows nothing of our protobufs: it finds the services by reflection, their
//! health by grpc.health.v1, and gets a certificate with a shell's means.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use rootbridge_test_support::command::{output, run};
use rootbridge_test_support::files::repository;
use rootbridge_test_support::{TD, TestServer};

use crate::support::{NAME, ledger};

fn grpcurl(setup: &TestServer, flags: &[&str], call: &[&str]) -> Command {
    let mut command = Command::new(repository("build/interop/grpcurl"));
    command
        .arg("-cacert")
        .arg(ledger::anchors(setup))
        .args(["-authority", NAME])
        .args(flags)
        .arg(format!("127.0.0.1:{}", setup.port))
        .args(call);
    command
}

#[tokio::test]
async fn services_are_found_healthy_and_usable_by_reflection() {
    let setup = TestServer::on_fixed_ports();
    let server = setup.serve().await;
    let services = run(&mut grpcurl(&setup, &[], &["list"]));
    for service in [
        "istio.v1.auth.IstioCertificateService",
        "rootbridge.v1.CertificateService",
        "rootbridge.v1.TrustBundleService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.lines().any(|line| line == service), "{services}");
        if service.starts_with("rootbridge") || service.starts_with("istio") {
            let ask = json!({ "service": service }).to_string();
            let check = &["grpc.health.v1.Health/Check"];
            // Kept by a prober in the background: a moment after the server is ready.
            let end = Instant::now() + Duration::from_secs(20);
            loop {
                let health = run(&mut grpcurl(&setup, &["-d", &ask], check));
                if health.contains("\"SERVING\"") {
                    break;
                }
                assert!(Instant::now() < end, "{service}: {health}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    let ask = json!({ "trustDomain": TD }).to_string();
    let bundle = &["rootbridge.v1.TrustBundleService/GetTrustBundle"];
    let bundle = run(&mut grpcurl(&setup, &["-d", &ask], bundle));
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    assert_eq!(bundle["anchors"].as_array().unwrap().len(), 1, "{bundle}");

    let sign = &["rootbridge.v1.CertificateService/SignCertificate"];
    let refused = output(&mut grpcurl(&setup, &["-d", "{}"], sign));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("Unauthenticated"),
        "{message}"
    );
    drop(server);
}
