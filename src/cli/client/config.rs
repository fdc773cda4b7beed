//! Which server, how it is known, and who we are to it: the client file and its flags.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use crate::cli::config_arg::dev_dir;
use crate::cli::failure::{Exit, Failure};
use crate::config;

/// No token of ours is longer; the server takes no longer one.
const MAX_CREDENTIAL: u64 = 16 * 1024;

/// A client file as it is written. Relative paths start at the file's own directory.
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

/// Which server to talk to; each flag goes before the client file.
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
    /// A client file and no flags.
    pub(super) fn file(client: &Path) -> Self {
        Self {
            client: Some(client.to_owned()),
            endpoint: None,
            bundle: None,
        }
    }
}

/// Who is asking; goes before the client file.
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

/// A server and how it is known.
#[derive(Debug)]
pub(super) struct ClientConfig {
    pub(super) endpoint: String,
    pub(super) bundle: PathBuf,
    credential: Option<PathBuf>,
}

impl ClientConfig {
    pub(super) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let (file, written) = client_file(args.client.clone())?;
        let missing = |what: &str| {
            let failure = Failure::new(Exit::Config, format!("no {what} is known"));
            let failure = match &file {
                Some(file) => failure.at(file.display().to_string()),
                None => {
                    failure.next("run `rootbridge dev` first, or name a client file with --client")
                }
            };
            failure.next(format!("or give --{what}"))
        };
        let endpoint = args
            .endpoint
            .clone()
            .or(written.endpoint)
            .ok_or_else(|| missing("endpoint"))?;
        if !endpoint.starts_with("https://") {
            let what = format!("the endpoint `{endpoint}` is not https://HOST:PORT");
            return Err(Failure::new(Exit::Config, what));
        }
        Ok(Self {
            endpoint,
            bundle: args
                .bundle
                .clone()
                .or(written.bundle)
                .ok_or_else(|| missing("bundle"))?,
            credential: written.credential_file.or(written.token_file),
        })
    }

    /// The credential to present.
    pub(super) fn credential(&self, args: &CredentialArgs) -> Result<SecretString, Failure> {
        credential(args, self.credential.as_deref())
    }
}

/// The credential to present where nothing else of a client file is needed.
pub(super) fn client_credential(
    client: Option<PathBuf>,
    args: &CredentialArgs,
) -> Result<SecretString, Failure> {
    let (_, written) = client_file(client)?;
    let file = written.credential_file.or(written.token_file);
    credential(args, file.as_deref())
}

fn credential(args: &CredentialArgs, written: Option<&Path>) -> Result<SecretString, Failure> {
    let said = args
        .credential_file
        .as_deref()
        .or(args.token_file.as_deref());
    let file = said.or(written).ok_or_else(|| {
        Failure::new(
            Exit::Config,
            "no credential to present: nobody is trusted for being near",
        )
        .next("give --credential-file FILE (an operator's) or --token-file FILE (a JWT)")
    })?;
    secret(file)
}

/// The client file that is named, else that of `rootbridge dev`, and what it says.
fn client_file(named: Option<PathBuf>) -> Result<(Option<PathBuf>, RawClientConfig), Failure> {
    let file = named.or_else(|| {
        let file = dev_dir()?.join("client.toml");
        file.exists().then_some(file)
    });
    let written = file.as_deref().map(read).transpose()?.unwrap_or_default();
    Ok((file, written))
}

fn read(file: &Path) -> Result<RawClientConfig, Failure> {
    let (mut client, _) = config::read::<RawClientConfig>(file, &BTreeMap::new())?;
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

fn secret(file: &Path) -> Result<SecretString, Failure> {
    let mut text = zeroize::Zeroizing::new(String::new());
    std::fs::File::open(file)
        .and_then(|open| open.take(MAX_CREDENTIAL + 1).read_to_string(&mut text))
        .map_err(|error| {
            Failure::new(Exit::Config, format!("cannot read the credential: {error}"))
                .at(file.display().to_string())
        })?;
    let token = text.trim();
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || !plain || text.len() as u64 > MAX_CREDENTIAL {
        let what = "the file holds no credential: one line of visible ASCII, at most 16 KiB";
        return Err(Failure::new(Exit::Config, what).at(file.display().to_string()));
    }
    Ok(SecretString::from(token))
}
