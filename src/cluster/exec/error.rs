//! Why a program gives no credential.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::text::one_line;

/// Why a program that a kubeconfig names gives no credential. No variant holds its standard output.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error(
        "its user gets its credential from the program {command}, and clusters.{cluster}.exec does not \
         allow it: add the program's absolute path to clusters.{cluster}.exec.programs{hint}"
    )]
    NotAllowed {
        command: String,
        cluster: String,
        hint: Hint,
    },
    #[error(
        "it sets the variable {name} for {program}, and clusters.{cluster}.exec.environment does not \
         name it"
    )]
    Variable {
        name: String,
        program: String,
        cluster: String,
    },
    #[error(
        "its exec section has the apiVersion {found}; client.authentication.k8s.io/v1 and v1beta1 are \
         supported: write the kubeconfig again with a later version of the provider's tool"
    )]
    Version { found: String },
    #[error("its exec section has no command")]
    NoCommand,
    #[error(
        "its exec section has no interactiveMode, which client.authentication.k8s.io/v1 requires: \
         write `interactiveMode: Never`"
    )]
    NoInteractiveMode,
    #[error(
        "its exec section needs a terminal (interactiveMode: Always), and a server has none: use a \
         credential that needs no person"
    )]
    Interactive,
    #[error("its exec section has the interactiveMode {0}; it is Never, IfAvailable or Always")]
    UnknownMode(String),
    #[error("the program {} cannot be started: {why}{hint}", .program.display())]
    Start {
        program: PathBuf,
        why: io::Error,
        hint: Hint,
    },
    #[error("the program {} may be changed by every user: chmod o-w", .0.display())]
    Writable(PathBuf),
    #[error("the program {} did not end within {} s and was stopped", .program.display(), .after.as_secs())]
    Timeout { program: PathBuf, after: Duration },
    #[error("the program {} failed ({status}){said}{hint}", .program.display())]
    Failed {
        program: PathBuf,
        status: String,
        said: Said,
        hint: Hint,
    },
    #[error("the output of {}: {why}", .program.display())]
    Output { program: PathBuf, why: &'static str },
}

/// The `installHint` of a kubeconfig, for the end of a message.
#[derive(Clone, Debug, Default)]
pub struct Hint(pub(super) Option<String>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => Ok(()),
            Some(hint) => write!(f, "; the kubeconfig says: {}", one_line(hint.trim(), 400)),
        }
    }
}

/// The last line that a program wrote to its standard error. Long words are left out: one may be a
/// credential.
#[derive(Clone, Debug)]
pub struct Said(Option<String>);

const LONGEST_WORD: usize = 64;

impl Said {
    pub(super) fn new(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        Self(last.map(|line| {
            let words = line.split_whitespace();
            let words = words.map(|word| {
                if word.len() > LONGEST_WORD {
                    "…"
                } else {
                    word
                }
            });
            one_line(&words.collect::<Vec<_>>().join(" "), 300)
        }))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str(" and said nothing"),
            Some(said) => write!(f, ": {said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_said_is_one_line_without_credentials() {
        let token = "e".repeat(100);
        let said = Said::new(format!("trace\nbad token {token}, try\u{7} again\n\n").as_bytes());
        assert_eq!(said.to_string(), ": bad token … try  again");
        assert_eq!(Said::new(b" \n").to_string(), " and said nothing");
    }
}
