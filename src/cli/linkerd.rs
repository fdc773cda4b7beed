//! `linkerd status`: which workloads of Linkerd's meshes still run with older roots.

use serde_json::{Value, json};

use super::config_arg::ConfigArg;
use super::failure::{Exit, Failure};
use super::format::count;
use super::open::block_on;
use super::output::{self, FormatArg};
use crate::cluster::Inspector;
use crate::config::Config;
use crate::controllers::linkerd::{ControlPlane, Counts, control_planes};

#[derive(Debug, clap::Subcommand)]
pub(super) enum LinkerdCommand {
    /// Show which workloads still run with older roots, and how to restart them.
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

/// What was found in one cluster.
struct ClusterStatus {
    cluster: String,
    found: Result<Vec<ControlPlane>, String>,
}

impl ClusterStatus {
    fn planes(&self) -> &[ControlPlane] {
        self.found.as_deref().unwrap_or_default()
    }
}

pub(super) fn run(command: LinkerdCommand) -> Result<(), Failure> {
    let LinkerdCommand::Status(args) = command;
    let config = args.config.load()?;
    let targets = config.bundle_targets().iter();
    if targets.filter(|each| each.holds_linkerd_roots()).count() == 0 {
        return Err(
            Failure::new(Exit::Config, "no bundle target writes Linkerd's roots")
                .at(config.file().display().to_string())
                .next("add [bundle_targets.linkerd] with preset = \"linkerd\""),
        );
    }
    let clusters = block_on(examine(&config))?;
    let planes = || clusters.iter().flat_map(ClusterStatus::planes);
    let all = planes().flat_map(|plane| plane.workloads.values());
    let all = all.fold(Counts::default(), |sum, each| sum.and(*each));
    let unreadable = clusters
        .iter()
        .filter(|cluster| cluster.found.is_err())
        .count();
    let behind = all.old + all.unknown;
    match args.format.is_json() {
        true => print_json(&clusters, unreadable + behind == 0)?,
        false => print_table(&clusters, all, unreadable)?,
    }
    match (behind, unreadable) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::new(
            Exit::Unavailable,
            format!("{} cannot be looked at", count(unreadable, "cluster")),
        )),
        _ => Err(Failure::new(
            Exit::Failed,
            format!("{} must start anew", count(behind, "pod")),
        )),
    }
}

/// Each cluster on its own: one that is down hides none of the others.
async fn examine(config: &Config) -> Vec<ClusterStatus> {
    let mut statuses = Vec::new();
    for target in config.bundle_targets() {
        if !target.holds_linkerd_roots() {
            continue;
        }
        let clusters = target
            .clusters()
            .filter_map(|name| config.clusters().get(name));
        for cluster in clusters {
            let found = match Inspector::new(cluster).await {
                Ok(inspector) => control_planes(cluster, target, &inspector).await,
                Err(why) => Err(why),
            };
            statuses.push(ClusterStatus {
                cluster: cluster.name().to_owned(),
                found,
            });
        }
    }
    statuses
}

fn print_json(clusters: &[ClusterStatus], removable: bool) -> Result<(), Failure> {
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
    let clusters = clusters.iter().map(|cluster| {
        json!({
            "cluster": cluster.cluster,
            "error": cluster.found.as_ref().err(),
            "control_planes": cluster.planes().iter().map(plane).collect::<Vec<_>>(),
        })
    });
    output::json(&json!({
        "clusters": clusters.collect::<Vec<_>>(),
        "old_roots_may_go": removable,
    }))
}

fn print_table(clusters: &[ClusterStatus], all: Counts, unreadable: usize) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for cluster in clusters {
        for (workload, counts) in cluster.planes().iter().flat_map(|plane| &plane.workloads) {
            let number = |number: usize| number.to_string();
            rows.push(vec![
                cluster.cluster.clone(),
                workload.namespace.clone(),
                workload.kind.clone(),
                workload.name.clone(),
                number(counts.current),
                number(counts.old),
                number(counts.unknown),
            ]);
        }
    }
    let headings = [
        "CLUSTER",
        "NAMESPACE",
        "KIND",
        "NAME",
        "CURRENT",
        "OLD",
        "UNKNOWN",
    ];
    output::table(&headings, &rows, "no pod with a proxy of Linkerd runs")?;
    for cluster in clusters {
        print_restarts(cluster)?;
    }
    let behind = all.old + all.unknown;
    output::line("")?;
    output::line(&match (behind, unreadable) {
        (0, 0) => format!(
            "{} run, each with the roots as they are published now: an old root that signs nothing \
             any more may go",
            count(all.current, "proxy pod")
        ),
        (0, _) => "no root may go yet: what a cluster runs with could not be looked at".to_owned(),
        _ => format!(
            "no root may go yet, and no other may sign: {} of {} do not run with the roots as they \
             are published now",
            behind,
            count(behind + all.current, "proxy pod")
        ),
    })
}

/// What is to be done in one status.
fn print_restarts(status: &ClusterStatus) -> Result<(), Failure> {
    if let Err(why) = &status.found {
        return output::note(&format!("{}: {why}", status.cluster));
    }
    let workloads = status.planes().iter().flat_map(|plane| &plane.workloads);
    let behind: Vec<_> = workloads
        .filter(|(_, counts)| counts.needs_restart())
        .map(|(workload, _)| workload)
        .collect();
    if behind.is_empty() {
        return Ok(());
    }
    output::line(&format!("\nto restart in the cluster {}:", status.cluster))?;
    for workload in behind {
        output::line(&match workload.restart() {
            Some(command) => format!("  {command}"),
            None => format!(
                "  # {} {} in {}: no command restarts it; let it end, or make it anew",
                workload.kind, workload.name, workload.namespace
            ),
        })?;
    }
    Ok(())
}
