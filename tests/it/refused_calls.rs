//! The codes that Istio's client gets for refused calls, which are part of the contract.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::istio::{DAY, good, now};
use rootbridge_test_support::TestServer;
use rootbridge_test_support::jwk::JwtKey;
use rootbridge_test_support::jwt::{TokenIssuer, claims};

use crate::support::interop::{Call, calls};
use crate::support::ledger;

#[tokio::test]
async fn what_is_refused_and_how() {
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    let token = |name: &str, change: &dyn Fn(&mut Value)| -> PathBuf {
        let mut claims = claims("foo", "bar", "istio-ca");
        change(&mut claims);
        setup.issuer.file(name, &setup.issuer.mint(&claims))
    };
    let tokens: Vec<(&str, PathBuf)> = vec![
        ("no token", PathBuf::new()),
        ("garbage", setup.issuer.file("garbage", "garbage")),
        (
            "expired",
            token("expired", &|claims| claims["exp"] = json!(now() - 3600)),
        ),
        (
            "not yet",
            token("not-yet", &|claims| claims["nbf"] = json!(now() + 3600)),
        ),
        (
            "no expiry",
            token("no-exp", &|claims| {
                drop(claims.as_object_mut().unwrap().remove("exp"))
            }),
        ),
        (
            "wrong audience",
            token("aud", &|claims| claims["aud"] = json!(["rootbridge"])),
        ),
        (
            "unknown issuer",
            token("iss", &|claims| {
                claims["iss"] = json!("https://evil.example")
            }),
        ),
        (
            "short subject",
            token("sub", &|claims| {
                claims["sub"] = json!("system:serviceaccount")
            }),
        ),
        (
            "wild subject",
            token("wild", &|claims| {
                claims["sub"] = json!("system:serviceaccount:*:bar")
            }),
        ),
        ("another key", {
            let other = TokenIssuer::new(JwtKey::rsa("one"), &setup.path("other-issuer"));
            setup.issuer.file("foreign", &other.istio("foo", "bar"))
        }),
    ];
    let mut list: Vec<(Call, &str)> = tokens
        .into_iter()
        .map(|(name, token_file)| {
            (
                Call {
                    token_file,
                    ..good(&setup, name)
                },
                "Unauthenticated",
            )
        })
        .collect();

    let fields = [(
        "ImpersonatedIdentity",
        "spiffe://cluster.local/ns/other/sa/victim",
    )];
    let bearer =
        std::fs::read_to_string(setup.issuer.token_file("foo", "bar", "istio-ca")).unwrap();
    let raw = Call {
        client: "raw".to_owned(),
        headers: [("authorization".to_owned(), format!("Bearer {bearer}"))].into(),
        ..good(&setup, "by the stub")
    };
    let impersonation = Call {
        name: "impersonation".to_owned(),
        fields: fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..raw.clone()
    };
    list.push((raw.clone(), "OK"));
    list.push((impersonation, "Unauthenticated"));
    let basic = [("authorization".to_owned(), "Basic Zm9vOmJhcg==".to_owned())];
    list.push((
        Call {
            name: "basic".to_owned(),
            headers: basic.into(),
            ..raw
        },
        "Unauthenticated",
    ));

    list.push((
        Call {
            ttl: 91 * DAY,
            ..good(&setup, "too long")
        },
        "InvalidArgument",
    ));
    list.push((
        Call {
            ttl: i64::MAX,
            ..good(&setup, "far too long")
        },
        "InvalidArgument",
    ));
    list.push((
        Call {
            csr: "garbage".to_owned(),
            ..good(&setup, "no CSR")
        },
        "InvalidArgument",
    ));
    list.push((
        Call {
            signer: "nobody".to_owned(),
            ..good(&setup, "signer")
        },
        "InvalidArgument",
    ));
    let (calls_made, codes): (Vec<Call>, Vec<&str>) = list.into_iter().unzip();
    let answers = calls(&setup, &calls_made);
    let got: Vec<String> = answers
        .iter()
        .map(|a| format!("{}: {} {}", a.name, a.code, a.problem))
        .collect();
    let want: Vec<String> = answers
        .iter()
        .zip(&codes)
        .map(|(a, code)| format!("{}: {code} ", a.name))
        .collect();
    assert_eq!(got, want, "{answers:#?}");

    // A name that is not the caller's: refused, whatever the code, and nothing is signed.
    let foreign = [
        "spiffe://cluster.local/ns/foo/sa/evil",
        "spiffe://evil.example/ns/foo/sa/bar",
        "spiffe://cluster.local/ns/foo/sa/bar,spiffe://cluster.local/ns/foo/sa/evil",
    ];
    let before = issued(&setup);
    for identity in foreign {
        let call = Call {
            identity: identity.to_owned(),
            ..good(&setup, identity)
        };
        let answer = &calls(&setup, &[call])[0];
        assert!(
            ["PermissionDenied", "InvalidArgument"].contains(&answer.code.as_str()),
            "{answer:?}"
        );
        assert!(
            !answer.message.contains(&bearer),
            "the token came back: {answer:?}"
        );
    }
    assert_eq!(issued(&setup), before);
}

fn issued(setup: &TestServer) -> Value {
    ledger::verify(setup, &[])["counts"].clone()
}
