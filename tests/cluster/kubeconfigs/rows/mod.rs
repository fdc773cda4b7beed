//! The table: kubeconfigs as people, tools and cloud providers write them.

mod addresses;
mod clusters;
mod documents;
mod users;

use super::files::{Files, base64};

/// What is expected, beside client-go's own verdict, which the test gets from client-go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// Both read the same from it.
    Same,
    /// Both refuse it; our message holds this.
    Refused(&'static str),
    /// client-go takes it and we do not, on purpose; our message holds this.
    Narrower(&'static str),
    /// We take it and client-go does not.
    Wider,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) content: Vec<u8>,
    pub(crate) context: Option<&'static str>,
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    pub(crate) expected: Expected,
}

const SERVER: &str = "server: https://api.example:6443";
const TOKEN: &str = "token: t0ken-written-here";

/// A kubeconfig with one cluster, one user and one context. Each line stands for itself in its block.
fn one(cluster: &str, user: &str) -> String {
    let block = |lines: &str| {
        let lines = lines.lines().map(|line| format!("    {line}\n"));
        lines.collect::<String>()
    };
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n{}users:\n- name: u\n  user:\n{}\
         contexts:\n- name: x\n  context:\n    cluster: c\n    user: u\ncurrent-context: x\n",
        block(cluster),
        block(user)
    )
}

fn wrapped(text: &str, by: &str) -> String {
    let encoded = base64(text);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).collect();
    let lines = lines.iter().map(|line| std::str::from_utf8(line).unwrap());
    lines.collect::<Vec<_>>().join(by)
}

struct Table(Vec<Row>);

impl Table {
    fn add(
        &mut self,
        name: &'static str,
        content: impl Into<Vec<u8>>,
        expected: Expected,
    ) -> &mut Row {
        self.0.push(Row {
            name,
            content: content.into(),
            context: None,
            environment: Vec::new(),
            expected,
        });
        self.0.last_mut().unwrap()
    }

    /// A row about the cluster; its user has a token.
    fn cluster(&mut self, name: &'static str, more: &str, expected: Expected) {
        self.add(name, one(&format!("{SERVER}\n{more}"), TOKEN), expected);
    }

    fn user(&mut self, name: &'static str, user: &str, expected: Expected) {
        self.add(name, one(SERVER, user), expected);
    }

    fn server(&mut self, name: &'static str, server: &str, expected: Expected) {
        let cluster = format!("server: {server}\ncertificate-authority: ca.crt");
        self.add(name, one(&cluster, TOKEN), expected);
    }
}

pub(crate) fn rows(files: &Files) -> Vec<Row> {
    let mut table = Table(Vec::new());
    clusters::rows(&mut table, files);
    addresses::servers(&mut table);
    addresses::proxies(&mut table);
    users::rows(&mut table, files);
    documents::rows(&mut table);
    table.0
}
