//! Programs that give the credential for a cluster.

use std::fs;
use std::ops::Not as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rootbridge_test_support::{PATIENCE, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_api_server::FakeApiServer;
use crate::fixture::{Fixture, ISSUER};

const V1: &str = "client.authentication.k8s.io/v1";

/// A cluster whose kubeconfig runs a script. Each run adds a line to the file `runs`.
struct Setup {
    fake: FakeApiServer,
    directory: TempDir,
    exec: Value,
}

impl Setup {
    async fn new(script: &str) -> Self {
        let setup = Self {
            fake: FakeApiServer::start(ISSUER).await,
            directory: tempfile::tempdir().unwrap(),
            exec: json!({
                "apiVersion": V1, "command": "credential", "interactiveMode": "Never",
                "provideClusterInfo": true, "args": ["a b", "$HOME;`id`"],
                "env": [{ "name": "FROM_KUBECONFIG", "value": "x y" }],
                "installHint": "install the\nprogram",
            }),
        };
        let runs = setup.path("runs");
        let text = format!(
            "#!/bin/sh\ncd {}\necho run >> {}\n{script}\n",
            setup.directory.path().display(),
            runs.display()
        );
        fs::write(setup.path("credential"), text).unwrap();
        setup.allow(0o755);
        fs::write(runs, "").unwrap();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn allow(&self, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.path("credential"), mode).unwrap();
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs"))
            .unwrap()
            .lines()
            .count()
    }

    /// Accepts this token and no other, and lets the script print it.
    fn token(&self, token: &str, more: &Value) {
        let mut status = json!({ "token": token });
        status
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = json!({ "apiVersion": V1, "kind": "ExecCredential", "status": status });
        fs::write(self.path("answer"), answer.to_string()).unwrap();
        *self.fake.token.lock().unwrap() = Some(token.to_owned());
    }

    fn kubeconfig(&self) -> String {
        let mut kubeconfig: Value = serde_json::from_str(&self.fake.kubeconfig()).unwrap();
        kubeconfig["users"][0]["user"] = json!({ "exec": self.exec });
        kubeconfig.to_string()
    }

    fn allowed(&self) -> String {
        let program = self.path("credential");
        let environment = "'FROM_KUBECONFIG', 'CARGO_MANIFEST_DIR'";
        format!(
            "exec = {{ programs = ['{}'], environment = [{environment}], timeout = '2s' }}\n",
            program.display()
        )
    }

    fn start(&self) -> Fixture {
        Fixture::with_kubeconfig(&self.kubeconfig(), &self.allowed())
    }
}

async fn error(fixture: &Fixture) -> String {
    let client = fixture.cluster("east").connection().client().await;
    let answer = client.unwrap().get_path::<Value>("/version").await;
    answer.unwrap_err().to_string()
}

async fn is_up(fixture: &Fixture) {
    let cluster = fixture.cluster("east");
    eventually(PATIENCE, "the cluster is up", async || cluster.is_up()).await;
}

#[tokio::test]
async fn a_program_gets_its_arguments_and_the_named_environment_and_nothing_else() {
    let script = "printf '%s|' \"$@\" > arguments; /usr/bin/env > environment; cat answer";
    let setup = Setup::new(script).await;
    setup.token("first", &json!({}));
    let fixture = setup.start();
    is_up(&fixture).await;
    assert_eq!(setup.runs(), 1, "without an end the credential is kept");
    let arguments = fs::read_to_string(setup.path("arguments")).unwrap();
    assert_eq!(arguments, "a b|$HOME;`id`|", "no shell has seen them");
    let environment = fs::read_to_string(setup.path("environment")).unwrap();
    let mut names: Vec<_> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    names.sort_unstable();
    let value = |wanted: &str| {
        names
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| *value)
    };
    assert_eq!(value("FROM_KUBECONFIG"), Some("x y"));
    assert_eq!(
        value("CARGO_MANIFEST_DIR"),
        Some(env!("CARGO_MANIFEST_DIR"))
    );
    let info: Value = serde_json::from_str(value("KUBERNETES_EXEC_INFO").unwrap()).unwrap();
    assert_eq!(info["apiVersion"], V1);
    assert_eq!(info["spec"]["interactive"], false);
    let server = info["spec"]["cluster"]["server"].as_str().unwrap();
    assert!(setup.fake.kubeconfig().contains(server), "{info}");
    // The shell adds PWD, OLDPWD, SHLVL and _.
    let known = [
        "CARGO_MANIFEST_DIR",
        "FROM_KUBECONFIG",
        "HOME",
        "KUBERNETES_EXEC_INFO",
        "PATH",
    ];
    let shells = ["OLDPWD", "PWD", "SHLVL", "_"];
    let others = names
        .iter()
        .filter(|(name, _)| !known.contains(name) && !shells.contains(name));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
}

#[tokio::test]
async fn a_credential_that_is_refused_is_replaced_and_the_request_sent_again() {
    let setup = Setup::new("cat answer").await;
    setup.token("first", &json!({}));
    let fixture = setup.start();
    is_up(&fixture).await;
    // The program does not run more often than every 2 seconds because of refusals.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let refused = setup
        .fake
        .unauthorized
        .load(std::sync::atomic::Ordering::SeqCst);
    setup.token("second", &json!({}));
    let client = fixture.cluster("east").connection().client().await.unwrap();
    client.get_path::<Value>("/version").await.unwrap();
    assert_eq!(setup.runs(), 2);
    let now = setup
        .fake
        .unauthorized
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(now, refused + 1);
}

#[tokio::test]
async fn a_credential_is_replaced_before_it_ends() {
    // It lives for 10 seconds, so that it is replaced from the eighth on, by a probe.
    let script = "end=$(date -u -d '+10 seconds' +%Y-%m-%dT%H:%M:%SZ)\nsed \"s/END/$end/\" answer";
    let setup = Setup::new(script).await;
    setup.token("first", &json!({ "expirationTimestamp": "END" }));
    let fixture = setup.start();
    is_up(&fixture).await;
    let started = Instant::now();
    eventually(PATIENCE, "a second run", async || setup.runs() == 2).await;
    assert!(
        started.elapsed() > Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        setup
            .fake
            .unauthorized
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[tokio::test]
async fn a_program_that_fails_is_named_with_what_it_said_and_runs_seldom() {
    let secret = "s".repeat(80);
    let script = format!("echo first >&2; echo \"no session {secret}, log in\" >&2; exit 7");
    let setup = Setup::new(&script).await;
    let fixture = setup.start();
    let says = error(&fixture).await;
    let program = setup.path("credential");
    assert_eq!(
        says,
        format!(
            "the API server is unreachable: the program {} failed (exit status: 7): no session … log in; \
             the kubeconfig says: install the program",
            program.display()
        )
    );
    for _ in 0..20 {
        assert_eq!(error(&fixture).await, says);
    }
    assert!(setup.runs() <= 2, "{} runs", setup.runs());
}

#[tokio::test]
async fn a_program_that_does_not_end_is_stopped_with_its_children() {
    let setup = Setup::new("sleep 600 & echo $! > child; wait").await;
    let fixture = setup.start();
    let says = error(&fixture).await;
    assert!(
        says.ends_with("did not end within 2 s and was stopped"),
        "{says}"
    );
    let child = fs::read_to_string(setup.path("child")).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    eventually(PATIENCE, "the child has ended", async || {
        // A zombie has ended too.
        fs::read_to_string(&stat)
            .is_ok_and(|stat| !stat.contains(") Z "))
            .not()
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_no_credential_is_refused_without_its_content() {
    let answer = |status: &str| {
        format!(
            "echo '{{\"apiVersion\":\"{V1}\",\"kind\":\"ExecCredential\",\"status\":{status}}}'"
        )
    };
    for (script, says) in [
        (
            "echo t0ken".to_owned(),
            "it is not an ExecCredential in JSON",
        ),
        (
            "yes t0ken | head -c 300000".to_owned(),
            "it is longer than 256 KiB",
        ),
        (answer("null"), "it has no status, and so no credential"),
        (
            answer("{}"),
            "it has neither a token nor a client certificate",
        ),
        (
            answer("{\"clientKeyData\":\"t0ken\"}"),
            "it has a client certificate or a key without the other",
        ),
        (
            answer("{\"token\":\"t0 ken\"}"),
            "its token holds what no HTTP header can",
        ),
        (
            answer("{\"token\":\"t0ken\",\"expirationTimestamp\":\"2020-01-01T00:00:00Z\"}"),
            "the credential has expired already: compare the clocks",
        ),
        (
            answer("{\"token\":\"t0ken\",\"expirationTimestamp\":\"soon\"}"),
            "its expirationTimestamp is no date",
        ),
        (
            answer("{}").replace("/v1\"", "/v1beta1\""),
            "its apiVersion is not the one that the kubeconfig asks for",
        ),
    ] {
        let setup = Setup::new(&script).await;
        let fixture = setup.start();
        let found = error(&fixture).await;
        assert!(
            found.ends_with(&format!("credential: {says}")),
            "{script}: {found}"
        );
        assert!(!found.contains("t0"), "{found}");
    }
}

#[tokio::test]
async fn a_program_that_every_user_may_change_does_not_run() {
    let setup = Setup::new("cat answer").await;
    setup.token("first", &json!({}));
    setup.allow(0o757);
    let fixture = setup.start();
    let says = error(&fixture).await;
    assert!(
        says.ends_with("may be changed by every user: chmod o-w"),
        "{says}"
    );
    assert_eq!(setup.runs(), 0);
}
