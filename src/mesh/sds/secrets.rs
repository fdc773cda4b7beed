//! The secrets by name: which roots each of them holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;
use prost_types::Any;
use tonic::Status;

use crate::digest::{hex, sha256};
use crate::mesh::proto::envoy::config::core::v3::data_source::Specifier;
use crate::mesh::proto::envoy::config::core::v3::{DataSource, TypedExtensionConfig};
use crate::mesh::proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use crate::mesh::proto::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain as ValidatorDomain;
use crate::mesh::proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig,
};
use crate::trust::{PublishedBundle, PublishedBundles};
use crate::x509::TrustDomain;

/// Of the resources.
pub(super) const TYPE_URL: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR_TYPE_URL: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
/// The name under which Envoy knows its validator.
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";

/// The roots of the caller's own trust domain, for certificates with any names.
const ROOTS: &str = "ROOTCA";
/// The roots of every trust domain, each for its own SPIFFE IDs.
const ALL: &str = "ALL";
/// What precedes a trust domain: its roots, for its own SPIFFE IDs.
const SCHEME: &str = "spiffe://";

/// The most names of a stream.
const MAX_NAMES: usize = 64;
/// The longest name, in bytes: a trust domain has 255 at most.
const MAX_NAME_LEN: usize = 512;

/// A secret with its version.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub name: String,
    /// A digest: the same from every replica, and after a restart.
    pub version: String,
    pub secret: Any,
}

/// What a caller may subscribe to.
#[derive(Debug)]
pub(super) struct Secrets {
    bundles: Arc<PublishedBundles>,
    own: TrustDomain,
}

impl Secrets {
    pub(super) fn new(bundles: &Arc<PublishedBundles>, own: TrustDomain) -> Self {
        Self {
            bundles: Arc::clone(bundles),
            own,
        }
    }

    /// The secret of this name, while there is one.
    pub(super) fn get(&self, name: &str) -> Option<Named> {
        let context = match name {
            ROOTS => roots(&*self.bundles.current(&self.own)?),
            ALL => {
                let all = self.bundles.all();
                validator(all.iter().map(|published| &**published))?
            }
            name => {
                let domain = TrustDomain::parse(name.strip_prefix(SCHEME)?).ok()?;
                validator([&*self.bundles.current(&domain)?].into_iter())?
            }
        };
        let secret = Secret {
            name: name.to_owned(),
            r#type: Some(Type::ValidationContext(context)),
        };
        let value = secret.encode_to_vec();
        Some(Named {
            name: name.to_owned(),
            version: hex(&sha256(&value)),
            secret: Any {
                type_url: TYPE_URL.to_owned(),
                value,
            },
        })
    }

    /// Those of `names` that there are.
    pub(super) fn existing(&self, names: &BTreeSet<String>) -> Vec<Named> {
        names.iter().filter_map(|name| self.get(name)).collect()
    }
}

fn roots(published: &PublishedBundle) -> CertificateValidationContext {
    CertificateValidationContext {
        trusted_ca: Some(pem(published)),
        custom_validator_config: None,
    }
}

fn validator<'a>(
    bundles: impl Iterator<Item = &'a PublishedBundle>,
) -> Option<CertificateValidationContext> {
    let trust_domains = bundles.map(|published| ValidatorDomain {
        name: published.bundle.trust_domain().to_string(),
        trust_bundle: Some(pem(published)),
    });
    let config = SpiffeCertValidatorConfig {
        trust_domains: trust_domains.collect(),
    };
    // A validator without trust domains is none that Envoy takes.
    (!config.trust_domains.is_empty()).then(|| CertificateValidationContext {
        trusted_ca: None,
        custom_validator_config: Some(TypedExtensionConfig {
            name: VALIDATOR.to_owned(),
            typed_config: Some(Any {
                type_url: VALIDATOR_TYPE_URL.to_owned(),
                value: config.encode_to_vec(),
            }),
        }),
    })
}

fn pem(published: &PublishedBundle) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineString(published.pem.clone())),
    }
}

/// Refuses another type of resources.
// The error is as large as tonic made it.
#[allow(clippy::result_large_err)]
pub(super) fn check_type(url: &str) -> Result<(), Status> {
    match url {
        "" | TYPE_URL => Ok(()),
        _ => Err(Status::invalid_argument(format!(
            "type_url: this service has {TYPE_URL}"
        ))),
    }
}

/// Refuses names that are too many or too long.
// The error is as large as tonic made it.
#[allow(clippy::result_large_err)]
pub(super) fn check_names(names: &BTreeSet<String>) -> Result<(), Status> {
    if names.len() > MAX_NAMES || names.iter().any(|name| name.len() > MAX_NAME_LEN) {
        return Err(Status::invalid_argument(format!(
            "resource_names: at most {MAX_NAMES}, each of at most {MAX_NAME_LEN} bytes"
        )));
    }
    Ok(())
}
