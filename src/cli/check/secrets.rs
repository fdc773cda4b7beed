//! Files that hold secrets or records: who may read them, and what `serve` will find in them.

use std::path::{Path, PathBuf};

use super::report::Report;
use crate::authn::{read_credential, read_keys};
use crate::config::Config;
use crate::file_access::exposed;
use crate::hsm::PinSource;
use crate::ledger::LedgerStore;

const CATEGORY: &str = "files";

/// Warns of what others may read or write.
pub(super) fn access(config: &Config, report: &mut Report) {
    let (mut examined, mut warned) = (0, false);
    for (name, path) in files(config) {
        // What is missing is found by the check of what needs it.
        let Ok(found) = exposed(&path) else {
            continue;
        };
        examined += 1;
        if let Some((what, command)) = found {
            warned = true;
            let detail = format!("{}: {what}", path.display());
            report.warn(CATEGORY, &name, detail).hint(command);
        }
    }
    if !warned {
        let detail = format!("{examined} files with secrets or records are the service's alone");
        report.pass(CATEGORY, "access", detail);
    }
}

fn files(config: &Config) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let mut add = |name: String, path: &Path| files.push((name, path.to_owned()));
    match config.ledger().store() {
        LedgerStore::Sqlite(ledger) => {
            for end in ["", "-wal", "-shm"] {
                let mut name = ledger.as_os_str().to_owned();
                name.push(end);
                add(format!("ledger{end}"), Path::new(&name));
            }
        }
        LedgerStore::Postgres(settings) => {
            for (what, path) in settings.secret_files() {
                add(what.to_owned(), path);
            }
        }
    }
    for name in config.hsm().token_names() {
        let pin = config.hsm().token(name).and_then(|token| token.pin());
        if let Some(PinSource::File(path)) = pin {
            add(format!("PIN of {name}"), path);
        }
    }
    for (name, operator) in config.authn().operators() {
        add(format!("credential of {name}"), operator.credential_file());
    }
    for listener in config.listeners() {
        if let Some((_, key)) = listener.tls().files() {
            add(format!("key of {}", listener.name()), key);
        }
    }
    for (name, cluster) in config.clusters() {
        if let Some(kubeconfig) = cluster.kubeconfig() {
            add(format!("kubeconfig of {name}"), kubeconfig);
        }
    }
    files
}

/// Operators' credentials and issuers' key sets, read as the server reads them.
pub(super) async fn contents(config: &Config, report: &mut Report) {
    for (name, operator) in config.authn().operators() {
        let item = format!("credential of {name}");
        match read_credential(operator.credential_file()) {
            Ok(_) => report.pass(CATEGORY, &item, operator.credential_file().display()),
            Err(error) if error.is_missing() => report
                .fail(CATEGORY, &item, error)
                .hint(format!("rootbridge operator new {name}")),
            Err(error) => report.error(CATEGORY, &item, error),
        }
    }
    for (name, issuer) in config.authn().jwt() {
        let item = format!("keys of {name}");
        match read_keys(issuer).await {
            Ok(count) => report.pass(CATEGORY, &item, crate::cli::format::count(count, "key")),
            Err(error) => report.error(CATEGORY, &item, error),
        }
    }
}
