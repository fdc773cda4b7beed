//! Rootbridge beside a cluster.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use super::access::Credential;
use super::server::ApiServer;
use rootbridge_test_support::{TD, TestServer};

/// A CA whose configuration names clusters, each reached with a credential of its own. `more` is
/// added to the configuration's end: further sections.
pub(crate) fn rootbridge(clusters: &[(&str, &ApiServer, &Credential)], more: &str) -> TestServer {
    rootbridge_of(&[], clusters, more)
}

/// The same; the CA is made by `ca init` with further arguments.
pub(crate) fn rootbridge_of(
    init: &[&str],
    clusters: &[(&str, &ApiServer, &Credential)],
    more: &str,
) -> TestServer {
    let setup = TestServer::bare();
    setup.init(TD, init);
    let mut text = String::new();
    for (name, server, credential) in clusters {
        let kubeconfig = setup.path(&format!("{name}.kubeconfig"));
        fs::write(&kubeconfig, server.kubeconfig(credential)).unwrap();
        text.push_str(&format!(
            "\n[clusters.{name}]\ntrust_domain = \"{TD}\"\nkubeconfig = \"{}\"\n",
            kubeconfig.display()
        ));
    }
    text.push_str(more);
    let mut file = OpenOptions::new()
        .append(true)
        .open(setup.config())
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    setup
}
