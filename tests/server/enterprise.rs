//! `ca request` and `ca import`: an issuing CA under the enterprise's root, signed by openssl.

use std::fs;
use std::time::Duration;

use reqwest::Method;
use rootbridge::ledger::IssuerId;
use serde_json::Value;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::fake_clock::FakeClock;
use rootbridge_test_support::openssl::{OpensslCa, ca};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

fn request(setup: &TestServer, more: &[&str]) -> String {
    let mut arguments = vec!["ca", "request", "--trust-domain", TD];
    arguments.extend(more);
    setup.cli(&arguments)
}

fn import(setup: &TestServer, chain: &str) -> Result<Value, String> {
    let path = setup.path("chain.pem");
    fs::write(&path, chain).unwrap();
    let output = setup.try_cli(&["ca", "import", path.to_str().unwrap(), "-o", "json"]);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(message.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

/// The whole way while the server runs: it takes the answer without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_uses_the_enterprises_certificate() {
    let setup = TestServer::bare();
    let server = setup.start().await;
    let (status, message) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(message.contains("ca init"), "{message}");
    assert_eq!(server.get("/livez").await.0, 200);

    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let middle = enterprise.intermediate("middle");
    let csr = request(&setup, &["--organization", "Mesh"]);
    let (status, message) = server.get("/readyz").await;
    assert_eq!(status, 503, "a pending issuer is none");
    assert!(message.contains("ca import"), "{message}");
    let chain = middle.certify(&csr, 0) + &middle.pem() + &enterprise.pem();
    let report = import(&setup, &chain).unwrap();
    assert_eq!(report["bundle_sequence"], 1);
    fs::write(setup.path(&format!("{TD}.pem")), enterprise.pem()).unwrap();

    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let answer = client
        .istio(&token, &KeyAndCsr::workload("foo", "bar"))
        .await
        .unwrap();
    let above: Vec<_> = answer.above.iter().map(|each| each.subject()).collect();
    assert_eq!(above.len(), 2, "{above:?}");
    assert!(
        above[0].contains("cluster.local issuing CA") && above[1].contains("middle"),
        "{above:?}"
    );
    assert_eq!(answer.roots.len(), 1);
    assert!(answer.roots[0].subject().contains("root"));
    // The same again is no error, and no second record.
    import(&setup, &chain).unwrap();
    server.stop().await;
}

#[test]
fn errors_of_bad_chains_say_what_is_wrong() {
    let setup = TestServer::bare();
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let stranger = OpensslCa::new(&setup.path(""), "stranger");
    let middle = enterprise.intermediate("middle");
    let csr = request(&setup, &["--path-len", "1"]);
    let root = enterprise.pem();
    let good = enterprise.certify(&csr, 1);
    let other_key = OpensslCa::new(&setup.path(""), "other").pem();

    let expired = enterprise.sign(&csr, &ca(Some(1)), &["-days", "-1"]);
    let leaf = enterprise.sign(&csr, "basicConstraints=critical,CA:FALSE", &[]);
    let no_sign = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature";
    let uri = format!(
        "{}\nnameConstraints=critical,permitted;URI:{TD}",
        ca(Some(1))
    );
    for (chain, says) in [
        (String::new(), "the file holds nothing"),
        (
            "no certificate at all".to_owned(),
            "text without a PEM block",
        ),
        (other_key.clone(), "no authority here has the key"),
        (good.clone() + &stranger.pem(), "the chain does not verify"),
        (expired + &root, "expired"),
        (leaf + &root, "not a CA"),
        (enterprise.sign(&csr, no_sign, &[]) + &root, "keyCertSign"),
        (
            enterprise.certify(&csr, 0) + &root,
            "allows 0 CAs below it, 1 were requested",
        ),
        (good.clone(), "the root is missing: `CN=root,O=Enterprise`"),
        (
            middle.certify(&csr, 1) + &middle.pem(),
            "the root is missing: `CN=root,O=Enterprise`",
        ),
        (middle.certify(&csr, 1) + &root, "the chain does not verify"),
        (
            enterprise.sign(&csr, &uri, &[]) + &root,
            "name constraint on URIs",
        ),
    ] {
        let message = import(&setup, &chain).unwrap_err();
        assert!(message.contains(says), "`{says}` is not in: {message}");
        assert!(message.contains("chain.pem"), "where is not in: {message}");
    }
    // None of them has changed anything.
    assert_eq!(
        import(&setup, &(root + &good)).unwrap()["bundle_sequence"],
        1
    );
}

/// Another root for an authority in use: published first, imported when all workloads have it.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_under_an_unpublished_root_is_not_activated() {
    let setup = TestServer::new();
    let own = setup.roots(TD);
    let server = setup.serve().await;
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let chain = enterprise.certify(&request(&setup, &[]), 0) + &enterprise.pem();
    let message = import(&setup, &chain).unwrap_err();
    assert!(
        message.contains("does not hold the root") && message.contains("--kind upstream-root"),
        "{message}"
    );

    let root = setup.path("root.pem");
    fs::write(&root, enterprise.pem()).unwrap();
    setup.cli(&[
        "anchors",
        "add",
        root.to_str().unwrap(),
        "--trust-domain",
        TD,
        "--source",
        "enterprise",
    ]);
    import(&setup, &chain).unwrap();
    fs::write(setup.path(&format!("{TD}.pem")), own + &enterprise.pem()).unwrap();
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    eventually(PATIENCE, "the new issuer", async || {
        let answer = client
            .istio(&token, &KeyAndCsr::workload("foo", "bar"))
            .await
            .unwrap();
        assert_eq!(answer.roots.len(), 2);
        enterprise.pem().contains(
            &answer
                .roots
                .iter()
                .find(|root| answer.above[0].verify_signed_by(root.public_key()).is_ok())
                .unwrap()
                .to_pem()
                .lines()
                .nth(1)
                .unwrap()
                .to_owned(),
        )
    })
    .await;
    // The listener's own certificate follows: it does not wait for the middle of its life.
    fs::write(setup.path(&format!("{TD}.pem")), enterprise.pem()).unwrap();
    server.client(TD).await;
    server.stop().await;
}

/// A pending request is not taken away by `ca init`, whose issuer serves until the answer comes.
#[tokio::test(flavor = "multi_thread")]
async fn init_leaves_a_pending_request_alone() {
    let setup = TestServer::bare();
    let first = request(&setup, &[]);
    let issuer = |more: &[&str]| {
        let mut arguments = vec!["-o", "json"];
        arguments.extend(more);
        let report: Value = serde_json::from_str(&request(&setup, &arguments)).unwrap();
        report["issuer"].as_str().unwrap().to_owned()
    };
    // Asked again it is the same key, with another path length another one.
    let requested = issuer(&[]);
    assert_eq!(issuer(&[]), requested);
    assert_ne!(issuer(&["--path-len", "1"]), requested);
    setup.init(TD, &[]);
    let list = setup.cli(&["ca", "list", "-o", "json"]);
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let count = |state: &str| list.iter().filter(|row| row["state"] == state).count();
    assert_eq!((count("active"), count("pending")), (2, 2));

    // What is imported last signs, though its key is older than init's.
    let server = setup.serve().await;
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let root = setup.path("root.pem");
    fs::write(&root, enterprise.pem()).unwrap();
    setup.cli(&[
        "anchors",
        "add",
        root.to_str().unwrap(),
        "--trust-domain",
        TD,
        "--source",
        "enterprise",
    ]);
    import(&setup, &(enterprise.certify(&first, 0) + &enterprise.pem())).unwrap();
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    eventually(Duration::from_secs(5), "the imported issuer", async || {
        let answer = client
            .istio(&token, &KeyAndCsr::workload("foo", "bar"))
            .await
            .unwrap();
        IssuerId::of_spki(answer.above[0].public_key().spki_der()).as_str() == requested
    })
    .await;
    server.stop().await;
}

/// One key with certificates under two roots: when the newer root goes, the older path is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_whose_root_was_removed_is_not_returned() {
    let setup = TestServer::bare();
    let server = setup.start().await;
    let roots = ["first", "second"].map(|name| OpensslCa::new(&setup.path(""), name));
    let csr = request(&setup, &[]);
    let [first, second] = roots.each_ref().map(OpensslCa::pem);
    // A root is published before anything is answered under it.
    let published = setup.path("second.pem");
    fs::write(&published, &second).unwrap();
    let publish = || {
        let add = [
            "anchors",
            "add",
            "--trust-domain",
            TD,
            "--source",
            "enterprise",
        ];
        setup.cli(&[&add[..], &[published.to_str().unwrap()]].concat())
    };
    for (root, pem) in roots.iter().zip([&first, &second]) {
        if *pem == second {
            publish();
        }
        import(&setup, &(root.certify(&csr, 0) + pem)).unwrap();
    }
    fs::write(setup.path(&format!("{TD}.pem")), first.clone() + &second).unwrap();
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let ask = async || {
        let request = KeyAndCsr::workload("foo", "bar");
        client.istio(&token, &request).await.unwrap()
    };
    let subject = |pem: &str| {
        let root = rootbridge::x509::parse_pem_chain(pem.as_bytes()).unwrap();
        root[0].subject().to_string()
    };
    let issuer =
        |answer: &rootbridge_test_support::chain::Chain| answer.above[0].issuer().to_string();
    eventually(PATIENCE, "the newer path", async || {
        issuer(&ask().await) == subject(&second)
    })
    .await;

    let anchors: Value =
        serde_json::from_str(&setup.cli(&["anchors", "list", "-o", "json"])).unwrap();
    let newer = anchors.as_array().unwrap().iter().find(|anchor| {
        let message = anchor["subject"].as_str().unwrap();
        message.contains("second")
    });
    let print = newer.unwrap()["sha256"].as_str().unwrap();
    setup.cli(&["anchors", "remove", print]);
    eventually(PATIENCE, "the older path", async || {
        let answer = ask().await;
        answer.roots.len() == 1 && issuer(&answer) == subject(&first)
    })
    .await;
    server.stop().await;
}

/// An intermediate above the issuing CA ends first. Health says ahead what requests will meet, and
/// a renewed path heals it without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_earliest_end_of_the_path() {
    let setup = TestServer::bare();
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let middle = enterprise.intermediate("middle");
    enterprise.recertify(&middle, 1);
    let csr = request(&setup, &[]);
    import(
        &setup,
        &(middle.certify(&csr, 0) + &middle.pem() + &enterprise.pem()),
    )
    .unwrap();
    // By the real clock, the intermediate has a whole day within the second in which it was made.
    let clock = FakeClock::new(&setup, "+1h");
    let server = setup.start_with(clock.serve(&setup)).await;
    server.ready().await;
    let authority = async || {
        let page = server
            .admin_request(Method::GET, "/v1/status", Some(&setup.operator))
            .await
            .1;
        let page: Value = serde_json::from_str(&page).unwrap();
        page["authorities"][0].clone()
    };
    let metric = async |name: &str| {
        let name = format!("rootbridge_issuer_{name}{{trust_domain=\"{TD}\"}}");
        server.metric(&name).await.unwrap()
    };
    let end = rootbridge::x509::parse_pem_chain(middle.pem().as_bytes()).unwrap()[0].not_after();

    // A certificate of the default 24 hours no longer fits, one of the shortest life does.
    let status = authority().await;
    assert_eq!(status["issuer_not_after"], end.to_string());
    assert!(status["issuer"].is_string(), "{status}");
    assert!(
        status["warning"].as_str().unwrap().contains("renew"),
        "{status}"
    );
    assert_eq!(
        metric("not_after_timestamp_seconds").await,
        end.secs() as f64
    );
    assert_eq!(
        (metric("ready").await, metric("shortens_certificates").await),
        (1.0, 1.0)
    );
    let checked = clock.command(&setup, &["check"]).output().unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.contains("do not get their default lifetime"),
        "{checked}"
    );

    // Three minutes are left: less than twice the backdating of two.
    clock.move_to("+1437m").await;
    eventually(PATIENCE, "it is not ready", async || {
        metric("ready").await == 0.0
    })
    .await;
    let (status, said) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(said.contains("renew it"), "{said}");
    let status = authority().await;
    assert!(status["issuer"].is_null(), "{status}");
    assert!(
        status["why"].as_str().unwrap().contains("expires in"),
        "{status}"
    );
    assert!(status["warning"].is_null(), "{status}");

    // The same key under a path that lasts.
    import(&setup, &(enterprise.certify(&csr, 0) + &enterprise.pem())).unwrap();
    server.ready().await;
    assert_eq!(
        (metric("ready").await, metric("shortens_certificates").await),
        (1.0, 0.0)
    );
    assert!(authority().await["warning"].is_null());
    server.stop().await;
}
