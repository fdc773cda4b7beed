//! Kubeconfigs, compared with what client-go makes of the same files (`tests/interop/kubeconfig`).

mod files;
mod rows;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use rootbridge::clock::SystemClock;
use rootbridge::cluster::{ApiClient, ClusterConfig, RawCluster, clusters, read_kubeconfig};
use rootbridge_test_support::command::run;
use rootbridge_test_support::files::repository;
use serde::Deserialize;

use files::{Files, SECRETS, hex_digest};
use rows::{Expected, Row, rows};

/// What both say of a kubeconfig.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    error: String,
    url: String,
    server_name: String,
    authorities: Vec<String>,
    client: String,
    proxy: String,
    headers: BTreeMap<String, Vec<String>>,
    exec: String,
}

/// What client-go says.
fn theirs(files: &Files, row: &Row) -> Answer {
    let mut command = Command::new(repository("build/interop/kubeconfig"));
    command.env_clear().envs(row.environment.iter().copied());
    let path = files.path("config");
    let text = run(command.arg(path).arg(row.context.unwrap_or_default()));
    serde_json::from_str(&text).unwrap()
}

fn config(row: &Row) -> ClusterConfig {
    let context = row
        .context
        .map(|context| format!("context = '{context}'\n"));
    let text = format!(
        "trust_domain = 'td'\nkubeconfig = '/c'\n{}exec = {{ programs = ['/opt/aws'] }}",
        context.unwrap_or_default()
    );
    let raw: RawCluster = toml::from_str(&text).unwrap();
    let mut all = clusters(BTreeMap::from([("east".to_owned(), raw)])).unwrap();
    all.remove("east").unwrap()
}

/// What Rootbridge says.
async fn ours(files: &Files, row: &Row) -> Answer {
    let path = files.path("config");
    let read = async {
        let environment: BTreeMap<_, _> = row.environment.iter().copied().collect();
        let variable = |name: &str| environment.get(name).map(|value| (*value).to_owned());
        let target = read_kubeconfig(&config(row), &path, &variable).await;
        let target = target.map_err(|error| error.to_string())?;
        let runs_a_program = target.runs_a_program();
        let digests = |chain: &[rustls_pki_types::CertificateDer<'_>]| {
            chain
                .iter()
                .map(|each| hex_digest(each))
                .collect::<Vec<_>>()
        };
        let server = target.server();
        let prefix = server.path().trim_end_matches('/');
        let authority = server.authority().unwrap();
        let mut answer = Answer {
            url: format!("https://{authority}{prefix}/version"),
            server_name: target.server_name(),
            authorities: target.authorities().map(digests).unwrap_or_default(),
            client: first(target.client_chain().map(digests)),
            proxy: target.proxy().map(ToString::to_string).unwrap_or_default(),
            ..Answer::default()
        };
        if runs_a_program {
            answer.exec = "a program".to_owned();
            return Ok(answer);
        }
        let client = ApiClient::new("east", target, Arc::new(SystemClock))?;
        let headers = client.credential_headers().await;
        for (name, value) in &headers.map_err(|error| error.to_string())? {
            let value = value.to_str().unwrap().to_owned();
            answer
                .headers
                .entry(name.to_string())
                .or_default()
                .push(value);
        }
        Ok(answer)
    };
    let read: Result<Answer, String> = read.await;
    read.unwrap_or_else(|error| Answer {
        error,
        ..Answer::default()
    })
}

fn first(all: Option<Vec<String>>) -> String {
    all.into_iter().flatten().next().unwrap_or_default()
}

/// What is the same in other words: a port that is the scheme's own, and a proxy's password, which we
/// never show.
fn normal(mut answer: Answer) -> Answer {
    if let Some((scheme, rest)) = answer.proxy.split_once("://") {
        let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
        let rest = rest.trim_end_matches('/');
        let port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => ":1080",
        };
        let has_port = rest
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        let port = if has_port { "" } else { port };
        answer.proxy = format!("{scheme}://{rest}{port}");
    }
    if !answer.exec.is_empty() {
        answer.exec = "a program".to_owned();
        answer.headers.clear();
    }
    answer
}

#[tokio::test]
async fn every_kubeconfig_is_read_as_client_go_reads_it() {
    let files = Files::new();
    let rows = rows(&files);
    let mut wrong = Vec::new();
    for row in &rows {
        files.write("config", &row.content);
        let (theirs, ours) = (normal(theirs(&files, row)), normal(ours(&files, row).await));
        let says = |fragment: &str| ours.error.contains(fragment) && !ours.error.is_empty();
        let is_right = match row.expected {
            Expected::Same => theirs.error.is_empty() && ours == theirs,
            Expected::Refused(fragment) => !theirs.error.is_empty() && says(fragment),
            Expected::Narrower(fragment) => theirs.error.is_empty() && says(fragment),
            Expected::Wider => !theirs.error.is_empty() && ours.error.is_empty(),
        };
        if !is_right {
            let expected = &row.expected;
            wrong.push(format!(
                "{}: {expected:?}\n  ours {ours:?}\n  theirs {theirs:?}",
                row.name
            ));
        }
        for secret in SECRETS {
            assert!(!ours.error.contains(secret), "{}: {}", row.name, ours.error);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}
