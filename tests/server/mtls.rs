//! Callers by TLS client certificate: renewal, and everything that does not count as one.

use rootbridge::clock::{Clock as _, SystemClock};
use rootbridge::x509::{Certificate, parse_pem_chain};
use tonic::Code;

use crate::ceremonies::sql;
use rootbridge_test_support::chain::Chain;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::fake_clock::FakeClock;
use rootbridge_test_support::grpc::{bearer, istio_request, refusal, sign_request};
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer, eventually};

/// A certificate over Istio's API, with its key.
async fn certificate(setup: &TestServer, client: &Client, account: &str) -> (String, String) {
    let csr = KeyAndCsr::workload("foo", account);
    let token = setup.issuer.istio("foo", account);
    let chain = client.istio(&token, &csr).await.unwrap();
    (chain.pem(), csr.key.serialize_pem())
}

/// Istio's call without a token.
async fn renew(client: &Client, csr: &KeyAndCsr) -> Result<Chain, tonic::Status> {
    let body = istio_request(&csr.pem, 0, &[]);
    let answer = client
        .create(body, tonic::metadata::MetadataMap::new())
        .await?;
    Ok(Chain::istio(&answer.cert_chain))
}

async fn connect(server: &RunningServer, (chain, key): &(String, String)) -> Client {
    server.client_as(TD, Some((chain, key))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_ours_renews_itself() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let first = certificate(&setup, &server.client(TD).await, "bar").await;
    let client = connect(&server, &first).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let renewed = renew(&client, &csr).await.unwrap();
    assert_eq!(renewed.names(), [id("foo", "bar")]);
    // Its own name and no other; by our own API too.
    refusal(
        renew(&client, &KeyAndCsr::workload("foo", "other")).await,
        Code::PermissionDenied,
    );
    client
        .sign("", sign_request(&csr, "workload", &[&id("foo", "bar")]))
        .await
        .unwrap();
    refusal(
        client
            .sign("", sign_request(&csr, "workload", &[&id("foo", "other")]))
            .await,
        Code::PermissionDenied,
    );
    // What was renewed renews again.
    let second = (renewed.pem(), csr.key.serialize_pem());
    renew(&connect(&server, &second).await, &csr).await.unwrap();
    // Only the credential in the header counts.
    let body = || istio_request(&csr.pem, 0, &[]);
    refusal(
        client.create(body(), bearer("nonsense")).await,
        Code::Unauthenticated,
    );
    refusal(
        client
            .create(body(), bearer(&setup.issuer.own("foo", "bar")))
            .await,
        Code::Unauthenticated,
    );
    let other = setup.issuer.istio("foo", "other");
    let chain = client
        .istio(&other, &KeyAndCsr::workload("foo", "other"))
        .await
        .unwrap();
    assert_eq!(
        chain.names(),
        [id("foo", "other")],
        "the token's, not the certificate's"
    );

    let rows = setup.certificates(&["--subject", &id("foo", "bar")]);
    let methods: Vec<_> = rows
        .iter()
        .map(|row| row["caller"]["method"].as_str().unwrap())
        .collect();
    assert_eq!(
        methods
            .iter()
            .filter(|method| **method == "certificate")
            .count(),
        3,
        "{rows:#?}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_count() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let plain = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let token = setup.issuer.istio("foo", "bar");

    // A stranger's, with one of our names in it: no caller, and no hindrance to a token.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let name = rcgen::string::Ia5String::try_from(id("foo", "bar")).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(name)];
    let stranger = params.self_signed(&key).unwrap();
    let client = connect(&server, &(stranger.pem(), key.serialize_pem())).await;
    refusal(renew(&client, &csr).await, Code::Unauthenticated);
    client.istio(&token, &csr).await.unwrap();

    // Requested by an operator: its holder never had a token.
    let wished = KeyAndCsr::workload("foo", "wished");
    let answer = plain
        .sign(&setup.operator, sign_request(&wished, "workload", &[]))
        .await
        .unwrap();
    let client = connect(
        &server,
        &(Chain::own(&answer).pem(), wished.key.serialize_pem()),
    )
    .await;
    refusal(renew(&client, &wished).await, Code::Unauthenticated);

    // A name that is no SPIFFE ID.
    let dns = KeyAndCsr::new(&["web.shop.svc"]);
    let answer = plain
        .sign(&setup.operator, sign_request(&dns, "workload", &[]))
        .await
        .unwrap();
    let client = connect(
        &server,
        &(Chain::own(&answer).pem(), dns.key.serialize_pem()),
    )
    .await;
    refusal(renew(&client, &csr).await, Code::Unauthenticated);

    // One that was never released.
    let lost = certificate(&setup, &plain, "bar").await;
    let client = connect(&server, &lost).await;
    renew(&client, &csr).await.unwrap();
    sql(&setup, "DROP TRIGGER conclusion_update");
    sql(
        &setup,
        "UPDATE conclusion SET state = 3, signature = NULL, reason = 'lost'",
    );
    // What somebody changes by hand is seen with the next change of the records.
    sql(&setup, "UPDATE revision SET value = value + 1");
    refusal(renew(&client, &csr).await, Code::Unauthenticated);

    // None at all.
    refusal(renew(&plain, &csr).await, Code::Unauthenticated);
    server.stop().await;
}

/// A twin says all that the ledger knows a certificate by: names, serial number and issuer. Only its
/// bytes are not those that were recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_twin_with_the_same_serial_and_names_is_no_certificate_of_ours() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let plain = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let token = setup.issuer.istio("foo", "bar");
    let own = plain.istio(&token, &csr).await.unwrap();

    let mut params = rcgen::CertificateParams::default();
    let name = rcgen::string::Ia5String::try_from(id("foo", "bar")).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(name)];
    params.serial_number = Some(own.leaf.serial().as_bytes().to_vec().into());
    // Self-signed by a stranger's key, and by the very key that was certified.
    let stranger = rcgen::KeyPair::generate().unwrap();
    for key in [&stranger, &csr.key] {
        let twin = params.self_signed(key).unwrap();
        let parsed = Certificate::parse(twin.der().to_vec()).unwrap();
        assert_eq!(parsed.serial(), own.leaf.serial());
        assert_eq!(parsed.names(), own.leaf.names());
        let client = connect(&server, &(twin.pem(), key.serialize_pem())).await;
        refusal(renew(&client, &csr).await, Code::Unauthenticated);
        server
            .wait_for_log(&format!("does not hold {}", own.leaf.serial()))
            .await;
    }
    // The recorded one is accepted.
    let client = connect(&server, &(own.pem(), csr.key.serialize_pem())).await;
    renew(&client, &csr).await.unwrap();
    server.stop().await;
}

/// Verified at every call, also on an open connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_ends_neither_handshake_nor_token() {
    let setup = TestServer::with(&[(
        "[istio]\nprofile = \"workload\"",
        "[istio]\nprofile = \"short\"",
    )]);
    let server = setup.serve().await;
    let short = certificate(&setup, &server.client(TD).await, "bar").await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let kept = connect(&server, &short).await;
    renew(&kept, &csr).await.unwrap();
    let end = parse_pem_chain(short.0.as_bytes()).unwrap()[0].not_after();
    eventually(PATIENCE, "it has expired", async || SystemClock.now() > end).await;
    let token = setup.issuer.istio("foo", "bar");
    for client in [kept, connect(&server, &short).await] {
        refusal(renew(&client, &csr).await, Code::Unauthenticated);
        client.istio(&token, &csr).await.unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_a_retired_issuer_do_not_authenticate() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let held = certificate(&setup, &server.client(TD).await, "bar").await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let kept = connect(&server, &held).await;
    renew(&kept, &csr).await.unwrap();
    sql(
        &setup,
        "UPDATE issuer SET state = 'retired' WHERE role = 'issuing'",
    );
    sql(&setup, "UPDATE revision SET value = value + 1");
    // At once: the ledger is asked, not what the server has in memory.
    refusal(renew(&kept, &csr).await, Code::Unauthenticated);
    refusal(
        renew(&connect(&server, &held).await, &csr).await,
        Code::Unauthenticated,
    );
    server.stop().await;
}

/// Renewal by certificate ends some time after the last token, over all renewals since.
#[tokio::test(flavor = "multi_thread")]
async fn renewal_ends_without_a_token() {
    let setup = TestServer::with(&[(
        "reauthenticate_after = \"30d\"",
        "reauthenticate_after = \"2h\"",
    )]);
    let clock = FakeClock::new(&setup, "+0");
    let server = setup.start_with(clock.serve(&setup)).await;
    server.ready().await;
    let first = certificate(&setup, &server.client(TD).await, "bar").await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let kept = connect(&server, &first).await;
    clock.move_to("+1h").await;
    // The library's chains are checked against this process's clock: only the answer counts here.
    let body = || istio_request(&csr.pem, 0, &[]);
    let none = tonic::metadata::MetadataMap::new;
    let renewed = kept.create(body(), none()).await.unwrap();
    let pem = renewed.cert_chain[..renewed.cert_chain.len() - 1].concat();
    let second = (pem, csr.key.serialize_pem());
    let renewed = connect(&server, &second).await;
    renewed.create(body(), none()).await.unwrap();
    let due = "rootbridge_reauthentications_due_total{listener=\"mesh\"}";
    assert_eq!(server.metric(due).await, Some(0.0));
    // In the last quarter of the time it is said wherever somebody may look.
    clock.move_to("+95m").await;
    renewed.create(body(), none()).await.unwrap();
    assert_eq!(server.metric(due).await, Some(1.0));
    let told = format!("\"caller\":\"{}\"", id("foo", "bar"));
    let is_told = |line: &str| line.contains("must present a token again") && line.contains(&told);
    eventually(PATIENCE, "the log says so", async || {
        server.log().lines().any(is_told)
    })
    .await;
    for how in ["jwt cluster\"", "certificate "] {
        let how = format!("\"authenticated_by\":\"{how}");
        server.wait_for_log(&how).await;
    }
    let checked = clock.command(&setup, &["check", "-o", "json"]).output();
    let report: serde_json::Value = serde_json::from_slice(&checked.unwrap().stdout).unwrap();
    let mut checks = report["checks"].as_array().unwrap().iter();
    let found = checks.find(|check| check["name"] == "renewals by certificate");
    let found = found.unwrap();
    assert_eq!(found["result"], "warning", "{found}");
    let text = found["said"].as_str().unwrap();
    assert!(
        text.contains("1 caller") && text.contains(&id("foo", "bar")),
        "{text}"
    );
    clock.move_to("+121m").await;
    for client in [&kept, &renewed] {
        refusal(client.create(body(), none()).await, Code::Unauthenticated);
        client
            .create(body(), bearer(&setup.issuer.istio("foo", "bar")))
            .await
            .unwrap();
    }
    server.stop().await;
}

/// Two authorities in one server: a certificate counts in its own trust domain only, and only on
/// a listener that takes it.
#[tokio::test(flavor = "multi_thread")]
async fn each_trust_domain_for_itself() {
    let setup = TestServer::new();
    setup.init("edge.example", &[]);
    setup.edit("[jwt.people]", &format!(
        "[jwt.edge]\nissuer = \"https://edge.example\"\ntrust_domain = \"edge.example\"\n\
         subject = \"spiffe\"\naudiences = {{ istio = \"istio-ca\" }}\njwks_file = {:?}\n\n[jwt.people]",
        setup.path("jwks.json")
    ));
    setup.edit(
        "jwt = [\"cluster\", \"people\"]",
        "jwt = [\"cluster\", \"people\", \"edge\"]",
    );
    setup.edit("[listeners.mesh.tls]", &format!(
        "[listeners.both]\naddress = \"127.0.0.1:0\"\napis = [\"istio\"]\n\
         client_certificates = {{ trust_domains = [\"{TD}\", \"edge.example\"] }}\n\
         [listeners.both.tls]\ntrust_domain = \"{TD}\"\ndns = [\"localhost\"]\n\n[listeners.mesh.tls]"
    ));
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let name = "spiffe://edge.example/gateway";
    let mut claims = rootbridge_test_support::jwt::claims("x", "y", "istio-ca");
    claims["iss"] = "https://edge.example".into();
    claims["sub"] = name.into();
    let token = setup.issuer.mint(&claims);
    let csr = KeyAndCsr::new(&[name]);
    let chain = client.istio(&token, &csr).await.unwrap();
    assert!(chain.above[0].subject().contains("edge.example issuing CA"));
    let edge = (chain.pem(), csr.key.serialize_pem());
    // A token of one trust domain gets no name of another.
    refusal(
        client
            .istio(&token, &KeyAndCsr::workload("foo", "bar"))
            .await,
        Code::PermissionDenied,
    );
    let cluster = setup.issuer.istio("foo", "bar");
    refusal(client.istio(&cluster, &csr).await, Code::PermissionDenied);

    refusal(
        renew(&connect(&server, &edge).await, &csr).await,
        Code::Unauthenticated,
    );
    let roots = setup.roots(TD);
    let both = Client::connect(server.port_of("both"), &roots, Some((&edge.0, &edge.1)))
        .await
        .unwrap();
    let chain = renew(&both, &csr).await.unwrap();
    assert!(chain.above[0].subject().contains("edge.example issuing CA"));
    refusal(
        renew(&both, &KeyAndCsr::workload("foo", "bar")).await,
        Code::PermissionDenied,
    );
    server.stop().await;
}
