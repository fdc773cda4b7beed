//! `bundle show`, `bundle fetch` and `bundle status`.

use serde_json::json;

use super::bundle_fetch::{self, FetchArgs};
use super::bundle_status::{self, StatusArgs};
use super::config::{ClientArgs, ClientConfig};
use super::connect::{connect, status_failure, unusable_response};
use crate::cli::failure::Failure;
use crate::cli::format::{fingerprint, pem, validity, with_distance};
use crate::cli::open::block_on;
use crate::cli::output::{self, CertificateFormat};
use crate::clock::{Clock as _, SystemClock};
use crate::mesh::proto::rootbridge_v1 as v1;
use crate::x509::{Certificate, TrustDomain};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum BundleCommand {
    /// Show the trust bundle that a server publishes.
    Show(ShowArgs),
    /// Fetch a first trust bundle from a server, verified by a fingerprint alone.
    Fetch(FetchArgs),
    /// Show which clusters have the current trust bundle, as a server reports it.
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The trust domain. Default: the only one of the server.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    #[command(flatten)]
    client: ClientArgs,
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: CertificateFormat,
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
    let anchors = bundle.anchors.into_iter().map(Certificate::parse);
    let anchors: Vec<Certificate> = anchors
        .collect::<Result<_, _>>()
        .map_err(|error| unusable_response(error).at(server.endpoint))?;
    let now = SystemClock.now();
    match args.output {
        CertificateFormat::Pem => output::raw(pem(&anchors)),
        CertificateFormat::Json => output::json(&json!({
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
        CertificateFormat::Table => {
            output::facts([
                ("trust domain", bundle.trust_domain),
                ("sequence", bundle.sequence.to_string()),
            ])?;
            let rows = anchors.iter().map(|anchor| {
                [
                    ("SUBJECT", anchor.subject()),
                    ("STATE", validity(anchor, now).to_owned()),
                    ("EXPIRES", with_distance(anchor.not_after(), now)),
                    ("FINGERPRINT", format!("sha256:{}", fingerprint(anchor))),
                ]
            });
            output::table(rows, "no anchors")
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
        .map_err(|status| status_failure("no trust bundle", &status, &server.endpoint))
}
