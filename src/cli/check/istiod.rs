//! Settings of istiod that conflict with this server.

use serde_json::Value;

use super::CLUSTERS as CATEGORY;
use super::report::Report;
use crate::cluster::{ClusterConfig, Collection, Inspector};
use crate::controllers::IstiodTls;
use crate::controllers::publisher::TargetConfig;

/// Compares istiod's trust domain and CA settings with this server's.
pub(super) async fn examine(
    cluster: &ClusterConfig,
    istiod: &IstiodTls,
    inspector: &Inspector,
    report: &mut Report,
) {
    let item = format!("{} istiod", cluster.name());
    let suffix = istiod.revision().map(|name| format!("-{name}"));
    let suffix = suffix.unwrap_or_default();
    let namespace = istiod.namespace();
    let mesh = format!("/api/v1/namespaces/{namespace}/configmaps/istio{suffix}");
    match inspector.get(&mesh).await {
        Ok(found) => {
            let ours = cluster.trust_domain().as_str();
            // Istio's own default.
            let theirs = mesh_trust_domain(&found).unwrap_or_else(|| "cluster.local".to_owned());
            match theirs == ours {
                true => report.pass(CATEGORY, &item, format!("its trust domain is {ours}")),
                false => report
                    .fail(
                        CATEGORY,
                        &item,
                        format!("its trust domain is {theirs}, and here it is {ours}"),
                    )
                    .hint("meshConfig.trustDomain must be the cluster's `trust_domain`"),
            }
        }
        Err(error) => unreadable(&item, &error, report),
    }
    let deployment = format!("/apis/apps/v1/namespaces/{namespace}/deployments/istiod{suffix}");
    match inspector.get(&deployment).await {
        Ok(found) => match ca_mode(&found) {
            CaMode::Disabled => report.pass(CATEGORY, &item, "its own CA is off"),
            CaMode::RegistrationAuthority => {
                report.pass(CATEGORY, &item, "it requests certificates by CSR objects");
            }
            CaMode::Enabled => report
                .fail(
                    CATEGORY,
                    &item,
                    "its own CA is on: it overwrites our root with its own",
                )
                .hint("pilot.env.ENABLE_CA_SERVER=false"),
        },
        Err(error) => unreadable(&item, &error, report),
    }
}

/// Reports every istiod that writes the ConfigMap of a target as well.
pub(super) async fn competing_writers(
    cluster: &ClusterConfig,
    target: &TargetConfig,
    inspector: &Inspector,
    report: &mut Report,
) {
    let item = format!("{} bundle {}", cluster.name(), target.name());
    let mut writers = Vec::new();
    // Istio's chart gives every revision's Deployment this label.
    let istiods = Collection::new("/apis/apps/v1/deployments").labels("app=istiod");
    let listed = inspector
        .for_each(istiods, |found| writers.extend(writing_istiod(&found)))
        .await;
    for name in &writers {
        let detail = format!("istiod {name} writes its own root there: each overwrites the other");
        report.fail(CATEGORY, &item, detail).hint(
            "pilot.env.ENABLE_CA_SERVER=false; an istiod that requests certificates by CSR objects \
             writes it itself: remove the target",
        );
    }
    if let Err(error) = listed {
        unreadable(&item, &error, report);
    }
}

/// `NAMESPACE/NAME` of an istiod that writes roots itself.
fn writing_istiod(deployment: &Value) -> Option<String> {
    let text = |pointer: &str| deployment.pointer(pointer)?.as_str();
    let (namespace, name) = (text("/metadata/namespace")?, text("/metadata/name")?);
    (ca_mode(deployment) != CaMode::Disabled).then(|| format!("{namespace}/{name}"))
}

fn unreadable(item: &str, error: &str, report: &mut Report) {
    report
        .warn(
            CATEGORY,
            item,
            format!("istiod's settings cannot be read: {error}"),
        )
        .hint("the check needs permission to read them; the server itself does not");
}

/// Which CA signs for an istiod's workloads.
#[derive(Debug, PartialEq, Eq)]
enum CaMode {
    /// Another one.
    Disabled,
    /// A signer of the cluster; istiod writes CSR objects.
    RegistrationAuthority,
    /// istiod's own.
    Enabled,
}

fn ca_mode(deployment: &Value) -> CaMode {
    let value = |name: &str| variable(deployment, name);
    // As istiod reads it: Go's strconv.ParseBool.
    let no = ["0", "f", "F", "false", "False", "FALSE"];
    if value("ENABLE_CA_SERVER").is_some_and(|value| no.contains(&value.as_str())) {
        CaMode::Disabled
    } else if value("EXTERNAL_CA").as_deref() == Some("ISTIOD_RA_KUBERNETES_API") {
        CaMode::RegistrationAuthority
    } else {
        CaMode::Enabled
    }
}

/// The top-level key `trustDomain` of MeshConfig, which istiod's ConfigMap holds as YAML.
fn mesh_trust_domain(config_map: &Value) -> Option<String> {
    let mesh = config_map.pointer("/data/mesh")?.as_str()?;
    let line = mesh
        .lines()
        .find_map(|line| line.strip_prefix("trustDomain:"))?;
    let value = line.split(" #").next()?.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn variable(deployment: &Value, name: &str) -> Option<String> {
    let containers = deployment.pointer("/spec/template/spec/containers")?;
    let mut variables = containers
        .as_array()?
        .iter()
        .filter_map(|container| container.get("env")?.as_array())
        .flatten();
    let found = variables.find(|each| each.get("name").and_then(Value::as_str) == Some(name))?;
    found.get("value")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_trust_domain_of_a_mesh() {
        let of = |mesh: &str| mesh_trust_domain(&json!({ "data": { "mesh": mesh } }));
        let mesh =
            "accessLogFile: ''\ndefaultConfig:\n  trustDomain: no\ntrustDomain: \"a.b\" # x\n";
        assert_eq!(of(mesh).as_deref(), Some("a.b"));
        assert_eq!(of("rootNamespace: x\n"), None);
        assert_eq!(mesh_trust_domain(&json!({})), None);
    }

    #[test]
    fn the_ca_mode_of_an_istiod() {
        let of = |env: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| json!({ "name": name, "value": value });
            let env: Vec<_> = env.iter().map(pair).collect();
            ca_mode(&json!({ "spec": { "template": { "spec": { "containers": [{ "env": env }] }}}}))
        };
        let external = ("EXTERNAL_CA", "ISTIOD_RA_KUBERNETES_API");
        assert_eq!(of(&[]), CaMode::Enabled);
        assert_eq!(of(&[("EXTERNAL_CA", "")]), CaMode::Enabled);
        assert_eq!(of(&[external]), CaMode::RegistrationAuthority);
        assert_eq!(
            of(&[external, ("ENABLE_CA_SERVER", "false")]),
            CaMode::Disabled
        );
        assert_eq!(of(&[("ENABLE_CA_SERVER", "False")]), CaMode::Disabled);
        assert_eq!(of(&[("ENABLE_CA_SERVER", "no")]), CaMode::Enabled);
    }

    #[test]
    fn a_variable_of_a_deployment() {
        let found = json!({ "spec": { "template": { "spec": { "containers": [
            { "name": "sidecar" },
            { "env": [{ "name": "ENABLE_CA_SERVER", "value": "false" }] },
        ]}}}});
        assert_eq!(
            variable(&found, "ENABLE_CA_SERVER").as_deref(),
            Some("false")
        );
        assert_eq!(variable(&found, "OTHER"), None);
    }
}
