//! Why a module may not start, where it gives a bare code: it reads its settings from files that
//! environment variables name.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Variables in which modules look for their configuration.
const VARIABLES: [&str; 12] = [
    "SOFTHSM2_CONF",
    "ChrystokiConfigurationPath",
    "CLOUDHSM_PKCS11_CONFIG",
    "CS_PKCS11_R3_CFG",
    "CS_PKCS11_R2_CFG",
    "FXPKCS11_CFG",
    "KMS_PKCS11_CONFIG",
    "KRYOPTIC_CONF",
    "NFAST_KMDATA",
    "TPM2_PKCS11_STORE",
    "YUBIHSM_PKCS11_CONF",
    "P11_KIT_SERVER_ADDRESS",
];

/// The likely causes, each with its variable. `configured` is hsm.environment.
pub(super) fn causes<'a>(
    module: &Path,
    configured: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<String> {
    let configured: Vec<(&str, &str)> = configured.collect();
    let mut causes = Vec::new();
    for (name, value) in &configured {
        check(name, value, "hsm.environment", &mut causes);
    }
    let from_process = VARIABLES
        .iter()
        .filter(|variable| !configured.iter().any(|(name, _)| name == *variable));
    for name in from_process {
        if let Ok(value) = std::env::var(name) {
            check(name, &value, "environment", &mut causes);
        }
    }
    let file_name = module.file_name().and_then(|name| name.to_str());
    let is_softhsm = file_name.is_some_and(|name| name.contains("softhsm"));
    if is_softhsm && std::env::var_os("SOFTHSM2_CONF").is_none() {
        causes.extend(softhsm_defaults());
    }
    causes
}

/// A value that names no path says nothing, and is not shown: it may be a secret.
fn check(name: &str, value: &str, source: &str, causes: &mut Vec<String>) {
    // A module on another host or in another process is named by an address.
    let path = value.strip_prefix("unix:path=").unwrap_or(value);
    if !path.starts_with('/') {
        return;
    }
    let path = Path::new(path);
    if let Some(problem) = problem(path) {
        causes.push(format!(
            "{name} ({source}) names {}, {problem}",
            path.display()
        ));
    } else if name == "SOFTHSM2_CONF" {
        causes.extend(token_directory(path));
    }
}

/// Why this process cannot use the path.
fn problem(path: &Path) -> Option<String> {
    let opened = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::read_dir(path).map(drop),
        // A socket is connected to, not opened.
        Ok(metadata) if !metadata.is_file() => Ok(()),
        Ok(_) => File::open(path).map(drop),
        Err(error) => Err(error),
    };
    let error = opened.err()?;
    Some(match error.kind() {
        ErrorKind::NotFound => "which is not there".to_owned(),
        ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            format!("which the user of this process (uid {user}) may not read")
        }
        _ => format!("which cannot be read: {error}"),
    })
}

/// What is wrong with `directories.tokendir` of SoftHSM's configuration.
fn token_directory(conf: &Path) -> Option<String> {
    let text = fs::read_to_string(conf).ok()?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "directories.tokendir").then(|| value.trim())
    });
    let shown = conf.display();
    match value {
        None => Some(format!("{shown} sets no directories.tokendir")),
        Some(directory) => {
            let problem = problem(Path::new(directory))?;
            Some(format!(
                "directories.tokendir in {shown} is {directory}, {problem}"
            ))
        }
    }
}

/// SoftHSM without the variable reads the first of these files.
fn softhsm_defaults() -> Option<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let of_home = home.map(|home| home.join(".config/softhsm2/softhsm2.conf"));
    let files = of_home
        .into_iter()
        .chain(["/etc/softhsm/softhsm2.conf".into()]);
    let files: Vec<PathBuf> = files.collect();
    match files.iter().find(|file| problem(file).is_none()) {
        Some(readable) => token_directory(readable),
        None => {
            let tried: Vec<_> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            Some(format!(
                "SOFTHSM2_CONF is not set, and {} cannot be read: name a configuration of SoftHSM in \
                 hsm.environment",
                tried.join(" and ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(value: &str) -> Vec<String> {
        let environment = [("SOFTHSM2_CONF", value)];
        causes(Path::new("/m.so"), environment.into_iter())
    }

    #[test]
    fn a_path_that_is_not_there_is_named_with_its_variable() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("softhsm2.conf");
        let shown = conf.display().to_string();
        assert_eq!(
            of(&shown),
            [format!(
                "SOFTHSM2_CONF (hsm.environment) names {shown}, which is not there"
            )]
        );
        let tokens = dir.path().join("tokens");
        fs::write(
            &conf,
            format!("directories.tokendir = {}\n", tokens.display()),
        )
        .unwrap();
        assert_eq!(
            of(&shown),
            [format!(
                "directories.tokendir in {shown} is {}, which is not there",
                tokens.display()
            )]
        );
        fs::create_dir(&tokens).unwrap();
        assert_eq!(of(&shown), [""; 0]);
        fs::write(&conf, "log.level = INFO\n").unwrap();
        assert_eq!(
            of(&shown),
            [format!("{shown} sets no directories.tokendir")]
        );
    }

    #[test]
    fn a_value_that_names_no_path_is_not_shown() {
        assert_eq!(of("s3cret"), [""; 0]);
        let socket = of("unix:path=/nowhere/p11-kit.sock");
        assert!(
            socket
                .iter()
                .all(|cause| cause.ends_with("names /nowhere/p11-kit.sock, which is not there")),
            "{socket:?}"
        );
        assert_eq!(socket.len(), 1);
    }
}
