//! The client file and its flags: the server, its trust bundle, and the credential.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use crate::cli::config_arg::dev_dir;
use crate::cli::failure::{Exit, Failure};
use crate::config;
use crate::x509::{Certificate, read_certificates};

/// The server accepts no longer credential.
const MAX_CREDENTIAL: u64 = 16 * 1024;

/// A client file. Relative paths start at the file's directory.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::cli) struct RawClientConfig {
    /// The server, `https://host:port`.
    pub(in crate::cli) endpoint: Option<String>,
    /// The trust bundle that the server's certificate is verified with, PEM.
    pub(in crate::cli) bundle: Option<PathBuf>,
    /// A file with an operator's credential.
    pub(in crate::cli) credential_file: Option<PathBuf>,
    /// A file with a JWT.
    pub(in crate::cli) token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ClientArgs {
    /// A client file: endpoint, bundle, credential_file or token_file. Default: that of
    /// `rootbridge dev`.
    #[arg(long, value_name = "FILE", env = "ROOTBRIDGE_CLIENT")]
    client: Option<PathBuf>,
    /// The server.
    #[arg(long, value_name = "https://HOST:PORT")]
    endpoint: Option<String>,
    /// The trust bundle that the server's certificate is verified with, PEM.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

impl ClientArgs {
    /// A client file without flags.
    pub(super) fn file(client: &Path) -> Self {
        Self {
            client: Some(client.to_owned()),
            endpoint: None,
            bundle: None,
        }
    }
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Credential")]
#[group(multiple = false)]
pub(super) struct CredentialArgs {
    /// A file with an operator's credential.
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// A file with a JWT.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct ClientConfig {
    pub(super) endpoint: String,
    pub(super) bundle: PathBuf,
    credential: Option<PathBuf>,
}

impl ClientConfig {
    /// Flags take precedence over the client file.
    pub(super) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let (path, file) = client_file(args.client.clone())?;
        let missing = |what: &str| {
            let failure = Failure::new(Exit::Config, format!("no {what} is known"));
            let failure = match &path {
                Some(path) => failure.at(path.display()),
                None => {
                    failure.next("run `rootbridge dev` first, or name a client file with --client")
                }
            };
            failure.next(format!("or give --{what}"))
        };
        let endpoint = args.endpoint.clone().or(file.endpoint);
        let endpoint = endpoint.ok_or_else(|| missing("endpoint"))?;
        if !endpoint.starts_with("https://") {
            let message = format!("the endpoint `{endpoint}` is not https://HOST:PORT");
            return Err(Failure::new(Exit::Config, message));
        }
        let bundle = args.bundle.clone().or(file.bundle);
        Ok(Self {
            endpoint,
            bundle: bundle.ok_or_else(|| missing("bundle"))?,
            credential: file.credential_file.or(file.token_file),
        })
    }

    pub(super) fn credential(&self, args: &CredentialArgs) -> Result<SecretString, Failure> {
        credential(args, self.credential.as_deref())
    }
}

/// The credential for a command that needs nothing else of the client file.
pub(super) fn client_credential(
    client: Option<PathBuf>,
    args: &CredentialArgs,
) -> Result<SecretString, Failure> {
    let (_, file) = client_file(client)?;
    let path = file.credential_file.or(file.token_file);
    credential(args, path.as_deref())
}

/// The anchors that a server is verified with: of the flag's file, or else the client file's.
pub(super) fn bundle(
    client: Option<PathBuf>,
    flag: Option<PathBuf>,
) -> Result<Vec<Certificate>, Failure> {
    let file = match flag {
        Some(file) => Some(file),
        None => client_file(client)?.1.bundle,
    };
    let file = file.ok_or_else(|| {
        Failure::new(Exit::Config, "no trust bundle to verify the server with").next(
            "give --bundle FILE: rootbridge bundle fetch URL --fingerprint sha256:… --out FILE",
        )
    })?;
    let invalid = |message: String| Failure::new(Exit::Config, message).at(file.display());
    let text = std::fs::read(&file)
        .map_err(|error| invalid(format!("cannot read the trust bundle: {error}")))?;
    read_certificates(&text).map_err(|error| invalid(format!("it is no trust bundle: {error}")))
}

/// The credential in the file of the flag, or else in `default`.
fn credential(args: &CredentialArgs, default: Option<&Path>) -> Result<SecretString, Failure> {
    let flag = args
        .credential_file
        .as_deref()
        .or(args.token_file.as_deref());
    let file = flag.or(default).ok_or_else(|| {
        Failure::new(
            Exit::Config,
            "no credential to present: every caller must authenticate",
        )
        .next("give --credential-file FILE (an operator's) or --token-file FILE (a JWT)")
    })?;
    let invalid = |message: String| Failure::new(Exit::Config, message).at(file.display());
    let mut text = zeroize::Zeroizing::new(String::new());
    std::fs::File::open(file)
        .and_then(|open| open.take(MAX_CREDENTIAL + 1).read_to_string(&mut text))
        .map_err(|error| invalid(format!("cannot read the credential: {error}")))?;
    let token = text.trim();
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || !is_plain || text.len() as u64 > MAX_CREDENTIAL {
        let message = "the file holds no credential: one line of visible ASCII, at most 16 KiB";
        return Err(invalid(message.to_owned()));
    }
    Ok(SecretString::from(token))
}

/// The client file given, or else that of `rootbridge dev`, and its content.
fn client_file(given: Option<PathBuf>) -> Result<(Option<PathBuf>, RawClientConfig), Failure> {
    let path = given.or_else(|| {
        let file = dev_dir()?.join("client.toml");
        file.exists().then_some(file)
    });
    let content = path.as_deref().map(read).transpose()?.unwrap_or_default();
    Ok((path, content))
}

fn read(file: &Path) -> Result<RawClientConfig, Failure> {
    let mut client: RawClientConfig = config::read(file)?;
    let dir = file.parent().unwrap_or(Path::new(""));
    for path in [
        &mut client.bundle,
        &mut client.credential_file,
        &mut client.token_file,
    ] {
        *path = path.take().map(|path| dir.join(path));
    }
    Ok(client)
}
