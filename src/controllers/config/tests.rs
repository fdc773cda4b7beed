#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

fn read(text: &str) -> Result<Config, ConfigIssues> {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        csr_signers: BTreeMap<String, RawCsrSigner>,
        #[serde(default)]
        pod_signers: BTreeMap<String, RawPodSigner>,
        #[serde(default)]
        istiod_tls: BTreeMap<String, RawIstiodTls>,
        #[serde(default)]
        linkerd_issuers: BTreeMap<String, RawLinkerdIssuer>,
    }
    let file: File = toml::from_str(text).unwrap();
    RawConfig {
        csr_signers: file.csr_signers,
        pod_signers: file.pod_signers,
        istiod_tls: file.istiod_tls,
        linkerd_issuers: file.linkerd_issuers,
    }
    .try_into()
}

const CSR: &str = "[csr_signers.a]\nsigner_name = 'd.example/mesh'\nclusters = ['east']\n\
                   profile = 'workload'\nrequesters = ['istio-system/istiod']\n";

#[test]
fn valid_sections_are_accepted() {
    let config = read(&format!(
        "{CSR}[pod_signers.p]\nsigner_name = 'd.example/pod'\nclusters = ['east']\n\
         profile = 'workload'\ndns_names = ['{{account}}.{{namespace}}.svc']\n\
         [istiod_tls.i]\ncluster = 'east'\nrevision = '1-28'\n"
    ))
    .unwrap();
    let account = Account::of_user("system:serviceaccount:istio-system:istiod").unwrap();
    assert!(config.csr_signers[0].requesters.contains(&account));
    let name = config.pod_signers[0].dns_names[0]
        .fill("shop", "web")
        .unwrap();
    assert_eq!(name.as_str(), "web.shop.svc");
    let names = config.istiod_tls[0].names(&TrustDomain::parse("td").unwrap());
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "dns:istiod.istio-system.svc",
            "dns:istiod-1-28.istio-system.svc",
            "spiffe://td/ns/istio-system/sa/istiod-service-account"
        ]
    );
}

#[test]
fn a_linkerd_issuer_has_defaults() {
    let config = read("[linkerd_issuers.main]\ncluster = 'east'\n").unwrap();
    let issuer = &config.linkerd_issuers()[0];
    let name = |td: &str| issuer.dns_name(&TrustDomain::parse(td).unwrap());
    let found = name("cluster.local").unwrap();
    assert_eq!(found.as_str(), "identity.linkerd.cluster.local");
    assert_eq!(issuer.lifetime(), Duration::from_secs(48 * 3600));
    assert_eq!(issuer.acceptance_timeout(), Duration::from_secs(300));
    let (_, namespace, secret) = issuer.secret_key();
    assert_eq!(
        (&namespace[..], &secret[..]),
        ("linkerd", "linkerd-identity-issuer")
    );
    // A trust domain may contain characters that no DNS name has.
    assert_eq!(name("a_b"), None);
}

#[test]
fn each_invalid_value_is_named() {
    for (from, to, key) in [
        ("d.example/mesh", "mesh", "csr_signers.a.signer_name"),
        ("d.example/mesh", "D/mesh", "csr_signers.a.signer_name"),
        (
            "d.example/mesh",
            "d.example/a/b",
            "csr_signers.a.signer_name",
        ),
        (
            "d.example/mesh",
            "kubernetes.io/x",
            "csr_signers.a.signer_name",
        ),
        ("['east']", "[]", "csr_signers.a.clusters"),
        ("['east']", "['east', 'east']", "csr_signers.a.signer_name"),
        ("['istio-system/istiod']", "[]", "csr_signers.a.requesters"),
        ("istio-system/istiod", "istiod", "csr_signers.a.requesters"),
        ("istio-system/istiod", "a/b/c", "csr_signers.a.requesters"),
        ("csr_signers.a]", "csr_signers.A]", "csr_signers.A"),
    ] {
        let error = read(&CSR.replace(from, to)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{to}: {error}");
    }
    let pod = "[pod_signers.p]\nsigner_name = 'd/p'\nclusters = ['c']\nprofile = 'w'\n";
    for template in ["{pod}.svc", "*.svc", "{account}..svc", ""] {
        let error = read(&format!("{pod}dns_names = ['{template}']")).unwrap_err();
        assert!(error.to_string().starts_with("pod_signers.p.dns_names: "));
    }
    for (line, key) in [
        ("namespace = 'A'", "namespace"),
        ("revision = 'a.b'", "revision"),
        ("secret = 'a/b'", "secret"),
    ] {
        let error = read(&format!("[istiod_tls.i]\ncluster = 'c'\n{line}")).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with(&format!("istiod_tls.i.{key}: ")),
            "{error}"
        );
    }
    for (line, key) in [
        ("control_namespace = 'a.b'", "control_namespace"),
        ("secret = 'A'", "secret"),
        ("lifetime = '59m'", "lifetime"),
        ("lifetime = '31d'", "lifetime"),
        ("acceptance_timeout = '4s'", "acceptance_timeout"),
        ("acceptance_timeout = '2h'", "acceptance_timeout"),
    ] {
        let error = read(&format!("[linkerd_issuers.i]\ncluster = 'c'\n{line}")).unwrap_err();
        let error = error.to_string();
        let begins = format!("linkerd_issuers.i.{key}: ");
        assert!(error.starts_with(&begins), "{error}");
    }
    let twice = "[linkerd_issuers.i]\ncluster = 'c'\n[linkerd_issuers.j]\ncluster = 'c'\n";
    assert!(read(twice).is_err());
    let twice = "[istiod_tls.i]\ncluster = 'c'\n[istiod_tls.j]\ncluster = 'c'\n";
    assert!(read(twice).is_err());
}

#[test]
fn only_service_accounts_parse_as_accounts() {
    for user in [
        "admin",
        "system:serviceaccount",
        "system:serviceaccount:a",
        "system:serviceaccount:a:",
        "system:serviceaccount::b",
        "system:serviceaccount:a:b:c",
        "system:serviceaccount:a/b:c",
        "system:node:a",
    ] {
        assert_eq!(Account::of_user(user), None, "{user}");
    }
}

/// Names that would widen a selector, a role or a list of trusted accounts.
#[test]
fn names_with_unusual_characters_are_refused() {
    for signer in [
        "d.example/mesh,spec.signerName=e.example/x",
        "d.example/mesh=x",
        "d.example/*",
        "*.example/mesh",
        "d.example/mesh ",
        " d.example/mesh",
        "d.example/me\tsh",
        "d.example/m\u{e4}sh",
        "d.example/Mesh",
        "d.example/-mesh",
        "d.example/a..b",
        "d..example/mesh",
        "d.example/",
        "/mesh",
        "/",
        "",
        "Kubernetes.io/x",
    ] {
        let error = read(&CSR.replace("d.example/mesh", signer)).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("csr_signers.a.signer_name: "), "{signer}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
    for account in [
        "*/istiod",
        "istio-system/*",
        "istio-system/",
        "/istiod",
        "istio-system/istiod:x",
        "istio-system:istiod",
        "system:serviceaccount:istio-system:istiod",
        "istio-system/istiod,shop/web",
        "istio-system/ istiod",
        "istio-system/istiod\t",
        "Istio-System/istiod",
        "istio.system/istiod",
        "istio-system/\u{456}stiod",
    ] {
        let error = read(&CSR.replace("istio-system/istiod", account)).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("csr_signers.a.requesters: "), "{account}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
    for key in ["namespace", "revision", "secret"] {
        for odd in [
            "", "*", "a b", "a,b", "a/b", "..", "a\t", "\u{e4}", "-a", "a-", "A",
        ] {
            // A revision is the rest of a label after `istiod-`.
            if (key, odd) == ("revision", "-a") {
                continue;
            }
            let text = format!("[istiod_tls.i]\ncluster = 'c'\n{key} = '{odd}'");
            let error = read(&text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("istiod_tls.i.{key}: ")),
                "{odd:?}: {error}"
            );
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }
}
