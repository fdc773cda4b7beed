//! The directory of `dev`: each file is made once, and then left as it is.

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

/// The ports that were asked for.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) server: Option<u16>,
    pub(super) admin: Option<u16>,
}

/// The directory, held by this process until it ends.
#[derive(Debug)]
pub(super) struct StateDir {
    dir: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes what is missing.
    pub(super) fn prepare(
        dir: &Path,
        ports: &Ports,
        module: Option<&Path>,
    ) -> Result<Self, Failure> {
        private(dir)?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(|error| Failure::file("make", &path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::new(Exit::Failed, "another `rootbridge dev` is running there")
                .at(dir.display().to_string())
                .next("use that one, or give another --dir")
        })?;
        let state = Self {
            dir: dir.to_owned(),
            _lock: lock,
        };
        private(&state.tokens())?;
        let softhsm = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            state.tokens().display()
        );
        once(
            &state.file("softhsm2.conf"),
            Content::Public(softhsm.as_bytes()),
        )?;
        let pin = random()?;
        once(&state.pin(), Content::Secret(pin.as_bytes()))?;
        if !state.credential().exists() {
            authn::create_credential(&state.credential())
                .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        }
        state.configure(ports, module)?;
        Ok(state)
    }

    fn configure(&self, ports: &Ports, module: Option<&Path>) -> Result<(), Failure> {
        if self.config().exists() {
            // Silently serving on another port than was asked for would be worse.
            let mut asked = ports.server.into_iter().chain(ports.admin);
            return match asked.find(|port| !self.serves_on(*port)) {
                Some(port) => {
                    let what = format!("the configuration there does not serve on port {port}");
                    Err(Failure::new(Exit::Usage, what)
                        .at(self.config().display().to_string())
                        .next("change the address in it, and the endpoint in client.toml"))
                }
                None => Ok(()),
            };
        }
        let module = softhsm::find_module(module)?;
        let port = ports.server.unwrap_or_else(|| free(PORT));
        let admin = ports.admin.unwrap_or_else(|| free(ADMIN_PORT));
        let client = format!(
            "endpoint = \"https://127.0.0.1:{port}\"\nbundle = \"bundle.pem\"\n\
             credential_file = \"operator.token\"\n"
        );
        files::write(&self.client(), Content::Public(client.as_bytes()), true)?;
        let config = self.text(&module, port, admin);
        // Last: a configuration that is there says that all else is.
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
            "# Made by `rootbridge dev`, which leaves it alone from now on.

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
            ledger = text(&self.file("ledger.db")),
            module = text(module),
            softhsm = text(&self.file("softhsm2.conf")),
            pin = text(&self.pin()),
            credential = text(&self.credential()),
        )
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn config(&self) -> PathBuf {
        self.file("rootbridge.toml")
    }

    pub(super) fn client(&self) -> PathBuf {
        self.file("client.toml")
    }

    pub(super) fn bundle(&self) -> PathBuf {
        self.file("bundle.pem")
    }

    pub(super) fn pin(&self) -> PathBuf {
        self.file("pin")
    }

    fn credential(&self) -> PathBuf {
        self.file("operator.token")
    }

    fn tokens(&self) -> PathBuf {
        self.file("tokens")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// 128 random bits, as a PIN.
pub(super) fn random() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0_u8; 16]);
    rand::fill(bytes.as_mut())
        .map_err(|_| Failure::new(Exit::Failed, "no random bytes are to be had"))?;
    Ok(Zeroizing::new(hex(bytes.as_ref())))
}

fn private(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::file("make", dir, &error))
}

fn once(path: &Path, content: Content<'_>) -> Result<(), Failure> {
    if path.exists() {
        Ok(())
    } else {
        files::write(path, content, false)
    }
}

/// `port` if nobody has it, or else one that the system chooses.
fn free(port: u16) -> u16 {
    let try_bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = try_bind(port).or_else(|_| try_bind(0));
    listener
        .and_then(|listener| listener.local_addr())
        .map_or(port, |address| address.port())
}
