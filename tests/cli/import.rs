//! `ca import` and `anchors add` with files as an enterprise's CA team sends them.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use rootbridge_test_support::files::repository;

use crate::support::Home;

const ROOT: &[&str] = &[
    "-addext",
    "basicConstraints=critical,CA:TRUE",
    "-addext",
    "keyUsage=critical,keyCertSign,cRLSign",
];

/// A home with a running server's configuration and an enterprise root, `corp.key` and `corp.pem`.
struct Enterprise(Home);

impl Enterprise {
    fn new() -> Self {
        let home = Home::new();
        home.dev().stop();
        home.certificate("corp", ROOT);
        Self(home)
    }

    /// A new authority's certificate in `NAME.pem`, with these arguments of openssl.
    fn certify(&self, name: &str, more: &[&str]) {
        let domain = format!("{name}.example");
        let csr = self.0.run(&["ca", "request", "--trust-domain", &domain]);
        let csr = self.0.write(&format!("{name}.csr"), &csr.ok());
        self.0.write(
            "extensions",
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
        );
        let out = format!("{name}.pem");
        let mut sign = vec!["x509", "-req", "-in", csr.to_str().unwrap(), "-out", &out];
        sign.extend(["-CA", "corp.pem", "-CAkey", "corp.key", "-days", "30"]);
        sign.extend(["-extfile", "extensions"]);
        sign.extend(more);
        self.0.openssl(&sign).ok();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path(name)).unwrap()
    }

    fn import(&self, files: &[&str]) -> serde_json::Value {
        let arguments = [&["ca", "import", "-o", "json"], files].concat();
        self.0.run(&arguments).json()
    }

    /// The command with `input` in a pipe, which can be read once.
    fn piped(&self, arguments: &[&str], input: &[u8]) -> Output {
        piped(&mut self.0.command(arguments), input)
    }
}

fn piped(command: &mut Command, input: &[u8]) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_answer_of_a_ca_in_any_form() {
    let corp = Enterprise::new();
    let home = &corp.0;

    // As ADCS offers it: PKCS#7, here through a pipe, with the environment of the module to be set.
    corp.certify("pipe", &[]);
    let p7b = [
        "crl2pkcs7",
        "-nocrl",
        "-certfile",
        "pipe.pem",
        "-certfile",
        "corp.pem",
    ];
    home.openssl(&[&p7b[..], &["-out", "pipe.p7b"]].concat())
        .ok();
    let output = corp.piped(&["ca", "import", "-"], &corp.read("pipe.p7b"));
    assert!(output.status.success(), "{output:?}");
    corp.certify("inherited", &[]);
    let both = [corp.read("corp.pem"), corp.read("inherited.pem")].concat();
    let output = corp.piped(&["ca", "import", "/dev/stdin"], &both);
    assert!(output.status.success(), "{output:?}");

    // DER files, the root first, another CA's certificate among them.
    corp.certify("der", &[]);
    home.certificate("stranger", ROOT);
    for name in ["corp", "der"] {
        let (pem, der) = (format!("{name}.pem"), format!("{name}.cer"));
        home.openssl(&["x509", "-in", &pem, "-outform", "DER", "-out", &der])
            .ok();
    }
    let imported = corp.import(&["corp.cer", "stranger.pem", "der.cer", "corp.cer"]);
    assert_eq!(imported["trust_domain"], "der.example");
    assert_eq!(
        imported["unused"].as_array().unwrap().len(),
        1,
        "{imported}"
    );

    // UTF-16 with the root twice: no certificate is recorded twice.
    corp.certify("twice", &[]);
    let text = [
        corp.read("twice.pem"),
        corp.read("corp.pem"),
        corp.read("corp.pem"),
    ]
    .concat();
    let wide: Vec<u8> = String::from_utf8(text)
        .unwrap()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    std::fs::write(home.path("twice.txt"), [&b"\xff\xfe"[..], &wide].concat()).unwrap();
    corp.import(&["twice.txt"]);

    // RSASSA-PSS, as ADCS signs with an alternate signature format.
    home.openssl(&["genrsa", "-out", "corp.key", "2048"]).ok();
    let root = [
        "req", "-x509", "-key", "corp.key", "-subj", "/CN=PSS", "-out", "corp.pem",
    ];
    let pss = [
        "-sigopt",
        "rsa_padding_mode:pss",
        "-sigopt",
        "rsa_pss_saltlen:-1",
    ];
    home.openssl(&[&root[..], ROOT, &pss].concat()).ok();
    corp.certify("pss", &[&["-sha384"], &pss[..]].concat());
    corp.import(&["corp.pem", "pss.pem"]);

    // The root may be missing once it is published.
    let add = |domain: &str, files: &[&str]| {
        let add = [
            "anchors",
            "add",
            "--source",
            "x",
            "-o",
            "json",
            "--trust-domain",
            domain,
        ];
        home.run(&[&add[..], files].concat())
    };
    corp.certify("known", &[]);
    let missing = home.run(&["ca", "import", "known.pem"]).fails(1);
    assert!(
        missing.contains("the root is missing: `CN=PSS`"),
        "{missing}"
    );
    add("known.example", &["corp.pem"]).ok();
    corp.import(&["known.pem"]);

    // A file of anchors is a set.
    let added = add(
        "known.example",
        &["corp.pem", "stranger.pem", "corp.cer", "stranger.pem"],
    )
    .json();
    assert_eq!(added["added"].as_array().unwrap().len(), 2, "{added}");
    assert_eq!(added["known"].as_array().unwrap().len(), 1, "{added}");
    let again = add("known.example", &["stranger.pem", "corp.pem"]).json();
    assert_eq!(again["added"], serde_json::json!([]));
    assert_eq!(again["bundle_sequence"], serde_json::Value::Null);

    // What is none of these: the format, and the command with the file's name.
    let p12 = [
        "pkcs12", "-export", "-inkey", "corp.key", "-in", "corp.pem", "-passout", "pass:x",
    ];
    home.openssl(&[&p12[..], &["-out", "corp.p12"]].concat())
        .ok();
    let refused = home.run(&["ca", "import", "corp.p12"]).fails(1);
    assert!(
        refused.contains("PKCS#12") && refused.contains("openssl pkcs12 -in corp.p12 -nokeys"),
        "{refused}"
    );
    let refused = add("known.example", &["stranger.pem", "known.csr"]).fails(1);
    assert!(
        refused.contains("certificate request") && refused.contains("known.csr"),
        "{refused}"
    );
    let refused = add("known.example", &["/dev/null"]).fails(1);
    assert!(refused.contains("holds nothing"), "{refused}");
}

#[test]
fn an_anchor_that_a_verifier_cannot_parse_keeps_its_whole_file_out() {
    let corp = Enterprise::new();
    let home = &corp.0;
    let odd = repository("tests/fixtures/certificates/printable-underscore.pem");
    let domain = "cluster.local";
    let add = [
        "anchors",
        "add",
        "--source",
        "acme",
        "--trust-domain",
        domain,
        "corp.pem",
    ];
    let refused = home.run(&[&add[..], &[odd.to_str().unwrap()]].concat());
    let refused = refused.fails(1);
    assert!(
        refused.contains("Go (istiod") && refused.contains("O is no valid PrintableString"),
        "{refused}"
    );
    let anchors = home.run(&["anchors", "list", "-o", "json"]).json();
    assert_eq!(anchors.as_array().unwrap().len(), 1, "{anchors}");
    home.run(&add).ok();
    let anchors = home.run(&["anchors", "list", "-o", "json"]).json();
    assert_eq!(anchors.as_array().unwrap().len(), 2, "{anchors}");
}

#[test]
fn a_configuration_in_a_pipe_needs_the_modules_environment() {
    let corp = Enterprise::new();
    let config = std::fs::read(corp.0.state("rootbridge.toml")).unwrap();
    let list = ["key", "list", "-o", "json", "--config", "/dev/stdin"];
    let output = corp.piped(&list, &config);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
    // It could not be read a second time, by the process with that environment.
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("a configuration in a pipe can be read once, and SOFTHSM2_CONF is not set")
            && error.contains("or give the configuration as a file"),
        "{error}"
    );
    let mut command = corp.0.command(&list);
    command.env("SOFTHSM2_CONF", corp.0.state("softhsm2.conf"));
    let output = piped(&mut command, &config);
    assert!(output.status.success(), "{output:?}");
    let keys: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(keys.as_array().unwrap().len(), 2, "{keys}");
}
