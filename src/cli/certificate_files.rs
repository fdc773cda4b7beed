//! Certificates from the files that a command names.

use std::path::PathBuf;

use super::failure::{Exit, Failure};
use super::files;
use crate::x509::{Certificate, read_certificates};

/// The certificates of all files, each once. `-` is standard input.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Certificate>, Failure> {
    let mut all: Vec<Certificate> = Vec::new();
    for path in paths {
        let contents = files::read(path)?;
        let certificates = read_certificates(&contents).map_err(|error| {
            let shown = match path.as_os_str() == "-" {
                true => "standard input".into(),
                false => path.display().to_string(),
            };
            // In the commands that convert it.
            let message = error.to_string().replace("FILE", &shown);
            Failure::new(Exit::Failed, message).at(shown)
        })?;
        for certificate in certificates {
            if !all.contains(&certificate) {
                all.push(certificate);
            }
        }
    }
    Ok(all)
}
