//! The bundle that an agent has applied last: on disk before it is in the cluster.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::digest::hex;
use crate::private_file;
use crate::x509::{TrustBundle, TrustDomain};

/// No bundle is longer.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the last bundle in {} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the last bundle could not be written to {}: {cause}", path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
    /// An agent without it might take an older bundle for a new one.
    #[error(
        "{} holds no bundle of {trust_domain} ({why}): if the file is to be given up, delete it; the agent \
         then takes whatever bundle the server has",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        trust_domain: TrustDomain,
        why: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    trust_domain: String,
    sequence: u64,
    digest: String,
    /// DER in base64.
    anchors: Vec<String>,
}

/// Reads the last bundle; `None` if there is none yet.
pub(super) fn load(
    path: &Path,
    trust_domain: &TrustDomain,
) -> Result<Option<TrustBundle>, StateError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        io::Read::read_to_string(&mut io::Read::take(file, MAX_BYTES), &mut text)?;
        Ok(text)
    };
    let text = match read() {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(StateError::Unreadable {
                path: path.to_owned(),
                cause,
            });
        }
    };
    parse(&text, trust_domain)
        .map(Some)
        .map_err(|why| StateError::Damaged {
            path: path.to_owned(),
            trust_domain: trust_domain.clone(),
            why,
        })
}

fn parse(text: &str, trust_domain: &TrustDomain) -> Result<TrustBundle, String> {
    let stored: Stored = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if stored.trust_domain != trust_domain.as_str() {
        return Err(format!("it is of {}", stored.trust_domain));
    }
    let anchors = stored.anchors.iter().map(|anchor| STANDARD.decode(anchor));
    let anchors = anchors
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let bundle = TrustBundle::new(trust_domain.clone(), stored.sequence, anchors)
        .map_err(|error| error.to_string())?;
    match hex(&bundle.digest()) == stored.digest {
        true => Ok(bundle),
        false => Err("its digest is another".to_owned()),
    }
}

/// Durable when it returns.
pub(super) fn store(path: &Path, bundle: &TrustBundle) -> Result<(), StateError> {
    let stored = Stored {
        trust_domain: bundle.trust_domain().to_string(),
        sequence: bundle.sequence(),
        digest: hex(&bundle.digest()),
        anchors: bundle
            .anchors()
            .iter()
            .map(|anchor| STANDARD.encode(anchor.der()))
            .collect(),
    };
    let text = serde_json::to_vec(&stored).unwrap_or_default();
    private_file::replace(path, &text).map_err(|cause| StateError::Unwritable {
        path: path.to_owned(),
        cause,
    })
}
