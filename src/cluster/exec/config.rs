//! Which programs a kubeconfig may run, and with what environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::cluster::raw::RawExec;
use crate::config_issue::{ConfigIssue, ConfigIssues};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// `[clusters.NAME.exec]`. Whoever writes a kubeconfig chooses a program's arguments, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecConfig {
    /// By file name, which is how most kubeconfigs name them.
    programs: BTreeMap<String, PathBuf>,
    environment: BTreeSet<String>,
    timeout: Duration,
}

impl ExecConfig {
    pub(in crate::cluster) fn from_raw(raw: RawExec, at: &str) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let mut programs = BTreeMap::new();
        let key = format!("{at}.programs");
        if raw.programs.is_empty() {
            issues.push(ConfigIssue::new(key.clone(), "must name a program"));
        }
        for path in raw.programs {
            let plain = path.components().all(|part| part != Component::ParentDir);
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|_| path.is_absolute() && plain) else {
                let problem = format_args!("{} is not an absolute path", path.display());
                let issue = ConfigIssue::new(key.clone(), problem);
                issues.push(issue.with_fix("write the program's whole path, without `..`"));
                continue;
            };
            if let Some(other) = programs.insert(name.to_owned(), path.clone()) {
                let (a, b) = (other.display(), path.display());
                let problem = format_args!("{a} and {b} have the same name");
                issues.push(ConfigIssue::new(key.clone(), problem));
            }
        }
        let key = format!("{at}.environment");
        for name in &raw.environment {
            let first = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
            if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let name = name.escape_default();
                let problem = format_args!("\"{name}\" is not the name of a variable");
                issues.push(ConfigIssue::new(key.clone(), problem));
            } else if name.starts_with("LD_") {
                let problem = format_args!("with {name} a kubeconfig could load code");
                let issue = ConfigIssue::new(key.clone(), problem);
                issues.push(
                    issue.with_fix("link or wrap the program so that it needs no LD_ variable"),
                );
            }
        }
        let timeout = raw.timeout.unwrap_or(DEFAULT_TIMEOUT);
        issues.require(
            (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&timeout),
            format!("{at}.timeout"),
            "must be 1s to 5m",
        );
        issues.into_result(Some(Self {
            programs,
            environment: raw.environment.into_iter().collect(),
            timeout,
        }))
    }

    /// The program that a kubeconfig means by `command`: an allowed one's file name or its path.
    pub(super) fn program(&self, command: &Path) -> Option<&Path> {
        let found = match command.is_absolute() {
            true => self.programs.values().find(|path| *path == command),
            false => self.programs.get(command.to_str()?),
        };
        found.map(PathBuf::as_path)
    }

    pub(super) fn allows_variable(&self, name: &str) -> bool {
        self.environment.contains(name)
    }

    pub(super) fn environment(&self) -> impl Iterator<Item = &str> {
        self.environment.iter().map(String::as_str)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<ExecConfig, ConfigIssues> {
        ExecConfig::from_raw(toml::from_str(text).unwrap(), "clusters.east.exec")
    }

    #[test]
    fn a_program_is_named_by_its_file_name_or_its_whole_path() {
        let config = read("programs = ['/usr/local/bin/aws', '/opt/kubelogin']").unwrap();
        let found = |command: &str| config.program(Path::new(command)).and_then(Path::to_str);
        assert_eq!(found("aws"), Some("/usr/local/bin/aws"));
        assert_eq!(found("/opt/kubelogin"), Some("/opt/kubelogin"));
        for other in [
            "sh",
            "/tmp/aws",
            "bin/aws",
            "./aws",
            "",
            "/usr/local/bin/../bin/aws",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn what_would_widen_the_list_is_refused_with_its_key() {
        for (text, key) in [
            ("programs = []", "programs: must name a program"),
            (
                "programs = ['aws']",
                "programs: aws is not an absolute path",
            ),
            ("programs = ['/bin/../aws']", "programs: /bin/../aws is not"),
            (
                "programs = ['/a/aws', '/b/aws']",
                "programs: /a/aws and /b/aws have the same name",
            ),
            (
                "programs = ['/a']\nenvironment = ['A=B']",
                "environment: \"A=B\" is not",
            ),
            (
                "programs = ['/a']\nenvironment = ['']",
                "environment: \"\" is not",
            ),
            (
                "programs = ['/a']\nenvironment = ['LD_PRELOAD']",
                "environment: with LD_PRELOAD",
            ),
            (
                "programs = ['/a']\ntimeout = '0s'",
                "timeout: must be 1s to 5m",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("clusters.east.exec.{key}")),
                "{text}: {error}"
            );
        }
    }
}
