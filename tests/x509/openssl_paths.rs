//! Chains that the openssl command made: algorithms and extensions that ours never have.

use std::path::Path;

use rootbridge::x509::{
    Certificate, CertificateSpec, IssuedError, KeyKind, PathFault, check_names, parse_pem_chain,
    verify_ca_path,
};

use crate::issued::leaf_spec;
use crate::paths::fault;
use crate::support::{Ca, CaTerms, now, openssl, sans};

/// CA certificates that only openssl makes: SHA-1, constraints, purposes, odd usages.
#[test]
fn chains_that_openssl_made() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path();
    for (key, hash) in [
        (&["-newkey", "rsa:2048"][..], "-sha256"),
        (&["-newkey", "rsa:3072"], "-sha384"),
        (&["-newkey", "rsa:2048"], "-sha512"),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "-sha256",
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
            "-sha384",
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "-sha512",
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "-sha256",
        ),
        (&["-newkey", "ed25519"], "-sha256"),
    ] {
        let chain = enterprise(path, key, hash, CA);
        verify_ca_path(&chain, &chain[1..], now()).unwrap();
        verify_ca_path(&chain[..1], &chain[1..], now()).unwrap();
    }

    let rsa = &["-newkey", "rsa:2048"][..];
    let pss = |salt: &'static str, more: &[&'static str]| {
        let padding = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", salt];
        [rsa, &padding, more].concat()
    };
    for hash in ["-sha256", "-sha384", "-sha512"] {
        let key = pss("rsa_pss_saltlen:-1", &[]);
        let chain = enterprise(path, &key, hash, CA);
        verify_ca_path(&chain, &chain[1..], now()).unwrap();
    }
    // Go and rustls take no other parameters.
    for key in [
        pss("rsa_pss_saltlen:20", &[]),
        pss("rsa_pss_saltlen:-1", &["-sigopt", "rsa_mgf1_md:sha1"]),
    ] {
        let chain = enterprise(path, &key, "-sha256", CA);
        let (_, why) = fault(&chain, &chain[1..], now());
        assert!(why.to_string().contains("RSA-PSS with other"), "{why}");
    }
    // A root of 2004: e = 3, which others still verify with.
    let exponent = ["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"];
    let chain = enterprise(path, &exponent, "-sha256", CA);
    verify_ca_path(&chain, &chain[1..], now()).unwrap();

    let chain = enterprise(path, rsa, "-sha1", CA);
    let (index, why) = fault(&chain, &chain[1..], now());
    assert_eq!(index, 1);
    assert!(why.to_string().contains("SHA-1"), "{why}");
    // The root alone may have signed itself with SHA-1.
    verify_ca_path(&chain[1..], &chain[1..], now()).unwrap();

    for (extensions, expected) in [
        (
            &["basicConstraints=critical,CA:FALSE"][..],
            PathFault::NotCa,
        ),
        (&["keyUsage=critical,keyCertSign"], PathFault::NotCa),
        (
            &[
                "basicConstraints=critical,CA:TRUE",
                "keyUsage=critical,digitalSignature",
            ],
            PathFault::NoKeyCertSign,
        ),
        (
            &[
                "basicConstraints=critical,CA:TRUE",
                "nameConstraints=permitted;URI:.example",
            ],
            PathFault::UriNameConstraint,
        ),
        (
            &[
                "basicConstraints=critical,CA:TRUE",
                "extendedKeyUsage=serverAuth",
            ],
            PathFault::ExtendedKeyUsage,
        ),
        (
            &[
                "basicConstraints=critical,CA:TRUE",
                "certificatePolicies=critical,2.5.29.32.0",
            ],
            PathFault::UnknownCriticalExtension {
                oid: "2.5.29.32".into(),
            },
        ),
        (
            &[
                "basicConstraints=critical,CA:TRUE",
                "1.2.3.4=critical,ASN1:NULL",
            ],
            PathFault::UnknownCriticalExtension {
                oid: "1.2.3.4".into(),
            },
        ),
    ] {
        let chain = enterprise(path, rsa, "-sha256", extensions);
        assert_eq!(fault(&chain, &chain[1..], now()), (1, expected));
    }
    for extensions in [
        &["basicConstraints=CA:TRUE"][..],
        &[
            "basicConstraints=CA:TRUE",
            "nameConstraints=critical,permitted;DNS:example",
        ],
        &[
            "basicConstraints=CA:TRUE",
            "extendedKeyUsage=serverAuth,clientAuth,emailProtection",
        ],
        &[
            "basicConstraints=CA:TRUE",
            "extendedKeyUsage=anyExtendedKeyUsage",
        ],
        &[
            "basicConstraints=CA:TRUE",
            "certificatePolicies=2.5.29.32.0",
        ],
    ] {
        let chain = enterprise(path, rsa, "-sha256", extensions);
        verify_ca_path(&chain, &chain[1..], now()).unwrap();
    }
}

/// Whatever the grant was: the last check before a release.
#[test]
fn a_name_outside_of_name_constraints_is_not_released() {
    let home = tempfile::tempdir().unwrap();
    let constraints = "nameConstraints=critical,permitted;DNS:corp.example,excluded;DNS:secret.corp.example,\
                       permitted;IP:10.0.0.0/255.0.0.0";
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let chain = enterprise(home.path(), &key, "-sha256", &[CA, &[constraints]].concat());
    let issuer = Ca::root("Any", CaTerms::usual(KeyKind::EcdsaP256, None));
    for (name, accepted) in [
        ("dns:web.corp.example", true),
        ("dns:web.other.example", false),
        ("dns:secret.corp.example", false),
        ("ip:10.1.2.3", true),
        ("ip:192.0.2.1", false),
        ("spiffe://corp.example/ns/a/sa/b", true),
    ] {
        let spec = CertificateSpec {
            names: sans(&[name]),
            ..leaf_spec(issuer.identity())
        };
        let tbs = spec.to_tbs().unwrap();
        let leaf = Certificate::parse(issuer.key.seal(&tbs)).unwrap();
        // A constraint counts wherever it stands in the path, in the anchor too.
        for path in [&chain[..], &[chain[1].clone(), chain[0].clone()]] {
            match check_names(&leaf, path.iter()) {
                Ok(()) => assert!(accepted, "{name}"),
                Err(IssuedError::NameRuledOut { name: shown, .. }) => {
                    assert!(!accepted && shown == name, "{name}: {shown}");
                }
                Err(other) => panic!("{name}: {other}"),
            }
        }
    }
}

const CA: &[&str] = &[
    "basicConstraints=critical,CA:TRUE,pathlen:0",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid",
];

/// An issuing CA with `extensions` below a root, both by the openssl command.
fn enterprise(home: &Path, key: &[&str], hash: &str, extensions: &[&str]) -> Vec<Certificate> {
    let mut root = vec![
        "req",
        "-x509",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/O=Enterprise/CN=Root",
    ];
    root.extend(["-keyout", "root.key", "-out", "root.pem", hash]);
    root.extend(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
    root.extend(key);
    openssl(&root, home).unwrap();
    let mut request = vec!["req", "-new", "-nodes", "-subj", "/O=Enterprise/CN=Issuing"];
    request.extend(["-keyout", "issuing.key", "-out", "issuing.csr"]);
    request.extend(key);
    openssl(&request, home).unwrap();
    std::fs::write(home.join("extensions"), extensions.join("\n")).unwrap();
    let mut sign = vec!["x509", "-req", "-in", "issuing.csr", "-CA", "root.pem"];
    sign.extend([
        "-CAkey",
        "root.key",
        "-CAcreateserial",
        "-days",
        "20",
        "-out",
        "issuing.pem",
    ]);
    sign.extend(["-extfile", "extensions", hash]);
    let options = key.windows(2).filter(|pair| pair[0] == "-sigopt");
    sign.extend(options.flatten());
    openssl(&sign, home).unwrap();
    let read = |name| std::fs::read_to_string(home.join(name)).unwrap();
    let chain = format!(
        "Issuing:\n{}\nRoot:\n{}",
        read("issuing.pem"),
        read("root.pem")
    );
    parse_pem_chain(chain.as_bytes()).unwrap()
}
