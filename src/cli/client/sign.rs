//! `sign`: creates a key and a CSR, and gets the certificate from a server.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::config::{ClientArgs, ClientConfig, CredentialArgs};
use super::connect::{connect, status_failure, unusable_response, with_credential};
use super::keypair::{self, KeyAndCsr};
use crate::cli::failure::Failure;
use crate::cli::files::{Content, NewFiles};
use crate::cli::format::{joined, pem};
use crate::cli::open::block_on;
use crate::cli::output::{self, FormatArg};
use crate::clock::{Clock as _, SystemClock};
use crate::mesh::proto::rootbridge_v1 as v1;
use crate::x509::{Certificate, Csr, KeyKind, San, SpiffeId, verify_ca_path};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SignArgs {
    /// The SPIFFE ID to certify.
    #[arg(value_name = "SPIFFE_ID")]
    id: SpiffeId,
    /// Another name to certify, as dns:NAME or ip:ADDRESS. May be repeated.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<San>,
    /// The directory for key.pem, cert.pem and bundle.pem.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
    /// The kind of key: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096.
    #[arg(long, value_name = "KIND", default_value = "ecdsa-p256", value_parser = keypair::kind)]
    key: KeyKind,
    /// The server's profile. Default: the server's default.
    #[arg(long, value_name = "PROFILE", default_value = "")]
    profile: String,
    /// The lifetime, such as 24h. Default: the profile's.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    credential: CredentialArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(in crate::cli) fn run(args: SignArgs) -> Result<(), Failure> {
    let mut names = vec![San::Spiffe(args.id.clone())];
    names.extend(args.names.iter().cloned());
    // First of all: without a directory for it, no certificate is requested.
    let files = NewFiles::new(&args.out, ["key.pem", "cert.pem", "bundle.pem"], args.force)?;
    let key_and_csr = keypair::generate(args.key, &names)?;
    let issued = block_on(request(&args, &names, &key_and_csr))??;
    let [key, cert, bundle] = files.write([
        Content::Secret(key_and_csr.key_pem.as_bytes()),
        Content::Public(pem(&issued.chain).as_bytes()),
        Content::Public(pem(&issued.anchors).as_bytes()),
    ])?;
    let leaf = &issued.leaf;
    if args.format.is_json() {
        return output::json(&json!({
            "spiffe_id": args.id.to_string(),
            "serial_number": leaf.serial().to_string(),
            "not_before": leaf.not_before().to_string(),
            "not_after": leaf.not_after().to_string(),
            "files": { "key": key, "certificate": cert, "bundle": bundle },
        }));
    }
    output::facts([
        ("certified", joined(&names, " ")),
        ("serial", leaf.serial().to_string()),
        ("valid until", leaf.not_after().to_string()),
        ("key", key.display().to_string()),
        ("certificate", cert.display().to_string()),
        ("bundle", bundle.display().to_string()),
    ])?;
    let (cert, bundle) = (cert.display(), bundle.display());
    output::note(format!(
        "verify: openssl verify -x509_strict -CAfile {bundle} -untrusted {cert} {cert}"
    ))
}

/// A verified response.
struct Issued {
    leaf: Certificate,
    chain: Vec<Certificate>,
    anchors: Vec<Certificate>,
}

async fn request(
    args: &SignArgs,
    names: &[San],
    key_and_csr: &KeyAndCsr,
) -> Result<Issued, Failure> {
    let server = ClientConfig::new(&args.client)?;
    let credential = server.credential(&args.credential)?;
    let request = v1::SignCertificateRequest {
        csr: key_and_csr.csr.clone(),
        profile: args.profile.clone(),
        names: names.iter().map(ToString::to_string).collect(),
        ttl: args.ttl.map(|ttl| prost_types::Duration {
            seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(ttl.subsec_nanos()).unwrap_or_default(),
        }),
        idempotency_key: String::new(),
    };
    let request = with_credential(request, &credential)?;
    let channel = connect(&server).await?;
    let response = v1::certificate_service_client::CertificateServiceClient::new(channel)
        .sign_certificate(request)
        .await
        .map_err(|status| status_failure("not signed", &status, &server.endpoint))?;
    verify(response.into_inner(), names, key_and_csr)
        .map_err(|error| unusable_response(error).at(server.endpoint))
}

/// Verifies that the certificate has the requested key and names, and chains to an anchor of the
/// bundle in the same response.
fn verify(
    response: v1::SignCertificateResponse,
    names: &[San],
    key_and_csr: &KeyAndCsr,
) -> Result<Issued, String> {
    let bundle = response.trust_bundle.ok_or("it has no trust bundle")?;
    let parse = |ders: Vec<Vec<u8>>| {
        ders.into_iter()
            .map(|der| Certificate::parse(der).map_err(|error| error.to_string()))
            .collect::<Result<Vec<_>, _>>()
    };
    let chain = parse(response.chain)?;
    let anchors = parse(bundle.anchors)?;
    let (leaf, above) = chain.split_first().ok_or("it has no certificate")?;
    let csr = Csr::from_der(&key_and_csr.csr).map_err(|error| error.to_string())?;
    if leaf.public_key().spki_der() != csr.public_key().spki_der() {
        return Err("the certificate is for another key".into());
    }
    let sorted = |names: &[San]| {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let certified = sorted(leaf.names());
    if certified != sorted(names) {
        return Err(format!("the certificate is for {}", certified.join(" ")));
    }
    verify_ca_path(above, &anchors, SystemClock.now()).map_err(|error| error.to_string())?;
    let issuer = above.first().ok_or("it has no issuing certificate")?;
    leaf.verify_signed_by(issuer.public_key())
        .map_err(|error| error.to_string())?;
    Ok(Issued {
        leaf: leaf.clone(),
        chain,
        anchors,
    })
}
