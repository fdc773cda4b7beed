//! The secret itself: read, judged, applied.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{GetParams, Patch, PatchParams, Request};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::controllers::http;
use crate::issuance::Issuer;
use crate::x509::{PublicKey, San, parse_pem_chain};

/// Who we are to server-side apply.
const MANAGER: &str = "rootbridge";
const TYPE: &str = "kubernetes.io/tls";

/// What the secret is to hold.
pub(super) struct Material {
    /// The leaf, then the intermediates, PEM.
    pub(super) chain: String,
    /// The private key, PEM.
    pub(super) key: Zeroizing<String>,
    /// The whole bundle, PEM.
    pub(super) anchors: String,
}

/// What the secret holds now.
pub(super) struct Found(Secret);

/// A certificate that is as it should be.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) renew_at: UnixTime,
    pub(super) key: PublicKey,
}

/// Reads the secret; `None` when there is none.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Found>, kube::Error> {
    let request = Request::new(path(namespace)).get(name, &GetParams::default());
    let request = request.map_err(kube::Error::BuildRequest)?;
    let Some((_, body)) = http::send(client, request).await? else {
        return Ok(None);
    };
    let secret = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
    Ok(Some(Found(secret)))
}

/// Writes the secret, as its owner: what others wrote over our fields is put back, what they added
/// beside them is left.
pub(super) async fn apply(
    client: &Client,
    namespace: &str,
    name: &str,
    made: &Material,
) -> Result<(), kube::Error> {
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": { "app.kubernetes.io/managed-by": MANAGER },
        },
        "type": TYPE,
        "data": {
            "tls.crt": STANDARD.encode(&made.chain),
            "tls.key": STANDARD.encode(made.key.as_bytes()),
            "ca.crt": STANDARD.encode(&made.anchors),
        },
    });
    let parameters = PatchParams::apply(MANAGER).force();
    let request = Request::new(path(namespace)).patch(name, &parameters, &Patch::Apply(&wanted));
    let request = request.map_err(kube::Error::BuildRequest)?;
    http::send(client, request).await.map(drop)
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

impl Found {
    /// Whether the secret is as it should be, and until when; or what is wrong with it.
    pub(super) fn standing(
        &self,
        names: &[San],
        issuer: &Issuer,
        anchors: &str,
        now: UnixTime,
    ) -> Result<Standing, &'static str> {
        let data = |key: &str| {
            let value = self.0.data.as_ref().and_then(|data| data.get(key));
            value.map(|bytes| bytes.0.as_slice()).unwrap_or_default()
        };
        if data("ca.crt") != anchors.as_bytes() {
            return Err("its ca.crt is not the trust bundle");
        }
        let chain = parse_pem_chain(data("tls.crt")).map_err(|_| "its tls.crt is no chain")?;
        let Some((leaf, above)) = chain.split_first() else {
            return Err("its tls.crt is empty");
        };
        let path = issuer.path().map(|each| each.der());
        if !above.iter().map(|each| each.der()).eq(path)
            || leaf
                .verify_signed_by(issuer.certificate().public_key())
                .is_err()
        {
            return Err("another issuer signed it");
        }
        let has: BTreeSet<_> = leaf.names().iter().collect();
        if has != names.iter().collect() || leaf.has_other_names() {
            return Err("it has other names");
        }
        let key = std::str::from_utf8(data("tls.key")).unwrap_or_default();
        let fits = KeyPair::from_pem(key)
            .is_ok_and(|key| key.subject_public_key_info() == leaf.public_key().spki_der());
        if !fits {
            return Err("its tls.key is not the certificate's");
        }
        let life = leaf.not_after().since(leaf.not_before());
        let renew_at = leaf.not_before().plus(life * 2 / 3);
        if now >= renew_at {
            return Err("two thirds of its life are over");
        }
        Ok(Standing {
            renew_at,
            key: leaf.public_key().clone(),
        })
    }
}
