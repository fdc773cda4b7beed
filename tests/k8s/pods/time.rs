//! Times that an API server would refuse: the request stays as it is, nothing is signed, and the
//! answer comes by itself once the cause is gone.

use std::fs;
use std::time::Duration;

use rcgen::KeyPair;
use rootbridge::x509::parse_pem_chain;

use super::{Pods, stub};
use crate::server::shared;
use crate::signing::Scene;
use rootbridge_test_support::fake_clock::FakeClock;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, eventually};

impl Pods {
    /// Waits until a request was tried, and for a moment more: it has no answer and no record.
    async fn waits(&self, name: &str, server: &RunningServer, why: &str) {
        server.wait_for_log(why).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let object = self.api(&self.scene.admin).get(name).await.unwrap();
        let conditions = object.status.and_then(|status| status.conditions);
        assert_eq!(conditions.unwrap_or_default(), []);
        let id = format!("spiffe://{TD}/ns/{}/sa/web", self.scene.namespace);
        assert_eq!(self.scene.recorded(&id), (0, 0));
    }
}

async fn issued(name: &str, ttl: &str) -> Pods {
    let init = ["--issuing-ttl", ttl];
    let scene = Scene::of(&init, shared(), name, "").await;
    Pods::of(scene, shared()).await
}

/// No certificate of an hour is left in it: the pod waits for the CA's renewal, and has its
/// certificate of the new one without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_ca_within_an_hour_of_its_end_is_waited_for() {
    let pods = issued("pods-ending", "50m").await;
    let setup = &pods.scene.setup;
    let running = setup.serve().await;
    let key = KeyPair::generate().unwrap();
    let name = pods.make(&stub(&key), |_| {}).await.unwrap();
    pods.waits(&name, &running, "its operator must renew it")
        .await;

    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let (root, chain) = (setup.path("root.pem"), setup.path("chain.pem"));
    fs::write(&root, enterprise.pem()).unwrap();
    let of = ["--trust-domain", TD];
    let anchor = ["anchors", "add", root.to_str().unwrap()];
    setup.cli(&[&anchor[..], &of, &["--source", "enterprise"]].concat());
    let csr = setup.cli(&[&["ca", "request"], &of[..]].concat());
    fs::write(&chain, enterprise.certify(&csr, 0) + &enterprise.pem()).unwrap();
    setup.cli(&["ca", "import", chain.to_str().unwrap()]);
    fs::write(setup.path(&format!("{TD}.pem")), enterprise.pem()).unwrap();

    let (object, kind, reason) = pods.answer(&name).await;
    assert_eq!(kind, "Issued", "{reason}");
    let chain = object.status.unwrap().certificate_chain.unwrap();
    pods.scene.verify(&chain);
    running.stop().await;
}

/// A little more than an hour is left: the API server takes what the CA's end leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_has_an_hour_left_gives_it() {
    let pods = issued("pods-hour", "63m").await;
    let running = pods.scene.setup.serve().await;
    let key = KeyPair::generate().unwrap();
    let name = pods.make(&stub(&key), |_| {}).await.unwrap();
    let (object, kind, reason) = pods.answer(&name).await;
    assert_eq!(kind, "Issued", "{reason}");
    let chain = object.status.unwrap().certificate_chain.unwrap();
    pods.scene.verify(&chain);
    let all = parse_pem_chain(chain.as_bytes()).unwrap();
    assert_eq!(all[0].not_after(), all[1].not_after());
    running.stop().await;
}

/// By a clock that is ten minutes off, either way, the API server would take no certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_minutes_off_is_waited_for() {
    let pods = Pods::new("pods-clock", "").await;
    let setup = &pods.scene.setup;
    let clock = FakeClock::new(setup, "+10m");
    let running = setup.start_with(clock.serve(setup)).await;
    running.ready().await;
    let key = KeyPair::generate().unwrap();
    let name = pods.make(&stub(&key), |_| {}).await.unwrap();
    let why = "the API server's clock and this one differ by minutes";
    pods.waits(&name, &running, why).await;
    clock.move_to("-10m").await;
    let before = running.log().matches(why).count();
    eventually(PATIENCE, "another try", async || {
        running.log().matches(why).count() > before
    })
    .await;
    pods.waits(&name, &running, why).await;

    clock.move_to("+0").await;
    let (_, kind, reason) = pods.answer(&name).await;
    assert_eq!(kind, "Issued", "{reason}");
    running.stop().await;
}
