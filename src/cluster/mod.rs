//! Kubernetes clusters: the connection to each API server, the client for it, and the authentication
//! of workloads by it. `controllers` writes to clusters.

mod api;
mod bearer;
mod bounded_file;
mod callers;
#[expect(clippy::module_inception, reason = "the type of that name")]
mod cluster;
mod clusters;
mod collector;
mod config;
mod connection;
mod credential;
mod error;
mod exec;
mod follower;
mod identity;
mod index;
mod inspector;
mod kubeconfig;
mod listener_clusters;
mod metrics;
mod names;
mod node_authorization;
mod notices;
mod offline;
mod permission;
mod probe;
mod published;
mod raw;
mod remembered;
mod renewal;
mod review_gate;
mod target;
mod text;
mod token_review;
mod transport;

pub use api::{ApiClient, ApiError, Collection};
pub use callers::CallersConfig;
pub use cluster::Cluster;
pub use clusters::Clusters;
pub use config::{ClusterConfig, check_clusters, clusters};
pub use connection::{Connection, connect_once};
pub use error::ClusterUnavailable;
pub use exec::{ExecConfig, ExecError};
pub use follower::{Follower, Source, Versioned, WATCH_TIME, WatchEvent};
pub use index::{AccountRecord, Index, PodRecord, replay as replay_watch};
pub use inspector::{AudienceCheck, Inspector, ServerInfo};
pub use kubeconfig::{KubeconfigError, read as read_kubeconfig};
pub use listener_clusters::ListenerClusters;
pub(crate) use names::{is_label, is_subdomain};
pub use node_authorization::NodeAuthorizationError;
pub use notices::{Notice, Notices};
pub use permission::Permission;
pub use raw::{RawCluster, RawClusterAudiences, RawExec, VerificationMode};
pub use target::{Proxy, Target};
pub use token_review::{TokenSubject, evaluate as evaluate_review};
