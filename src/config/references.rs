//! Checks of sections against each other.

use std::collections::BTreeMap;

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::controllers::publisher;
use crate::{admin, cluster, mesh, policy};

pub(super) fn check_linkerd_profile(
    listener: &mesh::ListenerConfig,
    policy: &policy::Policy,
) -> Result<(), ConfigIssues> {
    let Some(linkerd) = listener.linkerd() else {
        return Ok(());
    };
    let table = format!("listeners.{}", listener.name());
    let name = linkerd.profile();
    // An empty name means the policy's default profile elsewhere.
    if name.is_empty() || !policy.has_profile(name) {
        let key = format!("{table}.linkerd.profile");
        return Err(ConfigIssue::undefined(key, "profiles", name).into());
    }
    match policy.profile(name) {
        Some(profile) => linkerd
            .check_schedule(profile)
            .map_err(|issue| ConfigIssues::from(issue).under(&table)),
        None => Ok(()),
    }
}

pub(super) fn check_target_clusters(
    targets: &[publisher::TargetConfig],
    clusters: &BTreeMap<String, cluster::ClusterConfig>,
    issues: &mut ConfigIssues,
) {
    for target in targets {
        let unknown = target
            .clusters()
            .filter(|name| !clusters.contains_key(*name));
        for name in unknown {
            let key = format!("bundle_targets.{}.clusters", target.name());
            issues.push(ConfigIssue::undefined(key, "clusters", name));
        }
    }
}

/// A listener without mounts would answer nothing, and mounts without a listener nobody.
pub(super) fn check_vault_listeners(
    listeners: &[mesh::ListenerConfig],
    vault: &mesh::VaultConfig,
    issues: &mut ConfigIssues,
) {
    let mut serving = listeners
        .iter()
        .filter(|each| each.serves(mesh::Api::Vault));
    match (serving.next(), vault.mounts().is_empty()) {
        (Some(listener), true) => {
            let key = format!("listeners.{}.apis", listener.name());
            let issue = ConfigIssue::new(key, "`vault` serves mounts, and there is none");
            issues.push(issue.with_fix("write [vault.mount.NAME] with `authority`"));
        }
        (None, false) => {
            let issue = ConfigIssue::new("vault.mount", "no listener has `vault` among its `apis`");
            issues.push(issue.with_fix("write apis = [\"vault\"] in a listener of its own"));
        }
        _ => {}
    }
}

pub(super) fn check_addresses(
    listeners: &[mesh::ListenerConfig],
    admin: Option<&admin::Config>,
    issues: &mut ConfigIssues,
) {
    let admin = admin.map(|admin| (admin.address(), "admin".to_owned()));
    let mut users = BTreeMap::from_iter(admin);
    for listener in listeners {
        let (key, address) = (format!("listeners.{}", listener.name()), listener.address());
        // Port 0 is a new port each time.
        if address.port() != 0
            && let Some(other) = users.insert(address, key.clone())
        {
            let problem = format_args!("{address} is the address of {other} too");
            issues.push(ConfigIssue::new(format!("{key}.address"), problem));
        }
    }
}
