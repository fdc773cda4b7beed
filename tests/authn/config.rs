//! Configuration that cannot stand, and the sentence that says so.

use rootbridge::authn::{Config, RawCallers, RawConfig};

const JWT: &str = r#"[jwt.cluster]
issuer = "https://kubernetes.default.svc.cluster.local"
trust_domain = "cluster.local"
subject = "kubernetes"
audiences = { istio = "istio-ca", certificates = "rootbridge" }
jwks_file = "/etc/rootbridge/jwks.json"
refresh = "5m"
keep = "24h"

[operators.admin]
trust_domain = "cluster.local"
credential_file = "/etc/rootbridge/operator.token"
"#;

fn read(toml: &str) -> Result<Config, String> {
    let raw: RawConfig = toml::from_str(toml).map_err(|why| why.to_string())?;
    Config::try_from(raw).map_err(|why| why.to_string())
}

#[test]
fn the_example_is_valid() {
    let config = read(JWT).unwrap();
    let verifier = &config.jwt()["cluster"];
    assert_eq!(verifier.trust_domain().as_str(), "cluster.local");
    assert_eq!(verifier.leeway().as_secs(), 30);
    let least = read(&JWT.replace("refresh = \"5m\"\nkeep = \"24h\"\n", "")).unwrap();
    assert_eq!(config, least);
}

#[test]
fn what_is_invalid_is_named_by_its_key() {
    let file = "jwks_file = \"/etc/rootbridge/jwks.json\"";
    for (old, new, expected) in [
        (
            file,
            "jwks_url = \"http://a/keys\"",
            "jwt.cluster.jwks_url: must be https",
        ),
        (file, "jwks_url = \"keys\"", "jwt.cluster.jwks_url: "),
        (
            file,
            "jwks_url = \"file:///keys\"",
            "jwt.cluster.jwks_url: must be https",
        ),
        (
            file,
            "jwks_url = \"https://u:p@a/keys\"",
            "jwt.cluster.jwks_url: must hold no user name",
        ),
        (
            file,
            "jwks_url = \"https://u@a/keys\"",
            "jwt.cluster.jwks_url: must hold no user name",
        ),
        (
            file,
            "jwks_url = \"https://:p@a/keys\"",
            "jwt.cluster.jwks_url: must hold no user name",
        ),
        (
            file,
            "jwks_file = \"\"",
            "jwt.cluster.jwks_file: must name a file",
        ),
        (
            file,
            "",
            "jwt.cluster.jwks_file: one of jwks_file and jwks_url must be set",
        ),
        (
            file,
            "jwks_file = \"a\"\njwks_url = \"https://a\"",
            "jwt.cluster.jwks_url: excludes jwks_file",
        ),
        (
            file,
            "jwks_file = \"a\"\njwks_ca_file = \"b\"",
            "jwt.cluster.jwks_ca_file: is for jwks_url",
        ),
        (
            file,
            "jwks_file = \"a\"\njwks_token_file = \"b\"",
            "jwt.cluster.jwks_token_file: is for jwks_url",
        ),
        (
            file,
            "jwks_url = \"https://a\"\njwks_token_file = \"\"",
            "jwt.cluster.jwks_token_file: must name a file",
        ),
        (
            file,
            "jwks_url = \"https://a\"\njwks_ca_file = \"\"",
            "jwt.cluster.jwks_ca_file: must name a file",
        ),
        (
            "\"cluster.local\"\nsubject",
            "\"Cluster Local\"\nsubject",
            "jwt.cluster.trust_domain: ",
        ),
        (
            "issuer = \"https://kubernetes.default.svc.cluster.local\"",
            "issuer = \"\"",
            "jwt.cluster.issuer: must not be empty",
        ),
        (
            "{ istio = \"istio-ca\", certificates = \"rootbridge\" }",
            "{}",
            "jwt.cluster.audiences: must name",
        ),
        (
            "\"istio-ca\"",
            "\"\"",
            "jwt.cluster.audiences: an audience must not be empty",
        ),
        ("istio = ", "isto = ", "unknown field `isto`"),
        (
            "\"kubernetes\"",
            "\"Kubernetes\"",
            "unknown variant `Kubernetes`",
        ),
        ("refresh", "refesh", "unknown field `refesh`"),
        (
            "refresh = \"5m\"",
            "refresh = \"0s\"",
            "jwt.cluster.refresh: must be between 1 second and 1 day",
        ),
        (
            "refresh = \"5m\"",
            "refresh = \"2days\"",
            "jwt.cluster.refresh: must be between",
        ),
        ("refresh = \"5m\"", "refresh = 5", "expected a duration"),
        (
            "keep = \"24h\"",
            "keep = \"1m\"",
            "jwt.cluster.keep: must not be shorter than refresh",
        ),
        (
            "keep = \"24h\"",
            "leeway = \"1h\"",
            "jwt.cluster.leeway: must be between 0 seconds and 5 minutes",
        ),
        (
            "keep = \"24h\"",
            "cluster = \"\"",
            "jwt.cluster.cluster: must not be empty",
        ),
        ("[jwt.cluster]", "[jwt.\"a:b\"]", "jwt.a:b: a name must be"),
        (
            "[operators.admin]",
            "[operators.\"\"]",
            "operators.: a name must be",
        ),
        (
            "\"/etc/rootbridge/operator.token\"",
            "\"\"",
            "operators.admin.credential_file: must name a file",
        ),
        (
            "\"cluster.local\"\ncredential",
            "\"\"\ncredential",
            "operators.admin.trust_domain: ",
        ),
        (
            "credential_file",
            "credential",
            "unknown field `credential`",
        ),
    ] {
        assert!(JWT.contains(old), "{old}");
        let why = read(&JWT.replace(old, new)).unwrap_err();
        assert!(why.contains(expected), "{new}: {why}");
    }
}

#[test]
fn a_listener_names_what_there_is() {
    let config = read(JWT).unwrap();
    let callers = |toml: &str| {
        let raw: RawCallers = toml::from_str(toml).map_err(|why| why.to_string())?;
        config
            .callers("listeners.mesh", raw)
            .map_err(|why| why.to_string())
    };
    let all = callers(
        "jwt = [\"cluster\"]\noperators = [\"admin\"]\n\
         client_certificates = { trust_domains = [\"cluster.local\"], reauthenticate_after = \"30d\" }",
    )
    .unwrap();
    assert_eq!(
        (all.jwt(), all.operators()),
        (&["cluster".to_owned()][..], &["admin".to_owned()][..])
    );
    let certificates = all.client_certificates().unwrap();
    assert_eq!(
        certificates.reauthenticate_after().as_secs(),
        30 * 24 * 3600
    );
    assert_eq!(callers("").unwrap().client_certificates(), None);
    for (toml, expected) in [
        (
            "jwt = [\"clusters\"]",
            "listeners.mesh.jwt: there is no [jwt.clusters]",
        ),
        (
            "jwt = [\"cluster\", \"cluster\"]",
            "listeners.mesh.jwt: `cluster` and `cluster` are both for",
        ),
        (
            "operators = [\"root\"]",
            "listeners.mesh.operators: there is no [operators.root]",
        ),
        (
            "operators = [\"admin\", \"admin\"]",
            "listeners.mesh.operators: `admin` is listed twice",
        ),
        (
            "client_certificates = { trust_domains = [] }",
            "listeners.mesh.client_certificates.trust_domains: must name",
        ),
        (
            "client_certificates = { trust_domains = [\"A\"] }",
            "listeners.mesh.client_certificates.trust_domains: ",
        ),
        (
            "client_certificates = { trust_domains = [\"a\"], reauthenticate_after = \"1s\" }",
            "listeners.mesh.client_certificates.reauthenticate_after: must be between",
        ),
        (
            "client_certificates = { domains = [\"a\"] }",
            "unknown field `domains`",
        ),
    ] {
        let why = callers(toml).unwrap_err();
        assert!(why.contains(expected), "{toml}: {why}");
    }
}
