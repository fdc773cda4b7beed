//! Names, lifetimes, keys and profiles: who gets what, and the errors of the others.

use prost_types::Duration as Span;
use rootbridge::mesh::proto::rootbridge_v1::SignCertificateRequest;
use tonic::Code;

use rootbridge_test_support::chain::Chain;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::grpc::{refusal, sign_request};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

fn with_ttl(csr: &KeyAndCsr, profile: &str, seconds: i64, nanos: i32) -> SignCertificateRequest {
    SignCertificateRequest {
        ttl: Some(Span { seconds, nanos }),
        ..sign_request(csr, profile, &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lifetimes() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");

    // Istio: zero and less mean the default, as in istiod.
    let token = setup.issuer.istio("foo", "bar");
    for (asked, life) in [
        (0, 86_400),
        (-1, 86_400),
        (i64::MIN, 86_400),
        (3600, 3600),
        (90 * 86_400, 90 * 86_400),
    ] {
        let chain = client.istio_for(&token, &csr, asked).await.unwrap();
        assert_eq!(chain.lifetime(), life + 120, "asked for {asked}");
    }
    for asked in [90 * 86_400 + 1, i64::MAX] {
        refusal(
            client.istio_for(&token, &csr, asked).await,
            Code::InvalidArgument,
        );
    }
    // Shorter than twice the backdating: who renews at the middle of such a life never rests.
    let message = refusal(
        client.istio_for(&token, &csr, 239).await,
        Code::InvalidArgument,
    );
    assert!(
        message.contains("less than twice the backdating"),
        "{message}"
    );
    client.istio_for(&token, &csr, 240).await.unwrap();

    // Our own: absent and zero are the default; the profile's limit holds.
    let operator = &setup.operator;
    for (body, life) in [
        (sign_request(&csr, "short", &[]), 11),
        (with_ttl(&csr, "short", 0, 0), 11),
        (with_ttl(&csr, "short", 60, 0), 61),
        (with_ttl(&csr, "short", 60, 999_999_999), 61),
        (with_ttl(&csr, "short", 3600, 0), 3601),
    ] {
        let answer = client.sign(operator, body).await.unwrap();
        assert_eq!(Chain::own(&answer).lifetime(), life);
    }
    for (seconds, nanos) in [
        (3600, 1),
        (3601, 0),
        (i64::MAX, 0),
        (-1, 0),
        (0, -1),
        (1, 0),
        (0, 1),
        (i64::MIN, i32::MIN),
    ] {
        let answer = client
            .sign(operator, with_ttl(&csr, "short", seconds, nanos))
            .await;
        refusal(answer, Code::InvalidArgument);
    }
    server.stop().await;
}

/// An issuer that ends soon: leaves end with it, and none that would be renewed without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_end_with_their_issuer() {
    let setup = TestServer::bare();
    setup.init(TD, &["--root-ttl", "2h", "--issuing-ttl", "5m"]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let token = setup.issuer.istio("foo", "bar");
    let chain = client.istio(&token, &csr).await.unwrap();
    assert_eq!(chain.leaf.not_after(), chain.above[0].not_after());
    assert!(chain.leaf.not_before() >= chain.above[0].not_before());
    server.stop().await;

    let setup = TestServer::bare();
    setup.init(TD, &["--root-ttl", "2h", "--issuing-ttl", "3m"]);
    setup.edit(
        "[profiles.gold]",
        "[profiles.serving]\ndefault_ttl = \"20s\"\nbackdate = \"1s\"\n\n[profiles.gold]",
    );
    // Readiness says it before a request meets it.
    let server = setup.start().await;
    server.wait_for_log("certificate issued").await;
    let (status, said) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(said.contains("about to: renew it"), "{said}");
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let message = refusal(client.istio(&token, &csr).await, Code::Unavailable);
    assert!(message.contains("about to expire"), "{message}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_by_field_and_by_csr_get_the_same_answer() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let workload = setup.issuer.own("foo", "bar");
    let person = setup.issuer.person("alice");
    let own = id("foo", "bar");
    let foreign = "spiffe://other.example/ns/foo/sa/bar";
    let ok = |names: &[&str]| {
        Ok(names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>())
    };
    let no = Err(Code::PermissionDenied);
    for (token, profile, name, expected) in [
        (&setup.operator, "workload", own.as_str(), ok(&[&own])),
        (
            &setup.operator,
            "workload",
            "dns:web.shop.svc",
            ok(&["dns:web.shop.svc"]),
        ),
        (
            &setup.operator,
            "workload",
            "dns:a.web.shop.svc",
            no.clone(),
        ),
        (&setup.operator, "workload", "dns:shop.svc", no.clone()),
        (&setup.operator, "workload", foreign, no.clone()),
        (&setup.operator, "gold", own.as_str(), no.clone()),
        (&setup.operator, "serving", "dns:localhost", no.clone()),
        (
            &setup.operator,
            "unheard-of",
            own.as_str(),
            Err(Code::InvalidArgument),
        ),
        (&workload, "workload", own.as_str(), ok(&[&own])),
        (&workload, "gold", own.as_str(), ok(&[&own])),
        (&workload, "", own.as_str(), ok(&[&own])),
        (&workload, "ignore", own.as_str(), no.clone()),
        (&workload, "workload", &id("foo", "other"), no.clone()),
        (&workload, "workload", "dns:web.shop.svc", no.clone()),
        (&workload, "workload", foreign, no.clone()),
        (&person, "workload", own.as_str(), no.clone()),
        (&person, "workload", "dns:web.shop.svc", no.clone()),
    ] {
        let in_csr = name.strip_prefix("dns:").unwrap_or(name);
        for (how, csr, field) in [
            ("field", KeyAndCsr::new(&[]), vec![name]),
            ("CSR", KeyAndCsr::new(&[in_csr]), vec![]),
            ("both", KeyAndCsr::new(&[in_csr]), vec![name]),
        ] {
            let answer = client
                .sign(token, sign_request(&csr, profile, &field))
                .await;
            let got = answer.as_ref().map(|answer| Chain::own(answer).names());
            match &expected {
                Ok(names) => assert_eq!(got.unwrap(), *names, "{name} by {how}"),
                Err(code) => {
                    let message = refusal(answer, *code);
                    assert!(
                        !message.contains("spiffe://") && !message.contains("shop"),
                        "{message}"
                    );
                }
            }
        }
    }
    // No name at all is the caller's own, where it has one.
    let csr = KeyAndCsr::new(&[]);
    let answer = client
        .sign(&workload, sign_request(&csr, "workload", &[]))
        .await
        .unwrap();
    assert_eq!(Chain::own(&answer).names(), [own.as_str()]);
    refusal(
        client
            .sign(&setup.operator, sign_request(&csr, "workload", &[]))
            .await,
        Code::InvalidArgument,
    );
    refusal(
        client
            .sign(&person, sign_request(&csr, "workload", &[]))
            .await,
        Code::InvalidArgument,
    );

    // Several names, each by rule; one that is not allowed spoils all.
    let good = [own.as_str(), "dns:web.shop.svc", "ip:10.0.0.1"];
    let answer = client
        .sign(&setup.operator, sign_request(&csr, "workload", &good))
        .await
        .unwrap();
    assert_eq!(Chain::own(&answer).names(), good);
    let bad = [own.as_str(), "dns:web.shop.svc", "ip:10.0.0.2"];
    refusal(
        client
            .sign(&setup.operator, sign_request(&csr, "workload", &bad))
            .await,
        Code::PermissionDenied,
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csr_that_names_another() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let (own, other) = (id("foo", "bar"), id("foo", "other"));
    let csr = KeyAndCsr::new(&[&other]);
    let istio = setup.issuer.istio("foo", "bar");

    let message = refusal(client.istio(&istio, &csr).await, Code::PermissionDenied);
    assert!(!message.contains("spiffe://"), "{message}");
    refusal(
        client.istio(&istio, &KeyAndCsr::new(&[&own, &other])).await,
        Code::PermissionDenied,
    );
    refusal(
        client
            .istio(&istio, &KeyAndCsr::new(&[&own, "web.shop.svc"]))
            .await,
        Code::PermissionDenied,
    );
    let both = sign_request(&csr, "workload", &[&own]);
    refusal(
        client.sign(&setup.operator, both).await,
        Code::PermissionDenied,
    );
    // A profile that ignores the CSR's names certifies what was asked for, and nothing of the CSR.
    let ignored = sign_request(&csr, "ignore", &[&own]);
    let answer = client.sign(&setup.operator, ignored).await.unwrap();
    assert_eq!(Chain::own(&answer).names(), [own.as_str()]);
    refusal(
        client
            .sign(&setup.operator, sign_request(&csr, "ignore", &[]))
            .await,
        Code::InvalidArgument,
    );
    server.stop().await;

    let setup = TestServer::with(&[(
        "[istio]\nprofile = \"workload\"",
        "[istio]\nprofile = \"ignore\"",
    )]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let chain = client
        .istio(&setup.issuer.istio("foo", "bar"), &csr)
        .await
        .unwrap();
    assert_eq!(chain.names(), [own.as_str()]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_bad_requests_say_what_is_wrong() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let body = |der: Vec<u8>| SignCertificateRequest {
        csr: der,
        ..sign_request(&csr, "workload", &[])
    };
    let operator = &setup.operator;
    for der in [
        Vec::new(),
        b"-----BEGIN".to_vec(),
        b"nonsense".to_vec(),
        [csr.der.as_slice(), b"\0"].concat(),
        csr.der[..csr.der.len() - 1].to_vec(),
        vec![0x30; 20_000],
        {
            let mut broken = csr.der.clone();
            *broken.last_mut().unwrap() ^= 1;
            broken
        },
    ] {
        let message = refusal(
            client.sign(operator, body(der)).await,
            Code::InvalidArgument,
        );
        assert!(message.starts_with("csr: "), "{message}");
    }
    for names in [
        &["nonsense"][..],
        &["spiffe://a,b/ns"],
        &["dns:a b"],
        &["ip:1"],
        &["uri:x"],
    ] {
        let message = refusal(
            client
                .sign(operator, sign_request(&csr, "workload", names))
                .await,
            Code::InvalidArgument,
        );
        assert!(message.starts_with("names: "), "{message}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("dns:n{n}.shop.svc")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for count in [9, 64, 65] {
        let body = sign_request(&KeyAndCsr::new(&[]), "workload", &many[..count]);
        refusal(client.sign(operator, body).await, Code::InvalidArgument);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_cas_and_of_the_server_are_refused() {
    let setup = TestServer::new();
    // A listener with its certificate from files, whose key the test has as well.
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(setup.path("tls.crt"), own.pem()).unwrap();
    std::fs::write(setup.path("tls.key"), key.serialize_pem()).unwrap();
    setup.edit("[admin]", &format!(
        "[listeners.files]\naddress = \"127.0.0.1:0\"\napis = [\"bundles\"]\n[listeners.files.tls]\n\
         certificate_file = {:?}\nkey_file = {:?}\n\n[admin]",
        setup.path("tls.crt"), setup.path("tls.key")
    ));
    // And an anchor whose key the test has.
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    root.distinguished_name
        .push(rcgen::DnType::CommonName, "foreign");
    std::fs::write(
        setup.path("foreign.pem"),
        root.self_signed(&root_key).unwrap().pem(),
    )
    .unwrap();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let name = id("foo", "bar");
    let with = |key| KeyAndCsr::with(key, &[&name], rcgen::DistinguishedName::new());

    let message = refusal(
        client.istio(&token, &with(key)).await,
        Code::InvalidArgument,
    );
    assert!(
        message.contains("this key cannot be certified"),
        "{message}"
    );
    let file = setup.path("foreign.pem");
    let csr = with(root_key);
    client.istio(&token, &csr).await.unwrap();
    setup.cli(&[
        "anchors",
        "add",
        file.to_str().unwrap(),
        "--trust-domain",
        TD,
        "--source",
        "other mesh",
    ]);
    eventually(PATIENCE, "the anchor's key is refused", async || {
        client.istio(&token, &csr).await.is_err()
    })
    .await;
    refusal(client.istio(&token, &csr).await, Code::InvalidArgument);
    server.stop().await;
}
