//! `ca request` and `ca import` with openssl as the enterprise's CA, `anchors`, beside a running
//! server that takes every change without a restart.

use std::time::{Duration, Instant};

use crate::support::Home;

const CA: &str = "basicConstraints=critical,CA:TRUE";
const DOMAIN: &str = "cluster.local";

/// Another organization's root.
fn root(home: &Home, name: &str) -> (String, String) {
    home.certificate(
        name,
        &[
            "-addext",
            CA,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ],
    )
}

/// Has `signer` certify `csr` with these extensions.
fn certify(
    home: &Home,
    csr: &str,
    signer: &(String, String),
    constraints: &str,
    days: &str,
) -> String {
    let extensions = format!(
        "basicConstraints=critical,{constraints}\nkeyUsage=critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    );
    home.write("extensions", &extensions);
    home.openssl(&[
        "x509",
        "-req",
        "-in",
        csr,
        "-CA",
        &signer.1,
        "-CAkey",
        &signer.0,
        "-days",
        days,
        "-extfile",
        "extensions",
        "-out",
        "issuing.pem",
    ])
    .ok();
    let chain =
        ["issuing.pem", &signer.1].map(|file| std::fs::read_to_string(home.path(file)).unwrap());
    chain.concat()
}

#[test]
fn an_enterprise_root_takes_over() {
    let home = Home::new();
    let dev = home.dev();
    let corp = root(&home, "corp");

    let csr = home.run(&["ca", "request", "--trust-domain", DOMAIN]);
    assert!(csr.err.contains("rootbridge ca import"), "{}", csr.err);
    home.write("issuing.csr", &csr.ok());
    home.openssl(&["req", "-in", "issuing.csr", "-noout", "-verify"])
        .ok();

    // What must not be taken, and why.
    let import = |chain: &str| {
        home.run(&[
            "ca",
            "import",
            home.write("chain.pem", chain).to_str().unwrap(),
        ])
    };
    let leaf = certify(&home, "issuing.csr", &corp, "CA:FALSE", "365");
    assert!(import(&leaf).fails(1).contains("chain.pem"));
    let good = certify(&home, "issuing.csr", &corp, "CA:TRUE,pathlen:0", "365");
    assert!(import(&good).fails(1).contains("rootbridge anchors add"));
    let foreign = std::fs::read_to_string(home.path("corp.pem")).unwrap();
    assert!(import(&foreign).fails(1).contains("no authority here has"));
    import("nonsense").fails(1);

    // Published first, then in use.
    let add = [
        "anchors",
        "add",
        "corp.pem",
        "--trust-domain",
        DOMAIN,
        "--source",
        "corp, CHG-7",
    ];
    let added = home.run(&[&add[..], &["-o", "json"]].concat()).json();
    let sequence = added["bundle_sequence"].as_u64().unwrap();
    published(&home, sequence);
    // Clients have it before it is used: the listener's own certificate goes over at once.
    let bundle = home.run(&["bundle", "show", "-o", "pem"]).ok();
    std::fs::write(home.state("bundle.pem"), bundle).unwrap();
    import(&good).ok();
    home.run(&["check"]).ok();

    let (other, print) = (root(&home, "other"), "sha256:0000");
    let add = [
        "anchors",
        "add",
        &other.1,
        "--trust-domain",
        DOMAIN,
        "--source",
        "x",
        "--expires",
    ];
    home.run(&[&add[..], &["30d"]].concat()).ok();
    home.run(&[&add[..], &["2020-01-01"]].concat()).fails(2);
    home.run(&["anchors", "remove", print]).fails(5);
    let anchors = home.run(&["anchors", "list", "-o", "json"]).json();
    let anchors = anchors.as_array().unwrap();
    assert_eq!(anchors.len(), 3, "{anchors:?}");
    let foreign = anchors
        .iter()
        .find(|anchor| anchor["source"] == "x")
        .unwrap();
    let removed = home.run(&[
        "anchors",
        "remove",
        &foreign["sha256"].as_str().unwrap()[..12],
        "-o",
        "json",
    ]);
    published(&home, removed.json()["bundle_sequence"].as_u64().unwrap());
    dev.stop();
}

/// Waits until the server publishes this version.
fn published(home: &Home, sequence: u64) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let bundle = home.run(&["bundle", "show", "-o", "json"]).json();
        if bundle["sequence"].as_u64().unwrap() >= sequence {
            return;
        }
        assert!(Instant::now() < end, "{bundle}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
