//! `linkerd status`: which workloads of Linkerd's meshes still run with older roots.

use std::sync::Arc;

use serde_json::{Value, json};

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::format::count;
use super::open::block_on;
use super::output;
use crate::clock::SystemClock;
use crate::cluster::Inspector;
use crate::config::Config;
use crate::controllers::linkerd::{ControlPlane, Counts, control_planes};

#[derive(Debug, clap::Subcommand)]
pub(super) enum LinkerdCommand {
    /// Show which workloads still run with older roots, and the commands that restart them.
    Status(CommonArgs),
}

struct ClusterStatus {
    cluster: String,
    /// The control planes, or why the cluster cannot be read.
    result: Result<Vec<ControlPlane>, String>,
}

impl ClusterStatus {
    fn planes(&self) -> &[ControlPlane] {
        self.result.as_deref().unwrap_or_default()
    }
}

pub(super) fn run(command: LinkerdCommand) -> Result<(), Failure> {
    let LinkerdCommand::Status(args) = command;
    let config = args.config.load()?;
    let mut targets = config.bundle_targets().iter();
    if !targets.any(|target| target.holds_linkerd_roots()) {
        let message = "no bundle target writes Linkerd's roots";
        return Err(Failure::new(Exit::Config, message)
            .at(config.file().display())
            .next("add [bundle_targets.linkerd] with preset = \"linkerd\""));
    }
    let clusters = block_on(read_clusters(&config))?;
    let total = clusters
        .iter()
        .flat_map(ClusterStatus::planes)
        .flat_map(|plane| plane.workloads.values())
        .fold(Counts::default(), |sum, counts| sum.plus(*counts));
    let outdated = total.old + total.unknown;
    let unreadable = clusters
        .iter()
        .filter(|cluster| cluster.result.is_err())
        .count();
    match args.format.is_json() {
        true => print_json(&clusters, unreadable + outdated == 0)?,
        false => print_table(&clusters, total, unreadable)?,
    }
    match (outdated, unreadable) {
        (0, 0) => Ok(()),
        (0, _) => {
            let message = format!("{} cannot be read", count(unreadable, "cluster"));
            Err(Failure::new(Exit::Unavailable, message))
        }
        _ => {
            let message = format!("{} must be restarted", count(outdated, "pod"));
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

/// Reads each cluster; one that is down hides none of the others.
async fn read_clusters(config: &Config) -> Vec<ClusterStatus> {
    let mut statuses = Vec::new();
    let targets = config.bundle_targets().iter();
    for target in targets.filter(|target| target.holds_linkerd_roots()) {
        for cluster in target
            .clusters()
            .filter_map(|name| config.clusters().get(name))
        {
            let result = match Inspector::new(cluster, Arc::new(SystemClock)).await {
                Ok(inspector) => control_planes(cluster, target, &inspector).await,
                Err(error) => Err(error),
            };
            let cluster = cluster.name().to_owned();
            statuses.push(ClusterStatus { cluster, result });
        }
    }
    statuses
}

fn print_json(clusters: &[ClusterStatus], old_roots_removable: bool) -> Result<(), Failure> {
    let plane = |plane: &ControlPlane| -> Value {
        let workloads = plane.workloads.iter().map(|(workload, counts)| {
            json!({
                "namespace": workload.namespace,
                "kind": workload.kind,
                "name": workload.name,
                "current": counts.current,
                "old": counts.old,
                "unknown": counts.unknown,
                "restart": workload.restart().filter(|_| counts.needs_restart()),
            })
        });
        json!({
            "namespace": plane.namespace,
            "roots_sha256": plane.sha256,
            "workloads": workloads.collect::<Vec<_>>(),
        })
    };
    let clusters = clusters.iter().map(|status| {
        json!({
            "cluster": status.cluster,
            "error": status.result.as_ref().err(),
            "control_planes": status.planes().iter().map(plane).collect::<Vec<_>>(),
        })
    });
    output::json(&json!({
        "clusters": clusters.collect::<Vec<_>>(),
        "old_roots_may_go": old_roots_removable,
    }))
}

fn print_table(
    clusters: &[ClusterStatus],
    total: Counts,
    unreadable: usize,
) -> Result<(), Failure> {
    let rows = clusters.iter().flat_map(|status| {
        let workloads = status.planes().iter().flat_map(|plane| &plane.workloads);
        workloads.map(|(workload, counts)| {
            [
                ("CLUSTER", status.cluster.clone()),
                ("NAMESPACE", workload.namespace.clone()),
                ("KIND", workload.kind.clone()),
                ("NAME", workload.name.clone()),
                ("CURRENT", counts.current.to_string()),
                ("OLD", counts.old.to_string()),
                ("UNKNOWN", counts.unknown.to_string()),
            ]
        })
    });
    output::table(rows, "no pod with a proxy of Linkerd runs")?;
    for status in clusters {
        print_restarts(status)?;
    }
    let outdated = total.old + total.unknown;
    output::line("")?;
    output::line(match (outdated, unreadable) {
        (0, 0) => format!(
            "{} run, all with the published roots: an old root that no longer signs may be removed",
            count(total.current, "proxy pod")
        ),
        (0, _) => "remove no root yet: a cluster could not be read".to_owned(),
        _ => format!(
            "remove no root yet, and let no other sign: {outdated} of {} do not run with the \
             published roots",
            count(outdated + total.current, "proxy pod")
        ),
    })
}

/// Prints the commands that restart a cluster's outdated workloads.
fn print_restarts(status: &ClusterStatus) -> Result<(), Failure> {
    if let Err(error) = &status.result {
        return output::note(format!("{}: {error}", status.cluster));
    }
    let workloads = status.planes().iter().flat_map(|plane| &plane.workloads);
    let mut outdated = workloads
        .filter(|(_, counts)| counts.needs_restart())
        .peekable();
    if outdated.peek().is_some() {
        output::line(format!("\nto restart in the cluster {}:", status.cluster))?;
    }
    for (workload, _) in outdated {
        output::line(match workload.restart() {
            Some(command) => format!("  {command}"),
            None => format!(
                "  # {} {} in {}: no command restarts it; wait for its end, or recreate it",
                workload.kind, workload.name, workload.namespace
            ),
        })?;
    }
    Ok(())
}
