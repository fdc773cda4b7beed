//! Reads, checks and applies the secret.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource as _;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams};
use rcgen::{KeyPair, PublicKeyData as _};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::spec::{CertificateRole, SecretSpec};
use crate::clock::UnixTime;
use crate::cluster::{ApiClient, ApiError};
use crate::issuance::Issuer;
use crate::x509::{Certificate, KeyKind, PublicKey, parse_pem_chain};

/// The field manager of server-side apply.
const MANAGER: &str = "rootbridge";
const TYPE: &str = "kubernetes.io/tls";

pub(super) struct Material {
    /// PEM, the secret's own certificate first.
    pub(super) chain: String,
    /// PEM.
    pub(super) key: Zeroizing<String>,
    /// The trust bundle, PEM.
    pub(super) anchors: String,
}

pub(super) struct Found(Secret);

/// A secret that matches its specification.
#[derive(Debug)]
pub(super) struct SecretStatus {
    pub(super) renew_at: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) key: PublicKey,
}

/// Reads the secret; `None` when there is none.
pub(super) async fn read(
    client: &ApiClient,
    namespace: &str,
    name: &str,
) -> Result<Option<Found>, ApiError> {
    let secret = client.get(&path(namespace), name).await?;
    Ok(secret.map(Found))
}

/// Applies the secret. This restores the fields that others changed, and leaves fields that they
/// added.
pub(super) async fn apply(
    client: &ApiClient,
    namespace: &str,
    name: &str,
    material: &Material,
) -> Result<(), ApiError> {
    patch(client, namespace, name, material, &parameters()).await
}

/// Checks that [`apply`] would succeed: the namespace exists, the secret's type is correct, and RBAC
/// allows it.
pub(super) async fn dry_run(
    client: &ApiClient,
    namespace: &str,
    name: &str,
) -> Result<(), ApiError> {
    let empty = Material {
        chain: String::new(),
        key: Zeroizing::default(),
        anchors: String::new(),
    };
    patch(client, namespace, name, &empty, &parameters().dry_run()).await
}

fn parameters() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

async fn patch(
    client: &ApiClient,
    namespace: &str,
    name: &str,
    material: &Material,
    parameters: &PatchParams,
) -> Result<(), ApiError> {
    let mut wanted = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": { "app.kubernetes.io/managed-by": MANAGER },
        },
        "type": TYPE,
        "data": {
            "tls.crt": STANDARD.encode(&material.chain),
            "tls.key": STANDARD.encode(material.key.as_bytes()),
            "ca.crt": STANDARD.encode(&material.anchors),
        },
    });
    let request = Request::new(path(namespace)).patch(name, parameters, &Patch::Apply(&wanted));
    // The request has its own copy; this one would stay in memory.
    if let Some(Value::String(key)) = wanted.pointer_mut("/data/tls.key") {
        key.zeroize();
    }
    client.call::<IgnoredAny>(request?).await?;
    Ok(())
}

pub(super) fn path(namespace: &str) -> String {
    Secret::url_path(&(), Some(namespace))
}

impl Found {
    /// # Errors
    /// How the secret differs from its specification.
    pub(super) fn status(
        &self,
        spec: &SecretSpec,
        issuer: &Issuer,
        anchors: &str,
        now: UnixTime,
    ) -> Result<SecretStatus, &'static str> {
        let data = |key: &str| {
            let value = self.0.data.as_ref().and_then(|data| data.get(key));
            value.map(|bytes| bytes.0.as_slice()).unwrap_or_default()
        };
        if data("ca.crt") != anchors.as_bytes() {
            return Err("its ca.crt is not the trust bundle");
        }
        let chain = parse_pem_chain(data("tls.crt"))
            .map_err(|_| "its tls.crt is not a certificate chain")?;
        let Some((own, above)) = chain.split_first() else {
            return Err("its tls.crt is empty");
        };
        let path = issuer.path().map(|each| each.der());
        if !above.iter().map(|each| each.der()).eq(path)
            || own
                .verify_signed_by(issuer.certificate().public_key())
                .is_err()
        {
            return Err("another issuer signed it");
        }
        matches_spec(own, spec)?;
        let key = std::str::from_utf8(data("tls.key")).unwrap_or_default();
        let key_matches = KeyPair::from_pem(key)
            .is_ok_and(|key| key.subject_public_key_info() == own.public_key().spki_der());
        if !key_matches {
            return Err("its tls.key does not belong to the certificate");
        }
        let lifetime = own.not_after().since(own.not_before());
        let renew_at = own.not_before().plus(spec.role.renewal_age(lifetime));
        if now >= renew_at {
            return Err("it is time to renew it");
        }
        Ok(SecretStatus {
            renew_at,
            not_after: own.not_after(),
            key: own.public_key().clone(),
        })
    }
}

fn matches_spec(own: &Certificate, spec: &SecretSpec) -> Result<(), &'static str> {
    let has: BTreeSet<_> = own.names().iter().collect();
    if has != spec.names.iter().collect() || own.has_other_names() {
        return Err("it has other names");
    }
    let role_matches = match spec.role {
        CertificateRole::Leaf => !own.is_ca(),
        CertificateRole::Ca { .. } => own.is_ca() && own.path_len() == Some(0),
    };
    if !role_matches {
        return Err("it has another role");
    }
    // The kind generated here; `linkerd check` accepts no other for an issuer.
    match own.public_key().kind() {
        KeyKind::EcdsaP256 => Ok(()),
        _ => Err("its key is of another kind"),
    }
}
