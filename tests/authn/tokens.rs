//! One token at a time: what is accepted, and everything else.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::KeyPair as _;
use rootbridge::authn::{Api, AuthnError, Identity, MAX_TOKEN_BYTES, Method, Pod, bearer};
use rootbridge::clock::UnixTime;
use serde_json::{Value, json};

use crate::support::{
    ISSUER, Key, Kind, NOW, OTHER_RSA, RSA, SUB, World, b64, claims, claims_with, jwks,
};

#[tokio::test]
async fn a_service_account_becomes_a_workload_with_its_pod_and_node() {
    let world = World::with(&[&RSA], "cluster = \"east\"");
    let caller = world.authenticate(&RSA.token(&claims())).await.unwrap();
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
async fn every_allowed_algorithm_verifies_what_another_library_signed() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

    let (p256, p384, ed) = (Key::p256("p256"), Key::p384("p384"), Key::ed25519("ed"));
    let world = World::new(&[&RSA, &p256, &p384, &ed]);
    // PKCS#1 is what PKCS#8 wraps in 26 bytes, for this size of key.
    let rsa = EncodingKey::from_rsa_der(&RSA.pkcs8()[26..]);
    let keys = [
        (&*RSA, Algorithm::RS256, rsa.clone()),
        (&RSA, Algorithm::RS384, rsa.clone()),
        (&RSA, Algorithm::RS512, rsa.clone()),
        (&RSA, Algorithm::PS256, rsa.clone()),
        (&RSA, Algorithm::PS384, rsa.clone()),
        (&RSA, Algorithm::PS512, rsa),
        (
            &p256,
            Algorithm::ES256,
            EncodingKey::from_ec_der(&p256.pkcs8()),
        ),
        (
            &p384,
            Algorithm::ES384,
            EncodingKey::from_ec_der(&p384.pkcs8()),
        ),
        (&ed, Algorithm::EdDSA, EncodingKey::from_ed_der(&ed.pkcs8())),
    ];
    for (key, algorithm, private) in keys {
        let header = Header {
            kid: Some(key.kid.clone()),
            ..Header::new(algorithm)
        };
        let token = encode(&header, &claims(), &private).unwrap();
        assert!(world.authenticate(&token).await.is_ok(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn no_algorithm_but_the_keys_own_is_taken() {
    let p256 = Key::p256("p256");
    let mut rs256_only = OTHER_RSA.jwk();
    rs256_only["alg"] = json!("RS256");
    let set = json!({ "keys": [
        RSA.jwk(), p256.jwk(), rs256_only,
        { "kty": "oct", "kid": "shared", "k": b64(b"a secret that all know") },
    ]});
    let world = World::new(&[&RSA]);
    std::fs::write(world.path("jwks.json"), set.to_string()).unwrap();
    assert!(world.authenticate(&p256.token(&claims())).await.is_ok());
    assert!(
        world
            .authenticate(&OTHER_RSA.token(&claims()))
            .await
            .is_ok()
    );

    let payload = claims().to_string();
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS257", "rs256", "ES256K",
        "ES512",
    ] {
        let header = json!({ "alg": alg, "kid": "rsa-1" }).to_string();
        let signed = RSA.token_of(&header, &payload);
        let reason = world.rejects(&signed).await;
        assert!(reason.contains("algorithm"), "{reason}");
        // And without any signature.
        let bare = signed.rsplit_once('.').unwrap().0;
        world.rejects(&format!("{bare}.")).await;
        world.rejects(bare).await;
    }

    // HMAC keyed with what is public, and with the symmetrical key of the set.
    let Kind::Rsa(pair) = &RSA.kind else {
        unreachable!()
    };
    let modulus = pair
        .public_key()
        .modulus()
        .big_endian_without_leading_zero()
        .to_vec();
    let n = RSA.jwk()["n"].as_str().unwrap().as_bytes().to_vec();
    for (kid, secret) in [
        ("rsa-1", modulus),
        ("rsa-1", n),
        ("shared", b"a secret that all know".to_vec()),
    ] {
        for alg in ["HS256", "RS256"] {
            let header = json!({ "alg": alg, "kid": kid }).to_string();
            let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
            let tag = hmac::sign(
                &hmac::Key::new(hmac::HMAC_SHA256, &secret),
                signed.as_bytes(),
            );
            world
                .rejects(&format!("{signed}.{}", b64(tag.as_ref())))
                .await;
        }
    }

    // Another key's kind, and a key that says what it is for.
    for (alg, kid) in [
        ("ES256", "rsa-1"),
        ("EdDSA", "rsa-1"),
        ("RS256", "p256"),
        ("ES384", "p256"),
    ] {
        let token = RSA.token_of(&json!({ "alg": alg, "kid": kid }).to_string(), &payload);
        let reason = world.rejects(&token).await;
        assert!(reason.contains("not one that the key is for"), "{reason}");
    }
    let header = json!({ "alg": "PS256", "kid": OTHER_RSA.kid }).to_string();
    let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
    world
        .rejects(&format!(
            "{signed}.{}",
            b64(&OTHER_RSA.sign_pss(signed.as_bytes()))
        ))
        .await;
}

#[tokio::test]
async fn a_signature_is_the_named_keys_over_exactly_these_bytes() {
    let world = World::new(&[&RSA]);
    let token = RSA.token(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = claims_with("sub", json!("system:serviceaccount:foo:admin")).to_string();
    let (header, _) = signed.split_once('.').unwrap();
    let swapped = format!("{header}.{}.{signature}", b64(other.as_bytes()));
    assert!(world.rejects(&swapped).await.contains("signature is wrong"));
    world
        .rejects(&format!("{signed}.{}", &signature[..signature.len() - 4]))
        .await;
    world
        .rejects(&format!("{signed}.{signature}{signature}"))
        .await;
    world.rejects(&format!("{signed}.{}", b64(&[0; 256]))).await;

    // A stranger's key under the issuer's kid, and under his own.
    let header = json!({ "alg": "RS256", "kid": "rsa-1" }).to_string();
    world
        .rejects(&OTHER_RSA.token_of(&header, &claims().to_string()))
        .await;
    let reason = world.rejects(&OTHER_RSA.token(&claims())).await;
    assert!(reason.contains("no key \"rsa-2\""), "{reason}");
    // A key that the token itself brings does not count.
    let header = json!({ "alg": "RS256", "jwk": OTHER_RSA.jwk(), "jku": "https://evil.example" });
    world
        .rejects(&OTHER_RSA.token_of(&header.to_string(), &claims().to_string()))
        .await;
}

#[tokio::test]
async fn times_are_the_clocks_with_thirty_seconds_to_spare() {
    let world = World::new(&[&RSA]);
    for (claim, at, accepted) in [
        ("exp", NOW - 29, true),
        ("exp", NOW - 30, false),
        ("exp", 0, false),
        ("exp", i64::MIN, false),
        ("exp", i64::MAX, true),
        ("nbf", NOW + 30, true),
        ("nbf", NOW + 31, false),
        ("nbf", i64::MAX, false),
        ("nbf", i64::MIN, true),
        ("iat", NOW + 30, true),
        ("iat", NOW + 31, false),
        ("iat", i64::MAX, false),
    ] {
        let token = RSA.token(&claims_with(claim, json!(at)));
        assert_eq!(
            world.authenticate(&token).await.is_ok(),
            accepted,
            "{claim} {at}"
        );
    }
    let token = RSA.token(&claims());
    assert!(world.authenticate(&token).await.is_ok());
    world.clock.set(UnixTime::from_secs(NOW + 630));
    assert!(world.rejects(&token).await.contains("expired"));
    world.clock.set(UnixTime::from_secs(NOW - 41));
    assert!(world.rejects(&token).await.contains("not valid before"));
}

#[tokio::test]
async fn each_api_has_its_audience() {
    let world = World::new(&[&RSA]);
    let ask = async |aud: Value, api| {
        let token = RSA.token(&claims_with("aud", aud));
        world
            .verifiers
            .authenticate(&token, api, &world.allowed)
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
}

#[tokio::test]
async fn odd_shapes_are_clean_rejections() {
    let world = World::new(&[&RSA]);
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
        world.rejects(&each).await;
    }
    // Arrays would fill a struct by position.
    let in_order = json!([ISSUER, SUB, "istio-ca", NOW + 600]).to_string();
    world
        .rejects(&RSA.token_of(r#"{"alg":"RS256","kid":"rsa-1"}"#, &in_order))
        .await;
    // A claim that stands twice: which one counts would depend on the reader.
    for name in ["iss", "sub", "aud", "exp"] {
        let text = claims().to_string();
        let doubled = format!("{{\"{name}\":{},{}", claims()[name], &text[1..]);
        let reason = world
            .rejects(&RSA.token_of(r#"{"alg":"RS256","kid":"rsa-1"}"#, &doubled))
            .await;
        assert!(reason.contains("duplicate"), "{reason}");
    }
}

#[tokio::test]
async fn size_is_checked_before_anything() {
    let world = World::new(&[&RSA]);
    let fitting = |filler: usize| RSA.token(&claims_with("filler", json!("x".repeat(filler))));
    let overhead = fitting(0).len();
    let mut filler = (MAX_TOKEN_BYTES - overhead) * 3 / 4;
    while fitting(filler).len() > MAX_TOKEN_BYTES {
        filler -= 1;
    }
    assert!(world.authenticate(&fitting(filler)).await.is_ok());
    assert!(world.rejects(&fitting(filler + 4)).await.contains("bytes"));
    assert!(
        world
            .rejects(&"x".repeat(100_000_000))
            .await
            .contains("bytes")
    );
}

#[tokio::test]
async fn nested_json_is_no_bomb() {
    let world = World::new(&[&RSA]);
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
            let _ = world
                .authenticate(&RSA.token_of(header, &prefix("unknown")))
                .await;
            for name in ["aud", "iss", "exp", "kubernetes.io"] {
                world.rejects(&RSA.token_of(header, &prefix(name))).await;
            }
            world.rejects(&RSA.token_of(header, &bomb)).await;
            world.rejects(&RSA.token_of(&bomb, &payload)).await;
            let header = format!("{{\"crit\":{bomb},{}", &header[1..]);
            world.rejects(&RSA.token_of(&header, &payload)).await;
        }
    }
}

#[tokio::test]
async fn subjects_have_one_form() {
    let world = World::new(&[&RSA]);
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
        world.rejects(&RSA.token(&claims)).await;
    }

    let world = World::with(&[&RSA], "subject = \"spiffe\"");
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
        assert_eq!(world.authenticate(&token).await.is_ok(), accepted, "{sub}");
    }
    // What Kubernetes binds to is believed of Kubernetes only.
    let token = RSA.token(&claims_with("sub", json!("spiffe://cluster.local/vm/1")));
    assert_eq!(world.authenticate(&token).await.unwrap().pod, None);

    let world = World::with(&[&RSA], "subject = \"opaque\"");
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
        match world.authenticate(&token).await {
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
    let world = World::new(&[&RSA]);
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
        world.rejects(&RSA.token(&claims)).await;
    }
    let mut unbound = claims();
    unbound.as_object_mut().unwrap().remove("kubernetes.io");
    let caller = world.authenticate(&RSA.token(&unbound)).await.unwrap();
    assert_eq!((caller.pod, caller.node), (None, None));
}

#[tokio::test]
async fn keys_without_ids_count_only_when_there_is_no_choice() {
    let nameless = |key: &Key| {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("kid");
        jwk
    };
    let without_kid = RSA.token_of(r#"{"alg":"RS256"}"#, &claims().to_string());
    let with_kid = RSA.token(&claims());
    for (keys, bare, named) in [
        (json!([nameless(&RSA)]), true, true),
        (json!([RSA.jwk()]), true, true),
        (json!([nameless(&RSA), OTHER_RSA.jwk()]), false, false),
        (json!([nameless(&RSA), nameless(&OTHER_RSA)]), false, false),
        (json!([RSA.jwk(), OTHER_RSA.jwk()]), false, true),
        // What cannot verify is no choice.
        (
            json!([nameless(&RSA), { "kty": "oct", "k": "AAAA" }]),
            true,
            true,
        ),
    ] {
        let world = World::new(&[&RSA]);
        std::fs::write(world.path("jwks.json"), json!({ "keys": keys }).to_string()).unwrap();
        assert_eq!(
            world.authenticate(&without_kid).await.is_ok(),
            bare,
            "{keys}"
        );
        assert_eq!(world.authenticate(&with_kid).await.is_ok(), named, "{keys}");
    }
}

#[tokio::test]
async fn doubled_ids_hide_no_key() {
    let mut twin = OTHER_RSA.jwk();
    twin["kid"] = json!("rsa-1");
    let mut ec = Key::p256("rsa-1");
    ec.kid = "rsa-1".to_owned();
    let world = World::new(&[&RSA]);
    let set = json!({ "keys": [twin, RSA.jwk(), ec.jwk()] });
    std::fs::write(world.path("jwks.json"), set.to_string()).unwrap();
    assert!(world.authenticate(&RSA.token(&claims())).await.is_ok());
    assert!(world.authenticate(&ec.token(&claims())).await.is_ok());
    let header = r#"{"alg":"RS256","kid":"rsa-1"}"#;
    assert!(
        world
            .authenticate(&OTHER_RSA.token_of(header, &claims().to_string()))
            .await
            .is_ok()
    );
    let stranger = Key::p256("rsa-1");
    assert!(
        world
            .rejects(&stranger.token(&claims()))
            .await
            .contains("signature is wrong")
    );
}

#[tokio::test]
async fn keys_of_other_purposes_do_not_verify() {
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!("SIG")),
        ("use", json!(1)),
        ("key_ops", json!(["encrypt"])),
        ("key_ops", json!([])),
        ("alg", json!("HS256")),
        ("alg", json!("none")),
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("ES256")),
        ("kty", json!("oct")),
        ("kty", json!("EC")),
        ("n", json!("AQAB")),
        ("n", json!("not base64!")),
        ("n", json!(null)),
        ("e", json!("")),
        ("e", json!("AA")),
        ("e", json!("AQ")),
        ("e", json!("Ag")),
        ("kid", json!(7)),
    ] {
        let mut jwk = RSA.jwk();
        jwk[name] = value.clone();
        let world = World::new(&[&RSA]);
        std::fs::write(
            world.path("jwks.json"),
            json!({ "keys": [jwk, OTHER_RSA.jwk()] }).to_string(),
        )
        .unwrap();
        world.rejects(&RSA.token(&claims())).await;
        assert!(
            world
                .authenticate(&OTHER_RSA.token(&claims()))
                .await
                .is_ok(),
            "{name} {value}"
        );
    }
    // Points that are not on their curve, and an alien curve.
    let mut off = Key::p256("p").jwk();
    off["y"] = off["x"].clone();
    let mut short = Key::p256("p").jwk();
    short["x"] = json!("AQAB");
    let mut alien = Key::p256("p").jwk();
    alien["crv"] = json!("secp256k1");
    for jwk in [off, short, alien] {
        let world = World::new(&[&RSA]);
        std::fs::write(
            world.path("jwks.json"),
            json!({ "keys": [jwk, RSA.jwk()] }).to_string(),
        )
        .unwrap();
        assert!(world.authenticate(&RSA.token(&claims())).await.is_ok());
        let (_, report) = world.verifiers.reports().next().unwrap();
        assert_eq!(report.keys, 1);
    }
}

#[tokio::test]
async fn a_set_without_keys_leaves_no_telling() {
    for content in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"keys":[]}"#,
        r#"{"keys":null}"#,
        r#"{"keys":{}}"#,
        r#"{"keys":[null,1,"x",[],{}]}"#,
        "-----BEGIN CERTIFICATE-----",
        &jwks(&[&RSA])[..40],
    ] {
        let world = World::new(&[&RSA]);
        std::fs::write(world.path("jwks.json"), content).unwrap();
        let answer = world.authenticate(&RSA.token(&claims())).await;
        let Err(AuthnError::CannotTell(why)) = answer else {
            panic!("{content}: {answer:?}")
        };
        assert!(
            why.contains("cluster") && why.contains("jwks.json"),
            "{why}"
        );
    }
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
