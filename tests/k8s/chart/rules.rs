//! Each feature brings the rules that it uses, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rootbridge::config::Config;
use rootbridge::controllers::event_permission;
use serde_json::Value;

use super::{RELEASE, render, set, value_sets, values};

const NOBODY: &str = "authentication.enabled=false";

/// `group/resource verb [name]` for everything that is allowed.
pub(crate) fn rights(objects: &[Value]) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    let roles = objects
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("ClusterRole" | "Role")));
    for rule in roles.flat_map(|role| role["rules"].as_array().into_iter().flatten()) {
        let words = |key: &str| -> Vec<String> {
            let all = rule[key].as_array().into_iter().flatten();
            all.map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let mut names = words("resourceNames");
        assert!(!rule["apiGroups"].as_array().unwrap().is_empty());
        if names.is_empty() {
            names.push(String::new());
        }
        for group in words("apiGroups") {
            for resource in words("resources") {
                for verb in words("verbs") {
                    for name in &names {
                        let group = if group.is_empty() { "core" } else { &group };
                        let right = format!("{group}/{resource} {verb} {name}");
                        rights.insert(right.trim_end().to_owned());
                    }
                }
            }
        }
    }
    rights
}

fn of(pairs: &[&str]) -> BTreeSet<String> {
    rights(&render(RELEASE, &set(pairs)))
}

fn expect(pairs: &[&str], wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    assert_eq!(of(pairs), wanted, "{pairs:?}");
}

#[test]
fn a_feature_brings_its_rules_alone() {
    const REVIEW: &str = "authentication.k8s.io/tokenreviews create";
    const WATCH: [&str; 4] = [
        "core/pods list",
        "core/pods watch",
        "core/serviceaccounts list",
        "core/serviceaccounts watch",
    ];
    let [a, b, c, d] = WATCH;
    expect(&[NOBODY], &[]);
    expect(&[], &[REVIEW]);
    expect(&["authentication.method=offline"], &[REVIEW, a, b, c, d]);
    let linkerd = "linkerd.enabled=true";
    expect(&[NOBODY, linkerd], &[REVIEW]);
    expect(
        &[NOBODY, linkerd, "linkerd.events=true"],
        &[REVIEW, "core/events create"],
    );
    expect(
        &[NOBODY, linkerd, "authentication.method=offline"],
        &[REVIEW, a, b, c, d],
    );
    expect(&[NOBODY, "vault.enabled=true"], &[REVIEW]);
    expect(&[NOBODY, "vault.enabled=true", "vault.audience="], &[]);
    let node = "authentication.nodeAccounts[0]=istio-system/ztunnel";
    expect(&[node], &[REVIEW, a, b, c, d]);
    expect(
        &[
            NOBODY,
            "csrSigners.istio.signer_name=example.com/mesh",
            "csrSigners.istio.profile=workload",
            "csrSigners.istio.requesters[0]=istio-system/istiod",
        ],
        &[
            "certificates.k8s.io/certificatesigningrequests get",
            "certificates.k8s.io/certificatesigningrequests list",
            "certificates.k8s.io/certificatesigningrequests watch",
            "certificates.k8s.io/certificatesigningrequests/status update",
            "certificates.k8s.io/signers sign example.com/mesh",
        ],
    );
    expect(
        &[
            NOBODY,
            "podSigners.pods.signer_name=example.com/pod",
            "podSigners.pods.profile=workload",
        ],
        &[
            "certificates.k8s.io/podcertificaterequests get",
            "certificates.k8s.io/podcertificaterequests list",
            "certificates.k8s.io/podcertificaterequests watch",
            "certificates.k8s.io/podcertificaterequests/status update",
            "certificates.k8s.io/signers sign example.com/pod",
        ],
    );
    let lease = |verb: &str| format!("coordination.k8s.io/leases {verb} rb-rootbridge-publisher");
    let (get, update) = (lease("get"), lease("update"));
    expect(
        &[NOBODY, "bundleTargets.istio.preset=istio"],
        &[
            "core/namespaces list",
            "core/namespaces watch",
            "core/configmaps list istio-ca-root-cert",
            "core/configmaps watch istio-ca-root-cert",
            "core/configmaps create istio-ca-root-cert",
            "core/configmaps patch istio-ca-root-cert",
            "coordination.k8s.io/leases create",
            &get,
            &update,
        ],
    );
    expect(
        &[NOBODY, "bundleTargets.linkerd.preset=linkerd"],
        &[
            "core/namespaces list",
            "core/namespaces watch",
            "core/configmaps list linkerd-identity-trust-roots",
            "core/configmaps watch linkerd-identity-trust-roots",
            "core/configmaps create linkerd-identity-trust-roots",
            "core/configmaps patch linkerd-identity-trust-roots",
            "core/pods list",
            "coordination.k8s.io/leases create",
            &get,
            &update,
        ],
    );
    expect(
        &[
            NOBODY,
            "bundleTargets.pods.kind=cluster-trust-bundle",
            "bundleTargets.pods.name=example.com:pod:roots",
            "bundleTargets.pods.signer_name=example.com/pod",
        ],
        &[
            "certificates.k8s.io/clustertrustbundles list example.com:pod:roots",
            "certificates.k8s.io/clustertrustbundles watch example.com:pod:roots",
            "certificates.k8s.io/clustertrustbundles create example.com:pod:roots",
            "certificates.k8s.io/clustertrustbundles patch example.com:pod:roots",
            "certificates.k8s.io/signers attest example.com/pod",
            "coordination.k8s.io/leases create",
            &get,
            &update,
        ],
    );
    expect(
        &[NOBODY, "istiodTls.istiod.secret=istiod-tls"],
        &[
            "core/secrets get istiod-tls",
            "core/secrets list istiod-tls",
            "core/secrets watch istiod-tls",
            "core/secrets create istiod-tls",
            "core/secrets patch istiod-tls",
        ],
    );
    expect(
        &[NOBODY, "linkerdIssuers.main.lifetime=24h"],
        &[
            "core/secrets get linkerd-identity-issuer",
            "core/secrets list linkerd-identity-issuer",
            "core/secrets watch linkerd-identity-issuer",
            "core/secrets create linkerd-identity-issuer",
            "core/secrets patch linkerd-identity-issuer",
            "core/events list",
        ],
    );
    expect(
        &[
            NOBODY,
            "upstream.corp.kind=cert-manager",
            "upstream.corp.namespace=pki",
            "upstream.corp.issuer=corp-ca",
        ],
        &[
            "cert-manager.io/certificaterequests create",
            "cert-manager.io/certificaterequests get",
        ],
    );
    expect(&[NOBODY, "upstream.corp.kind=vault"], &[]);
}

/// What `rootbridge check` asks for in a cluster, in the same words.
pub(crate) fn asked(file: &Path, cluster: &str) -> BTreeSet<String> {
    let config = Config::load_with(file, &BTreeMap::new()).unwrap();
    let mut asked = config.clusters()[cluster].permissions();
    asked.extend(config.controllers().permissions(cluster));
    asked.extend(config.upstream().permissions(cluster));
    for target in config.bundle_targets() {
        asked.extend(target.permissions(config.publisher()));
    }
    let tells = config
        .listeners()
        .iter()
        .any(|listener| listener.events_cluster() == Some(cluster));
    if tells {
        asked.push(event_permission("listeners"));
    }
    asked
        .iter()
        .map(|right| {
            let group = if right.group.is_empty() {
                "core"
            } else {
                right.group
            };
            let name = right.name.as_deref().unwrap_or_default();
            let text = format!("{group}/{} {} {name}", right.resource, right.verb);
            text.trim_end().to_owned()
        })
        .collect()
}

/// The chart gives exactly what `rootbridge check` asks for.
#[test]
fn check_asks_for_what_the_chart_gives() {
    for name in ["softhsm", "module", "linkerd"] {
        let objects = render(RELEASE, &values(name));
        let maps = objects
            .iter()
            .filter(|object| object["kind"] == "ConfigMap");
        let text = maps
            .filter_map(|map| map["data"]["rootbridge.toml"].as_str())
            .next()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rootbridge.toml");
        fs::write(&file, text).unwrap();
        let asked = asked(&file, "local");
        assert_eq!(asked, rights(&objects), "{name}");
    }
}

/// A pod that speaks to no API server has no token to do it with.
#[test]
fn who_needs_no_rights_has_no_token() {
    for (name, speaks) in [("softhsm", true), ("socket", false)] {
        let objects = render(RELEASE, &values(name));
        let set = super::only(&objects, "StatefulSet");
        let spec = &set["spec"]["template"]["spec"];
        assert_eq!(spec["automountServiceAccountToken"], speaks, "{name}");
    }
}

/// docs/reference/rbac.md has a row for each right of every value set.
#[test]
fn each_right_is_explained() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/rbac.md");
    let page = fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let mut explained = BTreeSet::new();
    for name in value_sets() {
        for right in rights(&render(RELEASE, &values(&name))) {
            assert!(!right.contains('*'), "{right}");
            let mut words = right.split(' ');
            let (resource, verb) = (words.next().unwrap(), words.next().unwrap());
            let row = rows.iter().find(|row| {
                let mut cells = row.split('|').skip(1).map(str::trim);
                let is = cells.next() == Some(&format!("`{resource}`"));
                is && cells
                    .next()
                    .unwrap_or_default()
                    .contains(&format!("`{verb}`"))
            });
            assert!(
                row.is_some(),
                "docs/reference/rbac.md says nothing of `{right}`"
            );
            explained.insert(row.copied().unwrap_or_default());
        }
    }
    let idle: Vec<_> = rows
        .iter()
        .filter(|row| !explained.contains(*row))
        .collect();
    assert!(idle.is_empty(), "nothing gives these rights: {idle:?}");
}
