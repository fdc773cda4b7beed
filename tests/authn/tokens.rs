//! One token at a time: what is accepted, and everything else.

use rootbridge::authn::{Api, AuthnError, Identity, MAX_TOKEN_BYTES, Method, Pod, bearer};
use rootbridge::clock::UnixTime;
use serde_json::{Value, json};

use crate::support::{Fixture, ISSUER, NOW, RSA, SUB, b64, claims, claims_with};

#[tokio::test]
async fn a_service_account_becomes_a_workload_with_its_pod_and_node() {
    let fixture = Fixture::with(&[&RSA], "cluster = \"east\"");
    let caller = fixture.authenticate(&RSA.token(&claims())).await.unwrap();
    assert_eq!(caller.trust_domain.as_str(), "cluster.local");
    assert_eq!(
        caller.identity.to_string(),
        "spiffe://cluster.local/ns/foo/sa/bar"
    );
    assert_eq!(caller.cluster.as_deref(), Some("east"));
    assert_eq!(caller.node.as_deref(), Some("node-1"));
    assert_eq!(
        caller.token_authenticated_at,
        Some(UnixTime::from_secs(NOW))
    );
    let pod = Pod {
        name: "bar-6d4cf56db6-x2x4k".to_owned(),
        uid: "1b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e".to_owned(),
        namespace: "foo".to_owned(),
    };
    assert_eq!(caller.pod, Some(pod));
    let method = Method::Jwt {
        verifier: "cluster".to_owned(),
        issuer: ISSUER.to_owned(),
        key_id: Some("rsa-1".to_owned()),
    };
    assert_eq!(caller.method, method);
}

#[tokio::test]
async fn times_are_the_clocks_with_thirty_seconds_to_spare() {
    let fixture = Fixture::new(&[&RSA]);
    for (claim, at, accepted) in [
        ("exp", NOW - 29, true),
        ("exp", NOW - 30, false),
        ("exp", 0, false),
        ("exp", i64::MIN, false),
        ("exp", i64::MAX, false),
        ("nbf", NOW + 30, true),
        ("nbf", NOW + 31, false),
        ("nbf", i64::MAX, false),
        ("nbf", i64::MIN, false),
        ("iat", NOW + 30, true),
        ("iat", NOW + 31, false),
        ("iat", i64::MAX, false),
    ] {
        let token = RSA.token(&claims_with(claim, json!(at)));
        assert_eq!(
            fixture.authenticate(&token).await.is_ok(),
            accepted,
            "{claim} {at}"
        );
    }
    let token = RSA.token(&claims());
    assert!(fixture.authenticate(&token).await.is_ok());
    fixture.clock.set(UnixTime::from_secs(NOW + 630));
    assert!(fixture.rejects(&token).await.contains("expired"));
    fixture.clock.set(UnixTime::from_secs(NOW - 41));
    assert!(fixture.rejects(&token).await.contains("not valid before"));
}

#[tokio::test]
async fn each_api_has_its_audience() {
    let fixture = Fixture::new(&[&RSA]);
    let ask = async |aud: Value, api| {
        let token = RSA.token(&claims_with("aud", aud));
        fixture
            .verifiers
            .authenticate(&token, api, &fixture.allowed)
            .await
    };
    for (aud, istio, certificates) in [
        (json!("istio-ca"), true, false),
        (json!(["istio-ca"]), true, false),
        (json!(["a", "rootbridge", "istio-ca"]), true, true),
        (json!("rootbridge"), false, true),
        (json!("istio-ca,rootbridge"), false, false),
        (json!("istio-ca rootbridge"), false, false),
        (json!("Istio-CA"), false, false),
        (json!("istio-ca\0"), false, false),
        (json!("*"), false, false),
        (json!(""), false, false),
        (json!([]), false, false),
    ] {
        assert_eq!(ask(aud.clone(), Api::Istio).await.is_ok(), istio, "{aud}");
        assert_eq!(
            ask(aud.clone(), Api::Certificates).await.is_ok(),
            certificates,
            "{aud}"
        );
        // No audience is configured for this one, so no token will do.
        let admin = ask(aud, Api::Admin).await;
        assert!(matches!(admin, Err(AuthnError::Rejected { .. })));
    }
    // What it is for is said, escaped and cut, and a few of many.
    let long = "x".repeat(100);
    let refused = ask(json!(["a\n", long, "b", "c", "d"]), Api::Istio).await;
    let text = refused.unwrap_err().to_string();
    let cut = "x".repeat(64);
    let says = format!(
        "not for the audience istio-ca, which the API istio requires; it is for \"a\\n\", \"{cut}…\", \"b\" and 2 more"
    );
    assert!(text.ends_with(&says), "{text}");
    let refused = ask(json!([]), Api::Istio).await.unwrap_err().to_string();
    assert!(refused.ends_with("it is for none"), "{refused}");
}

#[tokio::test]
async fn odd_shapes_are_clean_rejections() {
    let fixture = Fixture::new(&[&RSA]);
    let token = RSA.token(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let json_of = |text: &str| format!("{header}.{}.{signature}", b64(text.as_bytes()));
    let odd = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b.c".to_owned(),
        token.replace('.', ""),
        format!("{token}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}.{signature}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}==.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.+/{signature}"),
        format!("{header} .{payload}.{signature}"),
        format!("\u{feff}{token}"),
        format!("{token}\n"),
        json_of(""),
        json_of("null"),
        json_of("true"),
        json_of("17"),
        json_of("\"a string that is the payload\""),
        json_of("[]"),
        json_of("{"),
        json_of("{}"),
        json_of("{}{}"),
        json_of("{\"iss\":"),
        json_of("{\"iss\":\"\\ud800\"}"),
        format!("{header}.{}.{signature}", b64(&[0xff, 0xfe, 0x00])),
        format!("{}.{payload}.{signature}", b64(b"[\"RS256\"]")),
    ];
    for each in odd {
        fixture.rejects(&each).await;
    }
    // Arrays would fill a struct by position.
    let in_order = json!([ISSUER, SUB, "istio-ca", NOW + 600]).to_string();
    fixture
        .rejects(&RSA.token_of(r#"{"alg":"RS256","kid":"rsa-1"}"#, &in_order))
        .await;
    // A duplicate claim: which one counts would depend on the reader.
    for name in ["iss", "sub", "aud", "exp"] {
        let text = claims().to_string();
        let doubled = format!("{{\"{name}\":{},{}", claims()[name], &text[1..]);
        let reason = fixture
            .rejects(&RSA.token_of(r#"{"alg":"RS256","kid":"rsa-1"}"#, &doubled))
            .await;
        assert!(reason.contains("duplicate"), "{reason}");
    }
}

#[tokio::test]
async fn size_is_checked_before_anything() {
    let fixture = Fixture::new(&[&RSA]);
    let fitting = |filler: usize| RSA.token(&claims_with("filler", json!("x".repeat(filler))));
    let overhead = fitting(0).len();
    let mut filler = (MAX_TOKEN_BYTES - overhead) * 3 / 4;
    while fitting(filler).len() > MAX_TOKEN_BYTES {
        filler -= 1;
    }
    assert!(fixture.authenticate(&fitting(filler)).await.is_ok());
    assert!(
        fixture
            .rejects(&fitting(filler + 4))
            .await
            .contains("bytes")
    );
    for (length, says) in [
        (MAX_TOKEN_BYTES, "three parts"),
        (MAX_TOKEN_BYTES + 1, "bytes"),
    ] {
        let reason = fixture.rejects(&"x".repeat(length)).await;
        assert!(reason.contains(says), "{reason}");
    }
    assert!(
        fixture
            .rejects(&"x".repeat(100_000_000))
            .await
            .contains("bytes")
    );
}

#[tokio::test]
async fn nested_json_is_no_bomb() {
    let fixture = Fixture::new(&[&RSA]);
    for depth in [100, 127, 128, 129, 1_000, 5_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let bomb = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            if bomb.len() > 9_000 {
                continue;
            }
            let header = r#"{"alg":"RS256","kid":"rsa-1"}"#;
            let payload = claims().to_string();
            let prefix = |name: &str| format!("{{\"{name}\":{bomb},{}", &payload[1..]);
            // Where it is ignored it may pass; where it means something it may not.
            let _ = fixture
                .authenticate(&RSA.token_of(header, &prefix("unknown")))
                .await;
            for name in ["aud", "iss", "exp", "kubernetes.io"] {
                fixture.rejects(&RSA.token_of(header, &prefix(name))).await;
            }
            fixture.rejects(&RSA.token_of(header, &bomb)).await;
            fixture.rejects(&RSA.token_of(&bomb, &payload)).await;
            let header = format!("{{\"crit\":{bomb},{}", &header[1..]);
            fixture.rejects(&RSA.token_of(&header, &payload)).await;
        }
    }
}

#[tokio::test]
async fn subjects_have_one_form() {
    let fixture = Fixture::new(&[&RSA]);
    for sub in [
        "system:serviceaccount",
        "system:serviceaccount:",
        "system:serviceaccount::",
        "system:serviceaccount:foo",
        "system:serviceaccount:foo:",
        "system:serviceaccount::bar",
        "system:serviceaccount:foo:bar:baz",
        "system:serviceaccount:foo/x:bar",
        "system:serviceaccount:foo:bar/../admin",
        "system:serviceaccount:*:*",
        "system:serviceaccount:foo:b,spiffe://evil.example/x",
        "system:serviceaccount:foo:b\0",
        "system:serviceaccount:Foo:bar",
        "system:serviceaccount:foo:bar+",
        "system:node:node-1",
        "spiffe://cluster.local/ns/foo/sa/bar",
        "",
    ] {
        let mut claims = claims_with("sub", json!(sub));
        claims.as_object_mut().unwrap().remove("kubernetes.io");
        fixture.rejects(&RSA.token(&claims)).await;
    }

    let fixture = Fixture::with(&[&RSA], "subject = \"spiffe\"");
    for (sub, accepted) in [
        ("spiffe://cluster.local/vm/1", true),
        ("spiffe://evil.example/vm/1", false),
        ("spiffe://cluster.local.evil.example/vm/1", false),
        ("spiffe://cluster.local", false),
        ("spiffe://cluster.local/", false),
        ("spiffe://a,evil.example,b/ns/x/sa/y", false),
        ("SPIFFE://cluster.local/vm/1", false),
        ("system:serviceaccount:foo:bar", false),
    ] {
        let token = RSA.token(&claims_with("sub", json!(sub)));
        assert_eq!(
            fixture.authenticate(&token).await.is_ok(),
            accepted,
            "{sub}"
        );
    }
    // What Kubernetes binds to is believed of Kubernetes only.
    let token = RSA.token(&claims_with("sub", json!("spiffe://cluster.local/vm/1")));
    assert_eq!(fixture.authenticate(&token).await.unwrap().pod, None);

    let fixture = Fixture::with(&[&RSA], "subject = \"opaque\"");
    let long = "x".repeat(256);
    for (sub, accepted) in [
        ("repo:org/name:environment:prod east", true),
        ("spiffe://cluster.local/ns/foo/sa/bar", true),
        ("", false),
        (" x", false),
        ("x\n", false),
        ("x\0", false),
        ("é", false),
        (&long, false),
    ] {
        let token = RSA.token(&claims_with("sub", json!(sub)));
        match fixture.authenticate(&token).await {
            Ok(caller) => {
                assert!(accepted, "{sub}");
                assert_eq!(caller.identity, Identity::Subject(format!("cluster:{sub}")));
                assert_eq!(
                    caller.identity.to_string(),
                    format!("subject:cluster:{sub}")
                );
            }
            Err(_) => assert!(!accepted, "{sub}"),
        }
    }
}

#[tokio::test]
async fn what_a_token_is_bound_to_agrees_with_whose_it_is() {
    let fixture = Fixture::new(&[&RSA]);
    for (path, value) in [
        ("/kubernetes.io/namespace", "other"),
        ("/kubernetes.io/serviceaccount/name", "other"),
        ("/kubernetes.io/pod/name", ""),
        ("/kubernetes.io/pod/uid", "a b"),
        ("/kubernetes.io/pod/uid", "a\nb"),
        ("/kubernetes.io/node/name", "\0"),
    ] {
        let mut claims = claims();
        *claims.pointer_mut(path).unwrap() = json!(value);
        fixture.rejects(&RSA.token(&claims)).await;
    }
    let mut unbound = claims();
    unbound.as_object_mut().unwrap().remove("kubernetes.io");
    let caller = fixture.authenticate(&RSA.token(&unbound)).await.unwrap();
    assert_eq!((caller.pod, caller.node), (None, None));
}

#[test]
fn a_bearer_header_holds_one_token() {
    assert_eq!(bearer("Bearer abc").unwrap(), "abc");
    assert_eq!(bearer("bearer  abc ").unwrap(), "abc");
    assert_eq!(bearer(""), Err(AuthnError::Missing));
    for odd in [
        "abc",
        "Basic abc",
        "Bearer",
        "Bearer a b",
        "Bearer a,b",
        "Bearerabc",
        "Bearer a, Bearer b",
    ] {
        assert!(
            matches!(bearer(odd), Err(AuthnError::Rejected { .. })),
            "{odd}"
        );
    }
}
