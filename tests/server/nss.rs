//! NSS's softoken as the token: another module that shares no code with SoftHSM, and one that needs a
//! parameter of C_Initialize, which p11-kit carries (`x-init-reserved`). It reports no CKA_LOCAL.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rootbridge_test_support::TestServer;
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::softhsm;

use crate::existing_keys::DOMAIN;

/// Where p11-kit's packages configure modules, and where root reads them too.
const MODULES: &str = "/usr/share/p11-kit/modules";

/// A configuration of p11-kit that has NSS's database and nothing else.
struct Nss {
    modules: PathBuf,
}

impl Nss {
    fn new(setup: &TestServer) -> Self {
        let (database, modules) = (setup.path("nss"), setup.path("modules"));
        for directory in [&database, &modules] {
            fs::create_dir(directory).unwrap();
        }
        let mut certutil = Command::new("certutil");
        certutil.arg("-N").arg("-d").arg(&database);
        run(certutil.arg("-f").arg(setup.path("token/pin")));
        let library = softhsm::pkcs11("NSS (Debian: libnss3)", "libsoftokn3.so");
        let module = format!(
            "module: {}\nx-init-reserved: configdir='sql:{}' certPrefix='' keyPrefix='' \
             secmod='secmod.db' flags= updatedir='' updateCertPrefix='' updateKeyPrefix='' \
             updateid='' updateTokenDescription=''\n",
            library.display(),
            database.display()
        );
        fs::write(modules.join("nss.module"), module).unwrap();
        Self { modules }
    }

    /// `rootbridge` where that configuration is in place of the machine's.
    fn command(&self, setup: &TestServer, arguments: &[&str]) -> Command {
        const SCRIPT: &str = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
        let inner = setup.command(arguments);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", SCRIPT]);
        command.arg(&self.modules).arg(MODULES);
        command.arg(inner.get_program()).args(arguments);
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

#[tokio::test]
async fn a_ca_in_nss_issues() {
    let setup = TestServer::bare();
    let nss = Nss::new(&setup);
    let soft = format!("module = \"{}\"", softhsm::module().display());
    let proxy = softhsm::pkcs11("p11-kit (Debian: p11-kit-modules)", "p11-kit-proxy.so");
    setup.edit(&soft, &format!("module = \"{}\"", proxy.display()));
    setup.edit(
        "label = \"rootbridge\"",
        "label = \"NSS Certificate DB\"\nallow_unattested_keys = true",
    );
    for (domain, kind) in [(DOMAIN, "ecdsa-p256"), ("rsa.example", "rsa-2048")] {
        let init = ["ca", "init", "--trust-domain", domain, "--key", kind];
        let report = run(&mut nss.command(&setup, &[&init[..], &["-o", "json"]].concat()));
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let root = report["root"]["pem"].as_str().unwrap();
        fs::write(setup.path(&format!("{domain}.pem")), root).unwrap();
    }
    let check = run(&mut nss.command(&setup, &["check"]));
    assert!(check.contains("does not report it as CKA_LOCAL"), "{check}");
    assert_eq!(check.matches("a test signature took").count(), 2, "{check}");

    let server = setup.start_with(nss.command(&setup, &["serve"])).await;
    server.ready().await;
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    let chain = server.client(DOMAIN).await.istio(&token, &csr).await;
    assert_eq!(
        chain.unwrap().names(),
        ["spiffe://cluster.local/ns/shop/sa/cart"]
    );
}
