//! Which keys and algorithms verify a token, and which never do.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::KeyPair as _;
use rootbridge::authn::AuthnError;
use serde_json::json;

use crate::support::{Key, Kind, OTHER_RSA, RSA, World, b64, claims, claims_with, jwks};

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
        let Err(AuthnError::Unavailable(why)) = answer else {
            panic!("{content}: {answer:?}")
        };
        assert!(
            why.contains("cluster") && why.contains("jwks.json"),
            "{why}"
        );
    }
}
