//! Which keys and algorithms verify a token, and which never do.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::KeyPair as _;
use rootbridge::authn::AuthnError;
use serde_json::json;

use crate::support::{Fixture, JwtKey, Kind, OTHER_RSA, RSA, b64, claims, claims_with, jwks};

#[tokio::test]
async fn every_allowed_algorithm_verifies_what_another_library_signed() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

    let (p256, p384, ed) = (
        JwtKey::p256("p256"),
        JwtKey::p384("p384"),
        JwtKey::ed25519("ed"),
    );
    let fixture = Fixture::new(&[&RSA, &p256, &p384, &ed]);
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
        assert!(fixture.authenticate(&token).await.is_ok(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn no_algorithm_but_the_keys_own_is_taken() {
    let p256 = JwtKey::p256("p256");
    let mut rs256_only = OTHER_RSA.jwk();
    rs256_only["alg"] = json!("RS256");
    let set = json!({ "keys": [
        RSA.jwk(), p256.jwk(), rs256_only,
        { "kty": "oct", "kid": "shared", "k": b64(b"a secret that all know") },
    ]});
    let fixture = Fixture::new(&[&RSA]);
    std::fs::write(fixture.path("jwks.json"), set.to_string()).unwrap();
    assert!(fixture.authenticate(&p256.token(&claims())).await.is_ok());
    assert!(
        fixture
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
        let reason = fixture.rejects(&signed).await;
        assert!(reason.contains("algorithm"), "{reason}");
        // And without any signature.
        let bare = signed.rsplit_once('.').unwrap().0;
        fixture.rejects(&format!("{bare}.")).await;
        fixture.rejects(bare).await;
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
            fixture
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
        let reason = fixture.rejects(&token).await;
        assert!(reason.contains("not one that the key is for"), "{reason}");
    }
    let header = json!({ "alg": "PS256", "kid": OTHER_RSA.kid }).to_string();
    let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
    fixture
        .rejects(&format!(
            "{signed}.{}",
            b64(&OTHER_RSA.sign_pss(signed.as_bytes()))
        ))
        .await;
}

#[tokio::test]
async fn a_signature_is_the_named_keys_over_exactly_these_bytes() {
    let fixture = Fixture::new(&[&RSA]);
    let token = RSA.token(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = claims_with("sub", json!("system:serviceaccount:foo:admin")).to_string();
    let (header, _) = signed.split_once('.').unwrap();
    let swapped = format!("{header}.{}.{signature}", b64(other.as_bytes()));
    assert!(
        fixture
            .rejects(&swapped)
            .await
            .contains("signature is wrong")
    );
    fixture
        .rejects(&format!("{signed}.{}", &signature[..signature.len() - 4]))
        .await;
    fixture
        .rejects(&format!("{signed}.{signature}{signature}"))
        .await;
    fixture
        .rejects(&format!("{signed}.{}", b64(&[0; 256])))
        .await;

    // A stranger's key under the issuer's kid, and under his own.
    let header = json!({ "alg": "RS256", "kid": "rsa-1" }).to_string();
    fixture
        .rejects(&OTHER_RSA.token_of(&header, &claims().to_string()))
        .await;
    let reason = fixture.rejects(&OTHER_RSA.token(&claims())).await;
    assert!(reason.contains("no key \"rsa-2\""), "{reason}");
    // A key that the token itself brings does not count.
    let header = json!({ "alg": "RS256", "jwk": OTHER_RSA.jwk(), "jku": "https://evil.example" });
    fixture
        .rejects(&OTHER_RSA.token_of(&header.to_string(), &claims().to_string()))
        .await;
}

#[tokio::test]
async fn a_key_without_an_id_counts_only_alone() {
    let nameless = |key: &JwtKey| {
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
        let fixture = Fixture::new(&[&RSA]);
        std::fs::write(
            fixture.path("jwks.json"),
            json!({ "keys": keys }).to_string(),
        )
        .unwrap();
        assert_eq!(
            fixture.authenticate(&without_kid).await.is_ok(),
            bare,
            "{keys}"
        );
        assert_eq!(
            fixture.authenticate(&with_kid).await.is_ok(),
            named,
            "{keys}"
        );
    }
}

#[tokio::test]
async fn doubled_ids_hide_no_key() {
    let mut twin = OTHER_RSA.jwk();
    twin["kid"] = json!("rsa-1");
    let mut ec = JwtKey::p256("rsa-1");
    ec.kid = "rsa-1".to_owned();
    let fixture = Fixture::new(&[&RSA]);
    let set = json!({ "keys": [twin, RSA.jwk(), ec.jwk()] });
    std::fs::write(fixture.path("jwks.json"), set.to_string()).unwrap();
    assert!(fixture.authenticate(&RSA.token(&claims())).await.is_ok());
    assert!(fixture.authenticate(&ec.token(&claims())).await.is_ok());
    let header = r#"{"alg":"RS256","kid":"rsa-1"}"#;
    assert!(
        fixture
            .authenticate(&OTHER_RSA.token_of(header, &claims().to_string()))
            .await
            .is_ok()
    );
    let stranger = JwtKey::p256("rsa-1");
    assert!(
        fixture
            .rejects(&stranger.token(&claims()))
            .await
            .contains("signature is wrong")
    );
}

#[tokio::test]
async fn keys_of_other_purposes_do_not_verify() {
    // One bit short of 2048, in as many bytes.
    let short = b64(&[&[0x7f; 1][..], &[0xff; 255]].concat());
    for (name, value) in [
        ("n", json!(short)),
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
        let fixture = Fixture::new(&[&RSA]);
        std::fs::write(
            fixture.path("jwks.json"),
            json!({ "keys": [jwk, OTHER_RSA.jwk()] }).to_string(),
        )
        .unwrap();
        fixture.rejects(&RSA.token(&claims())).await;
        assert!(
            fixture
                .authenticate(&OTHER_RSA.token(&claims()))
                .await
                .is_ok(),
            "{name} {value}"
        );
        // An exponent is tried at the first signature only.
        let (_, report) = fixture.verifiers.reports().next().unwrap();
        assert!(report.keys == 1 || name == "e", "{name} {value}");
    }
    // Points that are not on their curve, and an alien curve.
    let mut off = JwtKey::p256("p").jwk();
    off["y"] = off["x"].clone();
    let mut short = JwtKey::p256("p").jwk();
    short["x"] = json!("AQAB");
    let mut alien = JwtKey::p256("p").jwk();
    alien["crv"] = json!("secp256k1");
    for jwk in [off, short, alien] {
        let fixture = Fixture::new(&[&RSA]);
        std::fs::write(
            fixture.path("jwks.json"),
            json!({ "keys": [jwk, RSA.jwk()] }).to_string(),
        )
        .unwrap();
        assert!(fixture.authenticate(&RSA.token(&claims())).await.is_ok());
        let (_, report) = fixture.verifiers.reports().next().unwrap();
        assert_eq!(report.keys, 1);
    }
}

#[tokio::test]
async fn a_set_without_keys_makes_verification_unavailable() {
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
        let fixture = Fixture::new(&[&RSA]);
        std::fs::write(fixture.path("jwks.json"), content).unwrap();
        let answer = fixture.authenticate(&RSA.token(&claims())).await;
        let Err(AuthnError::Unavailable(why)) = answer else {
            panic!("{content}: {answer:?}")
        };
        assert!(
            why.contains("cluster") && why.contains("jwks.json"),
            "{why}"
        );
    }
}
