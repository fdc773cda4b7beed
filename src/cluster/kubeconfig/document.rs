//! A kubeconfig as it is written. Field names are Kubernetes'; unknown ones are passed over, as
//! client-go does, and an empty text means that the field is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use super::error::KubeconfigError;
use crate::cluster::exec::Request;
use crate::cluster::text::one_line;

/// A text that may be a credential.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secret(Zeroizing<String>);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Zeroizing::new(text)))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    kind: Option<String>,
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(rename = "current-context")]
    current_context: Option<String>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
    contexts: Option<Vec<NamedContext>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Option<Cluster>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Option<Context>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: Option<String>,
    user: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Cluster {
    pub(super) server: Option<String>,
    pub(super) tls_server_name: Option<String>,
    pub(super) insecure_skip_tls_verify: Option<bool>,
    pub(super) certificate_authority: Option<String>,
    pub(super) certificate_authority_data: Option<Secret>,
    pub(super) proxy_url: Option<Secret>,
    pub(super) disable_compression: Option<bool>,
    extensions: Option<Vec<Extension>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Extension {
    name: String,
    extension: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct User {
    pub(super) client_certificate: Option<String>,
    pub(super) client_certificate_data: Option<Secret>,
    pub(super) client_key: Option<String>,
    pub(super) client_key_data: Option<Secret>,
    pub(super) token: Option<Secret>,
    #[serde(rename = "tokenFile")]
    pub(super) token_file: Option<String>,
    #[serde(rename = "as")]
    pub(super) impersonate: Option<String>,
    pub(super) as_uid: Option<String>,
    pub(super) as_groups: Option<Vec<String>>,
    pub(super) as_user_extra: Option<BTreeMap<String, Vec<String>>>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) auth_provider: Option<AuthProvider>,
    pub(super) exec: Option<Request>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthProvider {
    pub(super) name: String,
}

impl Cluster {
    /// What the cluster's author wants a program to know.
    pub(super) fn exec_extension(&self) -> Option<&Value> {
        let all = self.extensions.as_deref().unwrap_or_default();
        let found = all
            .iter()
            .find(|one| one.name == "client.authentication.k8s.io/exec");
        found.map(|one| &one.extension)
    }
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, KubeconfigError> {
        // Its first document, as client-go reads it.
        let documents = serde_saphyr::from_multiple::<Option<Self>>(text).map_err(|error| {
            // The rest of the error may quote a credential.
            let at = error.location();
            KubeconfigError::Yaml {
                line: at.map_or(0, |at| at.line()),
                column: at.map_or(0, |at| at.column()),
            }
        })?;
        let document = documents.into_iter().next().flatten().unwrap_or_default();
        let is = |field: &Option<String>, expected| {
            field
                .as_deref()
                .is_none_or(|found| found.is_empty() || found == expected)
        };
        if !is(&document.kind, "Config") || !is(&document.api_version, "v1") {
            return Err(KubeconfigError::Kind);
        }
        let clusters = document.clusters.iter().flatten().map(|one| &one.name);
        let users = document.users.iter().flatten().map(|one| &one.name);
        let contexts = document.contexts.iter().flatten().map(|one| &one.name);
        unique("clusters", clusters)?;
        unique("users", users)?;
        unique("contexts", contexts)?;
        Ok(document)
    }

    /// The cluster and the user of the context `wanted` or, without one, of the current context.
    pub(super) fn select(&self, wanted: Option<&str>) -> Result<(Cluster, User), KubeconfigError> {
        let contexts = self.contexts.as_deref().unwrap_or_default();
        let known = || {
            let names: Vec<_> = contexts
                .iter()
                .map(|context| context.name.as_str())
                .collect();
            names.join(" ")
        };
        let wanted = wanted
            .or(self.current_context.as_deref())
            .unwrap_or_default();
        if wanted.is_empty() {
            return Err(KubeconfigError::NoCurrentContext { known: known() });
        }
        let found = contexts.iter().find(|context| context.name == wanted);
        let Some(context) = found else {
            return Err(KubeconfigError::UnknownContext {
                wanted: wanted.to_owned(),
                known: known(),
            });
        };
        let missing = |what: &'static str, name: &Option<String>| KubeconfigError::Reference {
            context: wanted.to_owned(),
            what,
            name: name.clone().unwrap_or_default(),
        };
        let empty = Context::default();
        let Context { cluster, user } = context.context.as_ref().unwrap_or(&empty);
        let clusters = self.clusters.as_deref().unwrap_or_default();
        let of_name = |name: &str, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_some_and(|wanted| !wanted.is_empty() && wanted == name)
        };
        let named = clusters.iter().find(|one| of_name(&one.name, cluster));
        let named = named.ok_or_else(|| missing("cluster", cluster))?;
        let users = self.users.as_deref().unwrap_or_default();
        let owner = users.iter().find(|one| of_name(&one.name, user));
        let is_anonymous = user.as_deref().unwrap_or_default().is_empty();
        if owner.is_none() && !is_anonymous {
            return Err(missing("user", user));
        }
        let owner = owner.and_then(|owner| owner.user.clone());
        let cluster = named.cluster.clone().unwrap_or_default();
        Ok((cluster, owner.unwrap_or_default()))
    }
}

fn unique<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), KubeconfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let name = one_line(name, 200);
            return Err(KubeconfigError::Duplicate { what, name });
        }
    }
    Ok(())
}
