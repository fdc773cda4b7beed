//! helm and kubectl, at a cluster with a control plane of Linkerd's shape (`stock/`).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use rootbridge_test_support::files::repository;
use serde_json::Value;
use tempfile::TempDir;

use crate::server::{ApiServer, built};

/// The release of the control plane.
const RELEASE: &str = "stock";

/// The administrator's programs in one namespace.
pub(crate) struct Tools {
    home: TempDir,
    namespace: String,
}

impl Tools {
    pub(crate) fn new(server: &ApiServer, namespace: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let kubeconfig = server.kubeconfig(&server.admin());
        fs::write(home.path().join("kubeconfig"), kubeconfig).unwrap();
        Self {
            home,
            namespace: namespace.to_owned(),
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let programs = built(program).parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap();
        Command::new(built(program))
            .args(arguments)
            .args(["-n", &self.namespace])
            // Nothing of this machine's own is read or written.
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            // The post-renderer finds kubectl as it would an operator's.
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("TMPDIR", self.home.path())
            .output()
            .unwrap()
    }

    /// What it printed.
    pub(crate) fn ok(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {message}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why it failed.
    pub(crate) fn refused(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    /// `helm upgrade --install` of the control plane.
    pub(crate) fn upgrade(&self, more: &[&str]) {
        let chart = repository("tests/k8s/linkerd/stock");
        let upgrade = ["upgrade", "--install", RELEASE, chart.to_str().unwrap()];
        self.ok("helm", &[&upgrade[..], more].concat());
    }

    /// What helm would send.
    pub(crate) fn rendered(&self, more: &[&str]) -> PathBuf {
        let chart = repository("tests/k8s/linkerd/stock");
        let template = ["template", RELEASE, chart.to_str().unwrap()];
        let text = self.ok("helm", &[&template[..], more].concat());
        let file = self.home.path().join("rendered.yaml");
        fs::write(&file, text).unwrap();
        file
    }

    /// An object without what changes with every write.
    pub(crate) fn object(&self, what: &str) -> Value {
        let text = self.ok("kubectl", &["get", what, "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// What is left in the directory for temporary files.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("tmp.")).collect()
    }
}

/// The entry of a list with this name.
pub(crate) fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let mut all = list.as_array().into_iter().flatten();
    all.find(|entry| entry["name"] == name)
}
