//! Checks of sections against each other.

use std::collections::BTreeMap;

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::{admin, mesh, policy};

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
