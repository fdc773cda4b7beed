//! `rotate gone` and `rotate forget`: what rotations wait for no longer.

use serde_json::{Value, json};

use super::admin::{AdminArgs, AdminPort};
use crate::cli::failure::Failure;
use crate::cli::open::block_on;
use crate::cli::output::{self, FormatArg};
use crate::x509::TrustDomain;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GoneArgs {
    /// The cluster, as `rotate explain` names it.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// Why, for the records.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ForgetArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// The watcher or agent, as `rotate explain` names it.
    #[arg(long, value_name = "NAME/INSTANCE")]
    watcher: String,
    /// Why, for the records.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(in crate::cli) fn gone(args: GoneArgs) -> Result<(), Failure> {
    let body = json!({ "cluster": args.cluster, "reason": args.reason });
    let port = AdminPort::new(args.port)?;
    let done: Value = block_on(port.post("/v1/rotations/gone", &body))??;
    if args.format.is_json() {
        return output::json(&done);
    }
    output::line(format!(
        "rotations do not wait for cluster {} until it is heard of again",
        args.cluster
    ))
}

pub(in crate::cli) fn forget(args: ForgetArgs) -> Result<(), Failure> {
    let body = json!({
        "trust_domain": args.trust_domain.to_string(),
        "watcher": args.watcher,
        "reason": args.reason,
    });
    let port = AdminPort::new(args.port)?;
    let done: Value = block_on(port.post("/v1/rotations/forget", &body))??;
    if args.format.is_json() {
        return output::json(&done);
    }
    output::line(format!(
        "rotations do not wait for watcher {} until it reports again",
        args.watcher
    ))
}
