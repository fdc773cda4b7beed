//! `sys/…`: health and mounts.

use http::{StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::api::{Holder, VaultApi};
use super::config::Mount;
use super::envelope::Answer;
use super::error::VaultError;
use super::route::MountCall;
use crate::digest::{hex, sha256};

/// Identifiers that Vault makes at random, and that are derived from names here.
fn id(kind: &str, name: &str) -> String {
    let digest = hex(&sha256(format!("{kind} {name}").as_bytes()));
    digest.chars().take(8).collect()
}

impl VaultApi {
    /// Whether any mount can sign. While none can, cert-manager has its requests wait, which would fail for
    /// good otherwise.
    fn can_sign(&self) -> bool {
        let mounts = self.config().mounts();
        let mut issuers = mounts.iter().filter_map(|mount| self.issuer(mount));
        issuers.any(|issuer| issuer.is_ready())
    }

    /// 200, or 503 while no mount can sign. A query may name other codes, as Vault's may.
    pub(super) fn health(&self, uri: &Uri) -> Answer {
        let sealed = !self.can_sign();
        let code = |name: &str| {
            let pairs = uri.query().unwrap_or_default().split('&');
            let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            let code = values.next()?.parse::<u16>().ok()?;
            StatusCode::from_u16(code)
                .ok()
                .filter(|code| !code.is_informational())
        };
        let status = match sealed {
            false => code("activecode").unwrap_or(StatusCode::OK),
            true => code("sealedcode").unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        };
        let body = json!({
            "initialized": true,
            "sealed": sealed,
            "standby": false,
            "performance_standby": false,
            "replication_performance_mode": "disabled",
            "replication_dr_mode": "disabled",
            "server_time_utc": self.clock.now().secs(),
            "version": env!("CARGO_PKG_VERSION"),
            "cluster_name": "rootbridge",
            "cluster_id": "rootbridge",
        });
        Answer::Plain(status, body)
    }

    pub(super) fn seal_status(&self) -> Answer {
        let body = json!({
            "type": "pkcs11",
            "initialized": true,
            "sealed": !self.can_sign(),
            "t": 1,
            "n": 1,
            "progress": 0,
            "nonce": "",
            "version": env!("CARGO_PKG_VERSION"),
            "build_date": "",
            "migration": false,
            "cluster_name": "rootbridge",
            "cluster_id": "rootbridge",
            "recovery_seal": false,
            "storage_type": "rootbridge",
        });
        Answer::Plain(StatusCode::OK, body)
    }

    pub(super) fn list_mounts(&self, namespace: &str, holder: &Holder) -> Answer {
        let mounts = self.config().mounts().iter();
        let mounts = mounts.filter(|mount| {
            mount.namespace == namespace && mount.authority == holder.caller().trust_domain
        });
        let data: Map<String, Value> = mounts
            .map(|mount| (format!("{}/", mount.name), self.described(mount)))
            .collect();
        Answer::data(Value::Object(data))
    }

    fn described(&self, mount: &Mount) -> Value {
        let accessor = format!("pki_{}", id("mount", &mount.name));
        json!({
            "accessor": accessor,
            "config": self.tuning(),
            "description": format!("the authority of {}", mount.authority),
            "external_entropy_access": false,
            "local": false,
            "options": null,
            "plugin_version": "",
            "running_plugin_version": env!("CARGO_PKG_VERSION"),
            "running_sha256": "",
            "seal_wrap": false,
            "type": "pki",
            "uuid": id("uuid", &mount.name),
        })
    }

    fn tuning(&self) -> Value {
        json!({ "default_lease_ttl": 0, "force_no_cache": false, "max_lease_ttl": 0 })
    }

    /// `sys/mounts/NAME` and its `/tune`. Mounts are configuration: a call neither makes nor removes one.
    pub(super) fn mount(
        &self,
        namespace: &str,
        name: &str,
        what: MountCall,
        holder: &Holder,
    ) -> Result<Answer, VaultError> {
        let mut mounts = self.config().mounts().iter();
        let found = mounts.find(|mount| mount.name == name && mount.namespace == namespace);
        let Some(mount) = found else {
            let shown = name.escape_default();
            return match what {
                MountCall::Disable => Ok(Answer::Nothing),
                MountCall::Enable => Err(VaultError::invalid(format!(
                    "mounts are made in this server's configuration: have its operator write \
                     [vault.mount.{shown}] with `authority` (the trust domain), and restart it"
                ))),
                _ => Err(VaultError::invalid(format!(
                    "no mount is at {shown}/; configured ones are in [vault.mount]"
                ))),
            };
        };
        self.admit(holder.caller(), mount)?;
        match what {
            MountCall::Read => Ok(Answer::data(self.described(mount))),
            MountCall::ReadTune => Ok(Answer::data(self.tuning())),
            MountCall::Enable | MountCall::Tune => Ok(Answer::Nothing),
            MountCall::Disable => {
                tracing::warn!(
                    mount = mount.name, caller = %holder.caller().identity,
                    "a client asked to remove a mount: it stays, and so do its keys"
                );
                Ok(Answer::Nothing)
            }
        }
    }
}
