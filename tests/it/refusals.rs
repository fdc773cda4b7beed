//! What Istio's client is told when it gets nothing: the codes are part of the contract.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::istio::{DAY, good, now};
use crate::support::interop::{Call, calls};
use crate::support::jwt::Issuer;
use crate::support::mesh::Mesh;

#[test]
fn what_is_refused_and_how() {
    let mesh = Mesh::new();
    let _server = mesh.serve();
    let token = |name: &str, change: &dyn Fn(&mut Value)| -> PathBuf {
        let mut claims = Issuer::claims("foo", "bar", "istio-ca");
        change(&mut claims);
        mesh.issuer.file(name, &mesh.issuer.sign(&claims))
    };
    let tokens: Vec<(&str, PathBuf)> = vec![
        ("no token", PathBuf::new()),
        ("garbage", mesh.issuer.file("garbage", "garbage")),
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
            let other = Issuer::new(&mesh.path("other-issuer"));
            mesh.issuer.file(
                "foreign",
                &other.sign(&Issuer::claims("foo", "bar", "istio-ca")),
            )
        }),
    ];
    let mut list: Vec<(Call, &str)> = tokens
        .into_iter()
        .map(|(name, token_file)| {
            (
                Call {
                    token_file,
                    ..good(&mesh, name)
                },
                "Unauthenticated",
            )
        })
        .collect();

    let fields = [(
        "ImpersonatedIdentity",
        "spiffe://cluster.local/ns/other/sa/victim",
    )];
    let bearer = std::fs::read_to_string(mesh.issuer.token_file("foo", "bar", "istio-ca")).unwrap();
    let raw = Call {
        client: "raw".to_owned(),
        headers: [("authorization".to_owned(), format!("Bearer {bearer}"))].into(),
        ..good(&mesh, "by the stub")
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
            ..good(&mesh, "too long")
        },
        "InvalidArgument",
    ));
    list.push((
        Call {
            ttl: i64::MAX,
            ..good(&mesh, "far too long")
        },
        "InvalidArgument",
    ));
    list.push((
        Call {
            csr: "garbage".to_owned(),
            ..good(&mesh, "no CSR")
        },
        "InvalidArgument",
    ));
    list.push((
        Call {
            signer: "nobody".to_owned(),
            ..good(&mesh, "signer")
        },
        "InvalidArgument",
    ));
    let (calls_made, codes): (Vec<Call>, Vec<&str>) = list.into_iter().unzip();
    let answers = calls(&mesh, &calls_made);
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
    let before = issued(&mesh);
    for identity in foreign {
        let call = Call {
            identity: identity.to_owned(),
            ..good(&mesh, identity)
        };
        let answer = &calls(&mesh, &[call])[0];
        assert!(
            ["PermissionDenied", "InvalidArgument"].contains(&answer.code.as_str()),
            "{answer:?}"
        );
        assert!(
            !answer.message.contains(&bearer),
            "the token came back: {answer:?}"
        );
    }
    assert_eq!(issued(&mesh), before);
}

fn issued(mesh: &Mesh) -> Value {
    mesh.judge_ledger(&[])["counts"].clone()
}
