//! `[upstream.NAME]` as it is written: the keys of every kind.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::ConfigIssue;

/// How an upstream CA is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawKind {
    Adcs,
    AwsPca,
    CertManager,
    Cmp,
    Ejbca,
    Command,
    Vault,
    StepCa,
    Cfssl,
    Est,
    Offline,
}

/// How this server logs in to Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawLogin {
    Token,
    Approle,
    /// With a token of this server's own service account.
    Kubernetes,
    /// With the client certificate.
    Cert,
}

/// Where this server's credential for AWS comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawCredentials {
    Environment,
    File,
    /// A token of this server's own service account.
    WebIdentity,
    Container,
    Instance,
}

/// How a shared secret protects what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawMac {
    PasswordBasedMac,
    Pbmac1,
}

/// `[upstream.NAME]`: the keys of every kind, and those that kinds have. A kind takes what it uses, and
/// what is left is a mistake.
macro_rules! raw_upstream {
    ($($(#[$doc:meta])* $key:ident: $value:ty,)+) => {
        /// `[upstream.NAME]` of the configuration file. `kind` says which of the other keys it may have.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct RawUpstream {
            /// How the CA is reached.
            pub kind: RawKind,
            /// How long one call may take. Default 60s.
            #[serde(default, with = "humantime_serde")]
            pub timeout: Option<Duration>,
            /// The first pause between two polls, or after a failure. Default 30s.
            #[serde(default, with = "humantime_serde")]
            pub poll: Option<Duration>,
            /// The longest such pause. Default 6h.
            #[serde(default, with = "humantime_serde")]
            pub longest_poll: Option<Duration>,
            /// The first pause after a request was refused or cancelled. Default 1h.
            #[serde(default, with = "humantime_serde")]
            pub after_refusal: Option<Duration>,
            $($(#[$doc])* #[serde(default)] pub $key: Option<$value>,)+
        }

        impl RawUpstream {
            /// The keys that the kind did not take.
            pub(super) fn left(&self) -> impl Iterator<Item = &'static str> {
                [$((stringify!($key), self.$key.is_some()),)+]
                    .into_iter()
                    .filter_map(|(key, is_left)| is_left.then_some(key))
            }
        }
    };
}

raw_upstream! {
    /// `command`: the program, by its whole path.
    program: PathBuf,
    /// `command`: its arguments.
    arguments: Vec<String>,
    /// `command`: the environment variables that it gets from this process, beside HOME and PATH.
    environment: Vec<String>,
    /// The server's URL.
    address: String,
    /// The only trusted roots of its certificate. Default: the system's.
    ca_file: PathBuf,
    /// What this server shows of itself in TLS: certificates, its own first.
    client_certificate_file: PathBuf,
    /// The key of the first of them.
    client_key_file: PathBuf,
    /// The name for HTTP's Basic authentication.
    username: String,
    /// A file with the password for it.
    password_file: PathBuf,
    /// A variable with it, instead of a file.
    password_env: String,
    /// `step-ca`: the name of the provisioner.
    provisioner: String,
    /// `step-ca` and `cfssl`: a file with the key that requests are authenticated with.
    key_file: PathBuf,
    /// `step-ca` and `cfssl`: a variable with it, instead of a file.
    key_env: String,
    /// `cfssl`: the profile. Default: the CA's default one. `aws-pca`: the one in the file of credentials.
    profile: String,
    /// `cfssl` and `est`: which of several CAs.
    label: String,
    /// `cfssl`: the certificates above the CA's own.
    chain_file: PathBuf,
    /// `offline`: where requests are written.
    directory: PathBuf,
    /// `vault`: where the PKI secrets engine is. Default `pki`.
    mount: String,
    /// `vault`: the issuer in it. Default: the engine's default one. `cert-manager`: the issuer.
    issuer: String,
    /// `vault`, `cert-manager`: the namespace.
    namespace: String,
    /// `cert-manager`: the cluster, by its name in `[clusters.NAME]`.
    cluster: String,
    /// `cert-manager`: the issuer's kind. Default `Issuer`.
    issuer_kind: String,
    /// `cert-manager`: the group of that kind. Default `cert-manager.io`.
    issuer_group: String,
    /// `adcs`: the certificate template. Default `SubCA`. `aws-pca`: the template. Default: that for
    /// subordinate CAs with the authority's pathLenConstraint.
    template: String,
    /// `ejbca`: the CA's name. `aws-pca`: its ARN. `cmp`: the CA's subject, which messages are for. Default for `cmp`: none.
    certificate_authority: String,
    /// `ejbca`: the certificate profile's name.
    certificate_profile: String,
    /// `ejbca`: the end entity profile's name.
    end_entity_profile: String,
    /// `aws-pca`: where the credential comes from. Default `environment`.
    credentials: RawCredentials,
    /// `aws-pca` with `file`: a file of shared credentials.
    credentials_file: PathBuf,
    /// `aws-pca` with `web-identity`: the URL of STS. Default: that of the CA's region.
    sts_address: String,
    /// `cmp`: what the CA calls the shared secret.
    reference: String,
    /// `cmp`: a file with the shared secret that messages are protected by.
    secret_file: PathBuf,
    /// `cmp`: a variable with it, instead of a file.
    secret_env: String,
    /// `cmp`: how the shared secret protects what is sent. Default `password-based-mac`.
    mac: RawMac,
    /// `cmp`: the certificates whose keys sign answers.
    server_certificate_file: PathBuf,
    /// `vault`: how this server logs in. Default `token`.
    login: RawLogin,
    /// `vault`: where the login method is. Default: its name.
    login_mount: String,
    /// `vault` with `token`: a file with the token; with `kubernetes`: with the service account's.
    /// `aws-pca` with `web-identity`: the same.
    token_file: PathBuf,
    /// `vault` with `token`: a variable with it, instead of a file.
    token_env: String,
    /// `vault` with `kubernetes` or `cert`: the role to log in as. `aws-pca` with `web-identity`: its ARN.
    role: String,
    /// `vault` with `approle`: the role's id.
    role_id: String,
    /// `vault` with `approle`: a file with the secret id.
    secret_id_file: PathBuf,
    /// `vault` with `approle`: a variable with it, instead of a file.
    secret_id_env: String,
}

/// The path of a file, which must not depend on where the server was started.
pub(super) fn absolute(path: Option<PathBuf>, key: &str) -> Result<Option<PathBuf>, ConfigIssue> {
    match path {
        Some(path) if !path.is_absolute() => {
            let problem = format_args!("{} is not an absolute path", path.display());
            Err(ConfigIssue::new(key, problem))
        }
        path => Ok(path),
    }
}

/// A key that the kind cannot do without.
pub(super) fn required<T>(value: Option<T>, key: &str) -> Result<T, ConfigIssue> {
    value.ok_or_else(|| ConfigIssue::new(key, "is missing, and this kind of upstream needs it"))
}
