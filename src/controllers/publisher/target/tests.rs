#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

fn read(text: &str) -> Result<Vec<TargetConfig>, ConfigIssues> {
    targets(toml::from_str(text).unwrap())
}

#[test]
fn presets_match_what_the_meshes_expect() {
    let text = "[a]\ntrust_domain = 'td'\nclusters = ['east']\npreset = 'istio'\n\
                [b]\ntrust_domain = 'td'\nclusters = ['east']\npreset = 'linkerd'\n";
    let all = read(text).unwrap();
    let labels =
        |name: &str| BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
    assert_eq!(all[0].described(), "ConfigMap istio-ca-root-cert");
    assert_eq!(all[0].labels()["istio.io/config"], "true");
    assert!(all[0].selects(&labels("any")));
    assert_eq!(all[1].described(), "ConfigMap linkerd-identity-trust-roots");
    assert!(!all[0].holds_linkerd_roots() && all[1].holds_linkerd_roots());
    assert!(all[1].selects(&labels("linkerd")) && !all[1].selects(&labels("any")));
    for (target, expected) in all.iter().zip(["root-cert.pem", "ca-bundle.crt"]) {
        assert!(matches!(target.kind(), TargetKind::ConfigMap { key, .. } if key == expected));
    }
}

#[test]
fn each_invalid_value_is_named() {
    let bundle = "kind = 'cluster-trust-bundle'\n";
    for (rest, key) in [
        ("", "name"),
        ("name = 'x'", "key"),
        ("name = 'X'\nkey = 'k'", "name"),
        ("name = 'x'\nkey = '../k'", "key"),
        ("name = 'x'\nkey = 'k'\nnamespaces = 'a in b'", "namespaces"),
        ("name = 'x'\nkey = 'k'\nlabels = { '-' = 'b' }", "labels"),
        (
            "name = 'x'\nkey = 'k'\nsigner_name = 'a.b/c'",
            "signer_name",
        ),
        ("name = 'x'\nkey = 'k'\npassword = 'changeit'", "password"),
        (
            "name = 'x'\nkey = 'k'\nformat = 'pkcs12'\npassword = 'short'",
            "password",
        ),
        (
            "name = 'x'\nkey = 'k'\nformat = 'jks'\npassword = 'änderung'",
            "password",
        ),
        (&format!("{bundle}name = 'a:b'"), "name"),
        (
            &format!("{bundle}name = 'x'\nsigner_name = 'a.b/c'"),
            "name",
        ),
        (
            &format!("{bundle}name = 'a.b:c:'\nsigner_name = 'a.b/c'"),
            "name",
        ),
        (
            &format!("{bundle}name = 'a:c:x'\nsigner_name = 'a'"),
            "signer_name",
        ),
        (&format!("{bundle}name = 'x'\nkey = 'k'"), "key"),
    ] {
        let text = format!("[t]\ntrust_domain = 'td'\nclusters = ['c']\n{rest}\n");
        let error = read(&text).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("bundle_targets.t.{key}: ")),
            "{rest}: {error}"
        );
    }
    let text = format!(
        "[t]\ntrust_domain = 'td'\nclusters = ['c']\n{bundle}\
         name = 'a.b:c:x'\nsigner_name = 'a.b/c'\n"
    );
    assert_eq!(
        read(&text).unwrap()[0].described(),
        "ClusterTrustBundle a.b:c:x"
    );
}

#[test]
fn two_targets_cannot_write_one_object() {
    let one = |name: &str, cluster: &str| {
        format!("[{name}]\ntrust_domain = 'td'\nclusters = ['{cluster}']\npreset = 'istio'\n")
    };
    assert!(read(&(one("a", "east") + &one("b", "west"))).is_ok());
    let error = read(&(one("a", "east") + &one("b", "east"))).unwrap_err();
    assert!(
        error.to_string().starts_with("bundle_targets.b.name: "),
        "{error}"
    );
}
