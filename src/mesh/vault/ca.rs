//! What a mount shows of its CA, and the calls that would change it.

use serde_json::{Value, json};

use super::api::{Holder, VaultApi, pem, presented};
use super::config::Mount;
use super::envelope::Answer;
use super::error::VaultError;
use super::route::PkiCall;
use crate::digest::hex;
use crate::issuance::Issuer;
use crate::x509::Certificate;

/// What clients call the issuing CA's key and certificate, beside their identifiers.
const DEFAULT: &str = "default";

/// The identifier of a certificate, in the form of a UUID.
fn issuer_id(certificate: &Certificate) -> String {
    uuid(&certificate.fingerprint())
}

/// The identifier of its key.
pub(super) fn key_id(certificate: &Certificate) -> String {
    uuid(&certificate.public_key().fingerprint())
}

fn uuid(digest: &[u8; 32]) -> String {
    let text = hex(digest);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let parts = [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ];
    parts.join("-")
}

/// With colons, as Vault writes it.
pub(super) fn serial(certificate: &Certificate) -> String {
    let bytes = certificate.serial().as_bytes().iter();
    let bytes: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

impl VaultApi {
    /// Reads that need no credential.
    pub(super) fn public(&self, mount: &Mount, call: PkiCall<'_>) -> Result<Answer, VaultError> {
        let issuer = self.issuer(mount);
        let path = issuer.as_deref().map(|issuer| presented(issuer, mount));
        let path = path.unwrap_or_default();
        let pems = || {
            let pems: Vec<String> = path.iter().map(|each| pem(each)).collect();
            pems.join("\n")
        };
        match (call, path.first()) {
            // As an engine without a CA: 204.
            (PkiCall::CaDer | PkiCall::CaPem | PkiCall::CaChain, None) => Ok(Answer::Nothing),
            (PkiCall::CaDer, Some(own)) => Ok(Answer::Raw {
                content_type: "application/pkix-cert",
                body: own.der().to_vec(),
            }),
            (PkiCall::CaPem, Some(own)) => Ok(Answer::Raw {
                content_type: "application/pem-certificate-chain",
                body: pem(own).into_bytes(),
            }),
            (PkiCall::CaChain, Some(_)) => Ok(Answer::Raw {
                content_type: "application/pem-certificate-chain",
                body: pems().into_bytes(),
            }),
            (PkiCall::IssuerPem(name), Some(own)) if is_called(own, name) => Ok(Answer::Raw {
                content_type: "application/pem-certificate-chain",
                body: pem(own).into_bytes(),
            }),
            (PkiCall::CaData { chain }, Some(own)) => {
                let text = if chain { pems() } else { pem(own) };
                Ok(Answer::data(json!({
                    "certificate": text,
                    "ca_chain": pems(),
                    "issuer_id": issuer_id(own),
                    "revocation_time": 0,
                    "revocation_time_rfc3339": "",
                })))
            }
            _ => Err(VaultError::invalid(
                "unable to find PKI issuer for reference",
            )),
        }
    }

    /// Issuers and keys: there is one of each, and no client changes them.
    pub(super) fn ca(
        &self,
        mount: &Mount,
        call: PkiCall<'_>,
        holder: &Holder,
    ) -> Result<Answer, VaultError> {
        let issuer = self.issuer(mount);
        let issuer = issuer.as_deref().ok_or_else(|| not_initialised(mount))?;
        let path = presented(issuer, mount);
        let own = path.first().ok_or_else(|| not_initialised(mount))?;
        let unknown = || VaultError::invalid("unable to find PKI issuer for reference");
        match call {
            PkiCall::ListIssuers => {
                let id = issuer_id(own);
                Ok(Answer::data(json!({
                    "keys": [id],
                    "key_info": { &id: {
                        "is_default": true,
                        "issuer_name": DEFAULT,
                        "key_id": key_id(own),
                        "serial_number": serial(own),
                    } },
                })))
            }
            PkiCall::Issuer(name) if is_called(own, name) => {
                Ok(Answer::data(described(own, &path)))
            }
            PkiCall::DefaultIssuer => Ok(Answer::data(json!({
                "default": issuer_id(own),
                "default_follows_latest_issuer": true,
            }))),
            PkiCall::ListKeys => {
                let id = key_id(own);
                Ok(Answer::data(json!({
                    "keys": [id],
                    "key_info": { &id: { "is_default": true, "key_name": DEFAULT } },
                })))
            }
            PkiCall::Key(name) if is_key(own, name) => Ok(Answer::data(json!({
                "key_id": key_id(own),
                "key_name": DEFAULT,
                "key_type": kind(issuer),
                "subject_key_id": own.subject_key_id().map(hex).unwrap_or_default(),
            }))),
            PkiCall::Issuer(_) | PkiCall::Key(_) => Err(unknown()),
            PkiCall::DeleteKey(name) | PkiCall::DeleteIssuer(name) => {
                tracing::warn!(
                    mount = mount.name, name, caller = %holder.caller().identity,
                    "a client asked to delete a key or an issuer: nothing is deleted"
                );
                Ok(Answer::Data {
                    data: Value::Null,
                    warnings: vec![
                        "nothing is deleted: a key in the HSM ends with `rootbridge key prune`, by its \
                         operator"
                            .to_owned(),
                    ],
                })
            }
            PkiCall::WriteSetting => Ok(Answer::Data {
                data: Value::Null,
                warnings: vec![
                    "nothing is changed: the mount's settings are in this server's configuration"
                        .to_owned(),
                ],
            }),
            PkiCall::ReadSetting => Ok(Answer::data(json!({ "enabled": false }))),
            _ => Err(VaultError::UnsupportedOperation),
        }
    }
}

pub(super) fn not_initialised(mount: &Mount) -> VaultError {
    VaultError::invalid(format!(
        "the authority of {domain} has no active issuing CA now: have this server's operator run \
         `rootbridge ca init --trust-domain {domain}`, or `ca request` and `ca import`, or look at \
         `rootbridge check`",
        domain = mount.authority
    ))
}

fn is_called(own: &Certificate, name: &str) -> bool {
    name == DEFAULT || name == issuer_id(own)
}

fn is_key(own: &Certificate, name: &str) -> bool {
    name == DEFAULT || name == key_id(own)
}

/// `ec`, `rsa` or `ed25519`.
fn kind(issuer: &Issuer) -> String {
    let kind = issuer.certificate().public_key().kind().to_string();
    match kind.split('-').next() {
        Some("ecdsa") => "ec".to_owned(),
        Some(other) => other.to_owned(),
        None => kind,
    }
}

fn described(own: &Certificate, path: &[&Certificate]) -> Value {
    let chain: Vec<String> = path.iter().map(|each| pem(each)).collect();
    json!({
        "ca_chain": chain,
        "certificate": pem(own),
        "crl_distribution_points": [],
        "issuer_id": issuer_id(own),
        "issuer_name": DEFAULT,
        "issuing_certificates": [],
        "key_id": key_id(own),
        "leaf_not_after_behavior": "truncate",
        "manual_chain": null,
        "ocsp_servers": [],
        "revocation_signature_algorithm": "",
        "revoked": false,
        "usage": "issuing-certificates,read-only",
    })
}
