//! Authorities with keys of every kind: what proxies take, and what `linkerd check` would say.

use serde_json::Value;

use super::Scene;
use super::proxy::{Proxy, name, request, take};
use rootbridge_test_support::TD;
use rootbridge_test_support::csr::KeyAndCsr;

/// `ca init`'s kinds, and whether Linkerd's check knows such an issuer, and such an anchor.
const KINDS: [(&str, bool, bool); 4] = [
    ("ecdsa-p256", true, true),
    ("ecdsa-p384", false, false),
    ("rsa-2048", false, true),
    ("rsa-3072", false, false),
];

#[tokio::test(flavor = "multi_thread")]
async fn proxies_take_what_linkerds_check_may_not_know() {
    let scene = Scene::new("certify-keys").await;
    let token = scene.token().await;
    let mut domain = TD.to_owned();
    for (kind, issuer_known, anchor_known) in KINDS {
        let next = format!("{kind}.example");
        let line = |domain: &str| format!("\ntrust_domain = \"{domain}\"\nkubeconfig");
        scene.setup.edit(&line(&domain), &line(&next));
        let tls = |domain: &str| {
            format!(
                "apis = [\"linkerd\"]\nclusters = [\"east\"]\ntls = {{ trust_domain = \"{domain}\" }}"
            )
        };
        scene.setup.edit(&tls(&domain), &tls(&next));
        domain = next;
        scene.setup.init(&domain, &["--key", kind]);

        let server = scene.setup.serve().await;
        let own = name(scene.ns, "app").replace(TD, &domain);
        let csr = KeyAndCsr::new(&[&own]);
        let anchors = scene.setup.roots(&domain);
        let service = format!("linkerd-identity.linkerd.serviceaccount.identity.linkerd.{domain}");
        let port = server.port_of("identity");
        let proxy = Proxy::connect_to(port, &service, &anchors, None).await;
        let answer = proxy.unwrap().certify(request(&own, &token, &csr)).await;
        take(&answer.unwrap(), &own, &csr, &anchors);

        let report = scene.setup.try_cli(&["check", "-o", "json"]).stdout;
        let report: Value = serde_json::from_slice(&report).unwrap();
        let message: Vec<_> = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|each| each["category"] == "linkerd" && each["name"] == domain.as_str())
            .map(|each| each["said"].as_str().unwrap().to_owned())
            .collect();
        let has = |words: &str| message.iter().any(|each| each.contains(words));
        assert_eq!(has("the issuing CA's key is"), !issuer_known, "{message:?}");
        assert_eq!(
            has("the key of the trust anchor"),
            !anchor_known,
            "{message:?}"
        );
        assert_eq!(has("supports its keys"), issuer_known && anchor_known);
        let log = server.log();
        let logged = log.lines().filter(|line| line.contains(&domain));
        let logged = logged.filter(|line| line.contains("proxies accept it"));
        assert_eq!(
            logged.count(),
            message.len() - usize::from(issuer_known && anchor_known)
        );
    }
}
