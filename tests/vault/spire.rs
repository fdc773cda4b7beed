//! A real SPIRE whose upstream authority is this server, as docs/how-to/spire.md has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbridge::clock::{Clock as _, SystemClock};
use rootbridge::x509::{Certificate, parse_pem_chain, verify_ca_path};
use rootbridge_test_support::command::{output, run};
use rootbridge_test_support::files::{documented, repository, write_secret};
use rootbridge_test_support::process::Process;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, free_port};
use serde_json::Value;

use crate::harness::{VaultServer, configured};

/// The page's login, which other logins replace.
const APPROLE: &str = "approle_auth {";

/// A directory of one SPIRE server and its agent.
struct Spire {
    directory: PathBuf,
    /// Of server.conf.
    authority: String,
    port: u16,
    server: Option<Process>,
}

fn program(name: &str) -> Command {
    let program = repository("build/spire").join(name);
    let path = program.display();
    assert!(program.exists(), "no {path}; run `make setup`");
    Command::new(program)
}

impl Spire {
    /// `login`: a block to log in with, in place of the page's.
    fn new(setup: &TestServer, server: &RunningServer, name: &str, login: Option<&str>) -> Self {
        let directory = setup.path(name);
        fs::create_dir_all(&directory).unwrap();
        let url = format!("https://localhost:{}", server.port_of("vault"));
        let roots = setup.path(&format!("{TD}.pem")).display().to_string();
        let mut authority = documented("spire.md", "hcl");
        for (from, to) in [
            ("https://rootbridge.example:8200", &*url),
            ("/opt/spire/conf/rootbridge-ca.pem", &roots),
            ("\"spire\"", "\"admin\""),
            ("rb_op_…", &setup.operator),
        ] {
            assert!(authority.contains(from), "{from} in\n{authority}");
            authority = authority.replace(from, to);
        }
        if let Some(login) = login {
            let (before, rest) = authority.split_once(APPROLE).unwrap();
            let (_, after) = rest.split_once('}').unwrap();
            authority = format!("{before}{login}{after}");
        }
        Self {
            directory,
            authority,
            port: 0,
            server: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts the server; its keys and its database are kept.
    async fn start(&mut self) {
        // Another may take a port that was free.
        for _ in 0..3 {
            self.port = free_port();
            write(&self.path("server.conf"), &self.server_config());
            let mut command = program("spire-server");
            command
                .args(["run", "-config"])
                .arg(self.path("server.conf"));
            let mut process = Process::start(&mut command, &self.path("server.log"));
            let mut ended = None;
            eventually(PATIENCE, "SPIRE's server", async || {
                ended = process.exited();
                ended.is_some() || self.healthy()
            })
            .await;
            match ended {
                None => {
                    self.server = Some(process);
                    return;
                }
                Some(why) => assert!(why.contains("address already in use"), "{why}"),
            }
        }
        panic!("no free port for SPIRE");
    }

    fn healthy(&self) -> bool {
        let mut check = program("spire-server");
        check.arg("healthcheck").arg("-socketPath");
        output(check.arg(self.path("api.sock"))).status.success()
    }

    fn server_config(&self) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        format!(
            r#"
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  socket_path = "{socket}"
  trust_domain = "{TD}"
  data_dir = "{data}"
  log_level = "INFO"
  ca_ttl = "24h"
  default_x509_svid_ttl = "1h"
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{database}"
    }}
  }}
  KeyManager "disk" {{
    plugin_data {{
      keys_path = "{keys}"
    }}
  }}
  NodeAttestor "join_token" {{
    plugin_data {{}}
  }}
  {authority}
}}
"#,
            port = self.port,
            socket = at("api.sock"),
            data = at(""),
            database = at("datastore.sqlite3"),
            keys = at("keys.json"),
            authority = self.authority,
        )
    }

    /// A command to the server.
    fn cli(&self, arguments: &[&str]) -> String {
        let mut command = program("spire-server");
        let command = command.args(arguments).arg("-socketPath");
        run(command.arg(self.path("api.sock")))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-output", "json"]);
        serde_json::from_str(&self.cli(&all)).unwrap()
    }

    /// An SVID that the server makes at once, verified.
    fn mint(&self, setup: &TestServer) -> Svid {
        let into = self.path("minted");
        fs::create_dir_all(&into).unwrap();
        let id = format!("spiffe://{TD}/minted");
        let write = into.display().to_string();
        self.cli(&["x509", "mint", "-spiffeID", &id, "-write", &write]);
        let svid = Svid::read(setup, &into.join("svid.pem"), &into.join("bundle.pem"));
        assert_eq!(svid.leaf.names()[0].to_string(), id);
        svid
    }

    /// The ids of its CAs' keys: the active one's and the prepared one's.
    fn authorities(&self) -> (String, String) {
        let shown = self.json(&["localauthority", "x509", "show"]);
        let id = |which: &str| {
            let id = shown[which]["authority_id"].as_str();
            id.unwrap_or_default().to_owned()
        };
        (id("active"), id("prepared"))
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// A leaf, SPIRE's own CA, and the issuing CA in the HSM.
struct Svid {
    leaf: Certificate,
    spire: Certificate,
}

impl Svid {
    /// Verified to the HSM's root, which is all that the bundle holds.
    fn read(setup: &TestServer, chain: &Path, bundle: &Path) -> Self {
        let parse = |path: &Path| parse_pem_chain(&fs::read(path).unwrap()).unwrap();
        let (mut chain, roots) = (parse(chain), parse(bundle));
        let known = parse_pem_chain(setup.roots(TD).as_bytes()).unwrap();
        assert_eq!(roots.len(), 1, "one root");
        assert!(roots[0].der() == known[0].der(), "it is the HSM's");
        let leaf = chain.remove(0);
        assert_eq!(chain.len(), 2, "SPIRE's CA and the issuing CA");
        verify_ca_path(&chain, &roots, SystemClock.now()).unwrap();
        leaf.verify_signed_by(chain[0].public_key()).unwrap();
        assert_eq!(chain[0].path_len(), Some(0));
        let spire = chain.remove(0);
        Self { leaf, spire }
    }
}

/// How many CAs this server has certified for others.
fn certified(setup: &TestServer) -> usize {
    let all = setup.certificates(&[]);

    let ids = all
        .iter()
        .filter(|row| row["kind"] == "ca" && row["profile"] == "below");
    ids.count()
}

/// The configuration of the tests, with an account that SPIRE runs under.
fn prepared() -> TestServer {
    let setup = configured();
    let own = "callers = [\"operator:admin\"]\nprofiles = [\"below\"]";
    let account = format!("\"operator:admin\", \"spiffe://{TD}/ns/spire/sa/server\"");
    setup.edit(own, &own.replace("\"operator:admin\"", &account));
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn spires_ca_is_certified_rotated_and_kept_over_restarts() {
    let world = VaultServer::of(prepared()).await;
    let VaultServer { setup, server, .. } = &world;
    let mut spire = Spire::new(setup, server, "spire", None);
    spire.start().await;
    let first = spire.mint(setup);
    assert_eq!(certified(setup), 1);

    // A workload's, by SPIRE's agent.
    let id = format!("spiffe://{TD}/workload");
    let agent = agent(&spire, &id);
    let into = spire.path("fetched");
    fs::create_dir_all(&into).unwrap();
    eventually(PATIENCE, "the agent has an SVID for us", async || {
        let mut fetch = program("spire-agent");
        fetch.args(["api", "fetch", "x509", "-silent", "-write"]);
        fetch
            .arg(&into)
            .arg("-socketPath")
            .arg(spire.path("agent.sock"));
        output(&mut fetch).status.success()
    })
    .await;
    let fetched = Svid::read(setup, &into.join("svid.0.pem"), &into.join("bundle.0.pem"));
    assert_eq!(fetched.leaf.names()[0].to_string(), id);
    assert!(fetched.spire.der() == first.spire.der(), "one CA");
    drop(agent);

    // A restart of SPIRE asks for nothing.
    spire.server.take().unwrap().terminate(PATIENCE).await;
    spire.start().await;
    assert!(
        spire.mint(setup).spire.der() == first.spire.der(),
        "the same CA"
    );
    assert_eq!(certified(setup), 1);

    // Another CA, with another key.
    let before = spire.authorities();
    spire.cli(&["localauthority", "x509", "prepare"]);
    let (active, next) = spire.authorities();
    assert_eq!(active, before.0);
    assert_eq!(certified(setup), 2);
    spire.cli(&["localauthority", "x509", "activate", "-authorityID", &next]);
    let second = spire.mint(setup);
    assert_ne!(
        second.spire.public_key().spki_der(),
        first.spire.public_key().spki_der()
    );
    assert_eq!(
        second
            .spire
            .not_after()
            .since(second.spire.not_before())
            .as_secs()
            / 3600,
        24
    );
    spire.server.take().unwrap().terminate(PATIENCE).await;
    world.server.stop().await;
}

/// An agent whose node has joined, with an entry for this test's user.
fn agent(spire: &Spire, id: &str) -> Process {
    let token = spire.json(&["token", "generate", "-ttl", "600"]);
    let token = token["value"].as_str().unwrap();
    let parent = format!("spiffe://{TD}/spire/agent/join_token/{token}");
    let user = format!("unix:uid:{}", nix::unistd::getuid());
    spire.cli(&[
        "entry",
        "create",
        "-parentID",
        &parent,
        "-spiffeID",
        id,
        "-selector",
        &user,
    ]);
    write(
        &spire.path("agent-bundle.pem"),
        &spire.cli(&["bundle", "show"]),
    );
    let at = |name: &str| spire.path(name).display().to_string();
    let config = format!(
        r#"
agent {{
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{socket}"
  trust_bundle_path = "{bundle}"
  trust_domain = "{TD}"
  data_dir = "{data}"
}}
plugins {{
  KeyManager "memory" {{
    plugin_data {{}}
  }}
  NodeAttestor "join_token" {{
    plugin_data {{}}
  }}
  WorkloadAttestor "unix" {{
    plugin_data {{}}
  }}
}}
"#,
        port = spire.port,
        socket = at("agent.sock"),
        bundle = at("agent-bundle.pem"),
        data = at("agent"),
    );
    write(&spire.path("agent.conf"), &config);
    let mut command = program("spire-agent");
    command.args(["run", "-joinToken", token, "-config"]);
    command.arg(spire.path("agent.conf"));
    Process::start(&mut command, &spire.path("agent.log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn spire_logs_in_with_a_token_and_an_accounts_token() {
    let world = VaultServer::of(prepared()).await;
    let VaultServer { setup, server, .. } = &world;
    let file = setup.path("spire-account.token");
    write_secret(&file, &world.jwt("spire", "server"));
    let kubernetes = format!(
        "k8s_auth {{\n k8s_auth_mount_point = \"kubernetes\"\n k8s_auth_role_name = \"spire\"\n \
         token_path = \"{}\"\n}}",
        file.display()
    );
    let token = format!("token_auth {{\n token = \"{}\"\n}}", setup.operator);
    for (name, login) in [("kubernetes", &kubernetes), ("token", &token)] {
        let mut spire = Spire::new(setup, server, name, Some(login));
        spire.start().await;
        spire.mint(setup);
        spire.server.take().unwrap().terminate(PATIENCE).await;
    }
    assert_eq!(certified(setup), 2);
    let callers: Vec<String> = setup
        .certificates(&[])
        .iter()
        .map(|row| row["caller"]["identity"].to_string())
        .collect();
    let account = format!("\"spiffe://{TD}/ns/spire/sa/server\"");
    assert!(callers.contains(&account), "{callers:?}");
    world.server.stop().await;
}
