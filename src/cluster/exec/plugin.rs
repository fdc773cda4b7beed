//! A kubeconfig's exec section, held against what the configuration allows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::ExecConfig;
use super::error::{ExecError, Hint};
use crate::cluster::text::one_line;

/// `users[].user.exec`, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Request {
    pub(in crate::cluster) api_version: Option<String>,
    pub(in crate::cluster) command: Option<String>,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    install_hint: Option<String>,
    interactive_mode: Option<String>,
    pub(in crate::cluster) provide_cluster_info: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: String,
}

/// An allowed program with its arguments.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Plugin {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// What the kubeconfig sets.
    pub(super) variables: Vec<(String, String)>,
    /// What is taken over from this process.
    pub(super) inherited: Vec<String>,
    pub(super) api_version: &'static str,
    /// The content of KUBERNETES_EXEC_INFO.
    pub(super) info: String,
    install_hint: Option<String>,
    pub(super) timeout: Duration,
}

const V1: &str = "client.authentication.k8s.io/v1";
const V1BETA1: &str = "client.authentication.k8s.io/v1beta1";
/// Set for every program, from this process.
const ALWAYS: [&str; 2] = ["HOME", "PATH"];

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({})", self.program.display())
    }
}

impl Plugin {
    /// `directory` is the kubeconfig's, and `cluster_info` what the program learns of the cluster if
    /// it wants to know.
    pub(in crate::cluster) fn new(
        request: Request,
        allowed: Option<&ExecConfig>,
        cluster: &str,
        directory: &Path,
        cluster_info: Value,
    ) -> Result<Self, ExecError> {
        let api_version = match request.api_version.as_deref().unwrap_or_default() {
            V1 => V1,
            V1BETA1 => V1BETA1,
            other => {
                let found = one_line(other, 100);
                return Err(ExecError::Version { found });
            }
        };
        match request.interactive_mode.as_deref().unwrap_or_default() {
            "Never" | "IfAvailable" => {}
            "" if api_version == V1BETA1 => {}
            "" => return Err(ExecError::NoInteractiveMode),
            "Always" => return Err(ExecError::Interactive),
            other => return Err(ExecError::UnknownMode(one_line(other, 100))),
        }
        let command = request.command.filter(|command| !command.is_empty());
        let command = command.ok_or(ExecError::NoCommand)?;
        // A name alone is that of an allowed program. PATH is never searched.
        let path = match command.contains('/') {
            true => directory.join(&command),
            false => PathBuf::from(&command),
        };
        let Some((allowed, program)) = allowed.and_then(|a| Some((a, a.program(&path)?))) else {
            return Err(ExecError::NotAllowed {
                command: one_line(&command, 200),
                cluster: cluster.to_owned(),
                hint: Hint(request.install_hint),
            });
        };
        let variables = request.env.unwrap_or_default().into_iter();
        let variables: Vec<_> = variables.map(|one| (one.name, one.value)).collect();
        if let Some((name, _)) = variables
            .iter()
            .find(|(name, _)| !allowed.allows_variable(name))
        {
            return Err(ExecError::Variable {
                name: one_line(name, 100),
                program: program.display().to_string(),
                cluster: cluster.to_owned(),
            });
        }
        let spec = match request.provide_cluster_info {
            Some(true) => json!({ "interactive": false, "cluster": cluster_info }),
            _ => json!({ "interactive": false }),
        };
        let info = json!({ "apiVersion": api_version, "kind": "ExecCredential", "spec": spec });
        let inherited = ALWAYS.into_iter().chain(allowed.environment());
        Ok(Self {
            program: program.to_owned(),
            arguments: request.args.unwrap_or_default(),
            variables,
            inherited: inherited.map(str::to_owned).collect(),
            api_version,
            info: info.to_string(),
            install_hint: request.install_hint,
            timeout: allowed.timeout(),
        })
    }

    pub(super) fn hint(&self) -> Hint {
        Hint(self.install_hint.clone())
    }
}
