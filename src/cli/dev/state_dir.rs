//! The directory of `dev`: each file is created once, and later left unchanged.

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::softhsm;
use crate::authn;
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::{self, Content};
use crate::digest::hex;

pub(super) const TRUST_DOMAIN: &str = "cluster.local";
pub(super) const TOKEN: &str = "main";
pub(super) const LABEL: &str = "rootbridge-dev";
const PORT: u16 = 8443;
const ADMIN_PORT: u16 = 9901;

/// The ports given on the command line.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) server: Option<u16>,
    pub(super) admin: Option<u16>,
}

/// The directory, locked until this process exits.
#[derive(Debug)]
pub(super) struct StateDir {
    dir: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates what is missing.
    pub(super) fn prepare(
        dir: &Path,
        ports: &Ports,
        module: Option<&Path>,
    ) -> Result<Self, Failure> {
        create_private_dir(dir)?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(|error| Failure::file("create", &path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::new(Exit::Failed, "another `rootbridge dev` is running there")
                .at(dir.display())
                .next("use that one, or give another --dir")
        })?;
        let state = Self {
            dir: dir.to_owned(),
            _lock: lock,
        };
        create_private_dir(&dir.join("tokens"))?;
        let softhsm = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            dir.join("tokens").display()
        );
        write_once(
            &dir.join("softhsm2.conf"),
            Content::Public(softhsm.as_bytes()),
        )?;
        let pin = random()?;
        write_once(&state.pin(), Content::Secret(pin.as_bytes()))?;
        if !dir.join("operator.token").exists() {
            authn::create_credential(&dir.join("operator.token"))
                .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        }
        state.configure(ports, module)?;
        Ok(state)
    }

    fn configure(&self, ports: &Ports, module: Option<&Path>) -> Result<(), Failure> {
        if self.config().exists() {
            // Serving on another port without an error would be worse.
            let mut given = ports.server.into_iter().chain(ports.admin);
            return match given.find(|port| !self.serves_on(*port)) {
                Some(port) => {
                    let message = format!("the configuration there does not serve on port {port}");
                    Err(Failure::new(Exit::Usage, message)
                        .at(self.config().display())
                        .next("change the address in it, and the endpoint in client.toml"))
                }
                None => Ok(()),
            };
        }
        let module = softhsm::find_module(module)?;
        let port = ports.server.unwrap_or_else(|| free_port(PORT));
        let admin = ports.admin.unwrap_or_else(|| free_port(ADMIN_PORT));
        let client = format!(
            "endpoint = \"https://127.0.0.1:{port}\"\nbundle = \"bundle.pem\"\n\
             credential_file = \"operator.token\"\n"
        );
        files::write(&self.client(), Content::Public(client.as_bytes()), true)?;
        let config = self.text(&module, port, admin);
        // Last: where there is a configuration, everything else exists.
        files::write(&self.config(), Content::Public(config.as_bytes()), false)
    }

    fn serves_on(&self, port: u16) -> bool {
        let wanted = format!(":{port}\"");
        let text = fs::read_to_string(self.config()).unwrap_or_default();
        text.lines()
            .any(|line| line.starts_with("address") && line.contains(&wanted))
    }

    fn text(&self, module: &Path, port: u16, admin: u16) -> String {
        let text = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        format!(
            "# Created by `rootbridge dev`, which does not change it later.

[instance]
name = \"dev\"

[ledger]
path = {ledger}

[hsm]
module = {module}
environment = {{ SOFTHSM2_CONF = {softhsm} }}

[hsm.tokens.{TOKEN}]
label = \"{LABEL}\"
pin_file = {pin}

[listeners.mesh]
address = \"127.0.0.1:{port}\"
apis = [\"certificates\", \"bundles\"]
operators = [\"admin\"]

[listeners.mesh.tls]
trust_domain = \"{TRUST_DOMAIN}\"
dns = [\"localhost\"]
ip = [\"127.0.0.1\"]

[operators.admin]
trust_domain = \"{TRUST_DOMAIN}\"
credential_file = {credential}

[[policy.rules]]
callers = [\"operator:admin\"]
profiles = [\"workload\"]
names = [\"spiffe://{TRUST_DOMAIN}/ns/*/sa/*\"]

[admin]
address = \"127.0.0.1:{admin}\"
operators = [\"admin\"]
",
            ledger = text(&self.dir.join("ledger.db")),
            module = text(module),
            softhsm = text(&self.dir.join("softhsm2.conf")),
            pin = text(&self.pin()),
            credential = text(&self.dir.join("operator.token")),
        )
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("rootbridge.toml")
    }

    pub(super) fn client(&self) -> PathBuf {
        self.dir.join("client.toml")
    }

    pub(super) fn bundle(&self) -> PathBuf {
        self.dir.join("bundle.pem")
    }

    pub(super) fn pin(&self) -> PathBuf {
        self.dir.join("pin")
    }
}

/// 128 random bits, as a PIN.
pub(super) fn random() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0_u8; 16]);
    rand::fill(bytes.as_mut())
        .map_err(|_| Failure::new(Exit::Failed, "no random bytes are available"))?;
    Ok(Zeroizing::new(hex(bytes.as_ref())))
}

fn create_private_dir(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::file("create", dir, &error))
}

fn write_once(path: &Path, content: Content<'_>) -> Result<(), Failure> {
    if path.exists() {
        Ok(())
    } else {
        files::write(path, content, false)
    }
}

/// `port` if it is free, or else one that the system chooses.
fn free_port(port: u16) -> u16 {
    let try_bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = try_bind(port).or_else(|_| try_bind(0));
    listener
        .and_then(|listener| listener.local_addr())
        .map_or(port, |address| address.port())
}
