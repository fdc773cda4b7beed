//! Why a kubeconfig cannot be used, and what to do.

use crate::cluster::bounded_file::FileError;
use crate::cluster::exec::ExecError;
use crate::cluster::identity::IdentityError;

/// Why a kubeconfig cannot be used. No variant holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "line {line}, column {column}: it is not a kubeconfig; `kubectl config view` says more"
    )]
    Yaml { line: u64, column: u64 },
    #[error("it is not of the kind Config, apiVersion v1")]
    Kind,
    #[error(
        "it has no current-context: set `context` in the cluster's configuration; its contexts: {known}"
    )]
    NoCurrentContext { known: String },
    #[error("it has no context {wanted}; its contexts: {known}")]
    UnknownContext { wanted: String, known: String },
    #[error("the {what} \"{name}\" of its context {context} is not in it")]
    Reference {
        context: String,
        what: &'static str,
        name: String,
    },
    #[error("it has two {what} named {name}: remove one")]
    Duplicate { what: &'static str, name: String },
    #[error("its cluster has no server")]
    NoServer,
    #[error("its server {0} is not an https URL with a host")]
    Server(String),
    #[error(
        "its server {0} is not https: an attacker on the way could authenticate any workload; give an \
         https URL"
    )]
    NotHttps(String),
    #[error(
        "insecure-skip-tls-verify is set: an attacker on the way could authenticate any workload; \
         remove it and give certificate-authority-data, with tls-server-name where the certificate has \
         another name"
    )]
    Insecure,
    #[error("its tls-server-name {0} is not a host name or an IP address")]
    ServerName(String),
    #[error("it has both {0} and {0}-data: remove one")]
    Both(&'static str),
    #[error("its {0} is not base64")]
    Base64(&'static str),
    #[error("its {field}: {why}")]
    Named { field: &'static str, why: FileError },
    #[error("its {0} holds no certificate in PEM")]
    NoAuthority(&'static str),
    #[error("a certificate in its {field} is not valid: {why}")]
    Authority { field: &'static str, why: String },
    #[error("its user has {present} without {missing}")]
    Half {
        present: &'static str,
        missing: &'static str,
    },
    #[error("its user: {0}")]
    Identity(#[from] IdentityError),
    #[error("its {0} is empty or holds what no HTTP header can")]
    Header(&'static str),
    #[error("its user has a token and a password: one way to authenticate is allowed")]
    TwoCredentials,
    #[error(
        "its user has as-uid, as-groups or as-user-extra without `as`: name the user to impersonate, or \
         remove them"
    )]
    ImpersonationWithoutUser,
    #[error(
        "its proxy-url {0} cannot be used: write http://, https:// or socks5:// with host and port"
    )]
    Proxy(String),
    #[error("the variable HTTPS_PROXY cannot be used: write http://HOST:PORT")]
    ProxyVariable,
    #[error("its user has the auth-provider {name}, which Kubernetes has replaced: {instead}")]
    AuthProvider { name: String, instead: &'static str },
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("this process is not in a pod ({0}): name a kubeconfig in the cluster's configuration")]
    NotInPod(&'static str),
}
