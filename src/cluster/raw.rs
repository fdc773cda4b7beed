//! The configuration of a cluster as it is written in the file.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// `[clusters.NAME]` in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCluster {
    /// Of the cluster's workloads.
    pub trust_domain: String,
    /// Other names that callers use for it (`clusterid`), such as `Kubernetes`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Absent: the cluster that this process runs in.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; absent: its current one.
    pub context: Option<String>,
    /// Programs that the kubeconfig's user may run for its credential.
    pub exec: Option<RawExec>,
    /// The namespaces whose identities it may authenticate; all when empty.
    #[serde(default)]
    pub namespaces: Vec<String>,
    #[serde(default)]
    pub audiences: RawClusterAudiences,
    #[serde(default)]
    pub authenticate: VerificationMode,
    /// `NAMESPACE/ACCOUNT` of node proxies, which may request certificates for the pods of their node.
    #[serde(default)]
    pub node_accounts: Vec<String>,
    /// Issuers of its tokens beside the published one.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Default 5 seconds.
    #[serde(default, with = "humantime_serde")]
    pub review_timeout: Option<Duration>,
    /// TokenReviews at a time; default 32.
    pub review_concurrency: Option<u32>,
    /// How long after the last contact a watch counts as up to date; default 1 minute.
    #[serde(default, with = "humantime_serde")]
    pub watch_silence: Option<Duration>,
}

/// `[clusters.NAME.exec]`: what a kubeconfig may run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExec {
    /// Absolute paths.
    pub programs: Vec<PathBuf>,
    /// Variables that reach a program, from the kubeconfig or from this process.
    #[serde(default)]
    pub environment: Vec<String>,
    /// For one run; default 30 seconds.
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

/// How a cluster's tokens are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerificationMode {
    /// By a TokenReview for each token.
    #[default]
    TokenReview,
    /// By the API server's published keys and the watched pods and accounts; a token that these cannot
    /// decide goes to TokenReview.
    Offline,
}

/// The audience of a cluster's tokens for each API. An API without one accepts none of its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawClusterAudiences {
    pub istio: Option<String>,
    pub certificates: Option<String>,
    pub linkerd: Option<String>,
    pub vault: Option<String>,
    pub sds: Option<String>,
    pub admin: Option<String>,
}
