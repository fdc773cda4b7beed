//! Who gets what: names, lifetimes, keys, profiles, and what is said to those who do not.

use prost_types::Duration as Span;
use rootbridge::mesh::proto::rootbridge_v1::SignCertificateRequest;
use tonic::Code;

use crate::support::calls::{told, wish};
use crate::support::chain::Chain;
use crate::support::request::{Request, id};
use crate::support::{Line, PATIENCE, TD, eventually};

fn with_ttl(csr: &Request, profile: &str, seconds: i64, nanos: i32) -> SignCertificateRequest {
    SignCertificateRequest {
        ttl: Some(Span { seconds, nanos }),
        ..wish(csr, profile, &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lifetimes() {
    let line = Line::new();
    let server = line.serve().await;
    let client = server.client(TD).await;
    let csr = Request::workload("foo", "bar");

    // Istio: nought and less are the default, as istiod has it.
    let token = line.issuer.istio("foo", "bar");
    for (asked, life) in [
        (0, 86_400),
        (-1, 86_400),
        (i64::MIN, 86_400),
        (3600, 3600),
        (90 * 86_400, 90 * 86_400),
    ] {
        let chain = client.istio_for(&token, &csr, asked).await.unwrap();
        assert_eq!(chain.life(), life + 120, "asked for {asked}");
    }
    for asked in [90 * 86_400 + 1, i64::MAX] {
        told(
            client.istio_for(&token, &csr, asked).await,
            Code::InvalidArgument,
        );
    }
    // Shorter than twice the backdating: who renews at the middle of such a life never rests.
    let said = told(
        client.istio_for(&token, &csr, 239).await,
        Code::InvalidArgument,
    );
    assert!(said.contains("less than twice the backdating"), "{said}");
    client.istio_for(&token, &csr, 240).await.unwrap();

    // Our own: absent and zero are the default; the profile's limit holds.
    let operator = &line.operator;
    for (body, life) in [
        (wish(&csr, "short", &[]), 11),
        (with_ttl(&csr, "short", 0, 0), 11),
        (with_ttl(&csr, "short", 60, 0), 61),
        (with_ttl(&csr, "short", 60, 999_999_999), 61),
        (with_ttl(&csr, "short", 3600, 0), 3601),
    ] {
        let answer = client.sign(operator, body).await.unwrap();
        assert_eq!(Chain::own(&answer).life(), life);
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
        told(answer, Code::InvalidArgument);
    }
    server.stop().await;
}

/// An issuer that ends soon: leaves end with it, and none that would be renewed without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_end_with_their_issuer() {
    let line = Line::bare();
    line.init(TD, &["--root-ttl", "2h", "--issuing-ttl", "5m"]);
    let server = line.serve().await;
    let client = server.client(TD).await;
    let csr = Request::workload("foo", "bar");
    let token = line.issuer.istio("foo", "bar");
    let chain = client.istio(&token, &csr).await.unwrap();
    assert_eq!(chain.leaf.not_after(), chain.above[0].not_after());
    assert!(chain.leaf.not_before() >= chain.above[0].not_before());
    server.stop().await;

    let line = Line::bare();
    line.init(TD, &["--root-ttl", "2h", "--issuing-ttl", "3m"]);
    line.edit(
        "[profiles.gold]",
        "[profiles.serving]\ndefault_ttl = \"20s\"\nbackdate = \"1s\"\n\n[profiles.gold]",
    );
    let server = line.serve().await;
    let client = server.client(TD).await;
    let token = line.issuer.istio("foo", "bar");
    let said = told(client.istio(&token, &csr).await, Code::Unavailable);
    assert!(said.contains("about to expire"), "{said}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_by_field_and_by_csr_get_the_same_answer() {
    let line = Line::new();
    let server = line.serve().await;
    let client = server.client(TD).await;
    let workload = line.issuer.own("foo", "bar");
    let person = line.issuer.person("alice");
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
        (&line.operator, "workload", own.as_str(), ok(&[&own])),
        (
            &line.operator,
            "workload",
            "dns:web.shop.svc",
            ok(&["dns:web.shop.svc"]),
        ),
        (&line.operator, "workload", "dns:a.web.shop.svc", no.clone()),
        (&line.operator, "workload", "dns:shop.svc", no.clone()),
        (&line.operator, "workload", foreign, no.clone()),
        (&line.operator, "gold", own.as_str(), no.clone()),
        (&line.operator, "serving", "dns:localhost", no.clone()),
        (
            &line.operator,
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
            ("field", Request::new(&[]), vec![name]),
            ("CSR", Request::new(&[in_csr]), vec![]),
            ("both", Request::new(&[in_csr]), vec![name]),
        ] {
            let answer = client.sign(token, wish(&csr, profile, &field)).await;
            let got = answer.as_ref().map(|answer| Chain::own(answer).names());
            match &expected {
                Ok(names) => assert_eq!(got.unwrap(), *names, "{name} by {how}"),
                Err(code) => {
                    let said = told(answer, *code);
                    assert!(
                        !said.contains("spiffe://") && !said.contains("shop"),
                        "{said}"
                    );
                }
            }
        }
    }
    // No name at all is the caller's own, where it has one.
    let csr = Request::new(&[]);
    let answer = client
        .sign(&workload, wish(&csr, "workload", &[]))
        .await
        .unwrap();
    assert_eq!(Chain::own(&answer).names(), [own.as_str()]);
    told(
        client
            .sign(&line.operator, wish(&csr, "workload", &[]))
            .await,
        Code::InvalidArgument,
    );
    told(
        client.sign(&person, wish(&csr, "workload", &[])).await,
        Code::InvalidArgument,
    );

    // Several names, each by rule; one that is not allowed spoils all.
    let good = [own.as_str(), "dns:web.shop.svc", "ip:10.0.0.1"];
    let answer = client
        .sign(&line.operator, wish(&csr, "workload", &good))
        .await
        .unwrap();
    assert_eq!(Chain::own(&answer).names(), good);
    let bad = [own.as_str(), "dns:web.shop.svc", "ip:10.0.0.2"];
    told(
        client
            .sign(&line.operator, wish(&csr, "workload", &bad))
            .await,
        Code::PermissionDenied,
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csr_that_names_another() {
    let line = Line::new();
    let server = line.serve().await;
    let client = server.client(TD).await;
    let (own, other) = (id("foo", "bar"), id("foo", "other"));
    let csr = Request::new(&[&other]);
    let istio = line.issuer.istio("foo", "bar");

    let said = told(client.istio(&istio, &csr).await, Code::PermissionDenied);
    assert!(!said.contains("spiffe://"), "{said}");
    told(
        client.istio(&istio, &Request::new(&[&own, &other])).await,
        Code::PermissionDenied,
    );
    told(
        client
            .istio(&istio, &Request::new(&[&own, "web.shop.svc"]))
            .await,
        Code::PermissionDenied,
    );
    let both = wish(&csr, "workload", &[&own]);
    told(
        client.sign(&line.operator, both).await,
        Code::PermissionDenied,
    );
    // A profile that ignores the CSR's names certifies what was asked for, and nothing of the CSR.
    let ignored = wish(&csr, "ignore", &[&own]);
    let answer = client.sign(&line.operator, ignored).await.unwrap();
    assert_eq!(Chain::own(&answer).names(), [own.as_str()]);
    told(
        client.sign(&line.operator, wish(&csr, "ignore", &[])).await,
        Code::InvalidArgument,
    );
    server.stop().await;

    let line = Line::with(&[(
        "[istio]\nprofile = \"workload\"",
        "[istio]\nprofile = \"ignore\"",
    )]);
    let server = line.serve().await;
    let client = server.client(TD).await;
    let chain = client
        .istio(&line.issuer.istio("foo", "bar"), &csr)
        .await
        .unwrap();
    assert_eq!(chain.names(), [own.as_str()]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let line = Line::new();
    let server = line.serve().await;
    let client = server.client(TD).await;
    let csr = Request::workload("foo", "bar");
    let body = |der: Vec<u8>| SignCertificateRequest {
        csr: der,
        ..wish(&csr, "workload", &[])
    };
    let operator = &line.operator;
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
        let said = told(
            client.sign(operator, body(der)).await,
            Code::InvalidArgument,
        );
        assert!(said.starts_with("csr: "), "{said}");
    }
    for names in [
        &["nonsense"][..],
        &["spiffe://a,b/ns"],
        &["dns:a b"],
        &["ip:1"],
        &["uri:x"],
    ] {
        let said = told(
            client.sign(operator, wish(&csr, "workload", names)).await,
            Code::InvalidArgument,
        );
        assert!(said.starts_with("names: "), "{said}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("dns:n{n}.shop.svc")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for count in [9, 64, 65] {
        let body = wish(&Request::new(&[]), "workload", &many[..count]);
        told(client.sign(operator, body).await, Code::InvalidArgument);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_cas_and_of_the_server_are_refused() {
    let line = Line::new();
    // A listener with its certificate from files, whose key the test has as well.
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(line.path("tls.crt"), own.pem()).unwrap();
    std::fs::write(line.path("tls.key"), key.serialize_pem()).unwrap();
    line.edit("[admin]", &format!(
        "[listeners.files]\naddress = \"127.0.0.1:0\"\napis = [\"bundles\"]\n[listeners.files.tls]\n\
         certificate_file = {:?}\nkey_file = {:?}\n\n[admin]",
        line.path("tls.crt"), line.path("tls.key")
    ));
    // And an anchor whose key the test has.
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    root.distinguished_name
        .push(rcgen::DnType::CommonName, "foreign");
    std::fs::write(
        line.path("foreign.pem"),
        root.self_signed(&root_key).unwrap().pem(),
    )
    .unwrap();
    let server = line.serve().await;
    let client = server.client(TD).await;
    let token = line.issuer.istio("foo", "bar");
    let name = id("foo", "bar");
    let with = |key| Request::with(key, &[&name], rcgen::DistinguishedName::new());

    let said = told(
        client.istio(&token, &with(key)).await,
        Code::InvalidArgument,
    );
    assert!(said.contains("this key cannot be certified"), "{said}");
    let file = line.path("foreign.pem");
    let csr = with(root_key);
    client.istio(&token, &csr).await.unwrap();
    line.cli(&[
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
    told(client.istio(&token, &csr).await, Code::InvalidArgument);
    server.stop().await;
}
