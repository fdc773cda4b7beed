//! `bundle show`, `bundle fetch` and `bundle status`.

use clap::ValueEnum;
use serde_json::json;

use super::bundle_fetch::{self, FetchArgs};
use super::bundle_status::{self, StatusArgs};
use super::config::{ClientArgs, ClientConfig};
use super::connect::{connect, status_failure};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{fingerprint, validity, with_distance};
use crate::cli::open::block_on;
use crate::cli::output;
use crate::clock::{Clock as _, SystemClock};
use crate::mesh::proto::rootbridge_v1 as v1;
use crate::x509::{Certificate, TrustDomain};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum BundleCommand {
    /// Show the trust bundle that a server publishes.
    Show(ShowArgs),
    /// Fetch a first trust bundle from a server that nothing is known of but a fingerprint.
    Fetch(FetchArgs),
    /// Show how far the trust bundle has come in the clusters that a server writes to.
    Status(StatusArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum BundleFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// The certificates.
    Pem,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The trust domain. Default: the only one of the server.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    #[command(flatten)]
    client: ClientArgs,
    /// The form of the result.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: BundleFormat,
}

pub(in crate::cli) fn run(command: BundleCommand) -> Result<(), Failure> {
    match command {
        BundleCommand::Show(args) => show(&args),
        BundleCommand::Fetch(args) => bundle_fetch::run(&args),
        BundleCommand::Status(args) => bundle_status::run(args),
    }
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let server = ClientConfig::new(&args.client)?;
    let bundle = block_on(trust_bundle(&server, args.trust_domain.as_ref()))??;
    let anchors: Vec<Certificate> = bundle
        .anchors
        .into_iter()
        .map(Certificate::parse)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("the answer cannot be used: {error}"))
                .at(server.endpoint)
        })?;
    let now = SystemClock.now();
    match args.output {
        BundleFormat::Pem => output::raw(
            anchors
                .iter()
                .map(Certificate::to_pem)
                .collect::<String>()
                .as_bytes(),
        ),
        BundleFormat::Json => output::json(&json!({
            "trust_domain": bundle.trust_domain,
            "sequence": bundle.sequence,
            "digest": bundle.digest,
            "anchors": anchors.iter().map(|anchor| json!({
                "subject": anchor.subject(),
                "sha256": fingerprint(anchor),
                "not_before": anchor.not_before().to_string(),
                "not_after": anchor.not_after().to_string(),
                "state": validity(anchor, now),
                "pem": anchor.to_pem(),
            })).collect::<Vec<_>>(),
        })),
        BundleFormat::Table => {
            output::facts(&[
                ("trust domain", bundle.trust_domain),
                ("sequence", bundle.sequence.to_string()),
            ])?;
            let rows: Vec<_> = anchors
                .iter()
                .map(|anchor| {
                    vec![
                        anchor.subject(),
                        validity(anchor, now).to_owned(),
                        with_distance(anchor.not_after(), now),
                        format!("sha256:{}", fingerprint(anchor)),
                    ]
                })
                .collect();
            output::table(
                &["SUBJECT", "STATE", "EXPIRES", "FINGERPRINT"],
                &rows,
                "no anchors",
            )
        }
    }
}

pub(super) async fn trust_bundle(
    server: &ClientConfig,
    trust_domain: Option<&TrustDomain>,
) -> Result<v1::TrustBundle, Failure> {
    let channel = connect(server).await?;
    let trust_domain = trust_domain.map(ToString::to_string).unwrap_or_default();
    v1::trust_bundle_service_client::TrustBundleServiceClient::new(channel)
        .get_trust_bundle(v1::GetTrustBundleRequest { trust_domain })
        .await
        .map(tonic::Response::into_inner)
        .map_err(|refused| status_failure("no trust bundle", &refused, &server.endpoint))
}
