//! `bundle fetch` against openssl's server: an honest one, and one that sits in between.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Home, free_port, read};

const ROOT: [&str; 4] = [
    "-addext",
    "basicConstraints=critical,CA:TRUE",
    "-addext",
    "keyUsage=critical,keyCertSign",
];

struct Server(Child);

impl Server {
    /// Serves the files of `home` by HTTPS.
    fn start(home: &Home, port: &str, (key, cert): (&str, &str)) -> Self {
        let mut command = Command::new("openssl");
        command.args([
            "s_server", "-quiet", "-WWW", "-port", port, "-key", key, "-cert", cert,
        ]);
        command.current_dir(home.path("")).stdin(Stdio::null());
        let server = Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            assert!(Instant::now() < end, "openssl s_server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn only_what_matches_the_fingerprint_is_written() {
    let home = Home::new();
    let (root_key, root) = home.certificate("root", &ROOT);
    let evil = home.certificate("evil", &ROOT);
    home.write("names", "subjectAltName=IP:127.0.0.1\n");
    let csr = [
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let csr = [
        &csr[..],
        &["-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=ca"],
    ]
    .concat();
    home.openssl(&csr).ok();
    let sign = [
        "x509", "-req", "-in", "tls.csr", "-CA", &root, "-CAkey", &root_key,
    ];
    home.openssl(&[&sign[..], &["-extfile", "names", "-out", "tls.pem"]].concat())
        .ok();
    let print = home
        .openssl(&["x509", "-in", &root, "-noout", "-fingerprint", "-sha256"])
        .ok();
    let print = print.trim().rsplit('=').next().unwrap().to_owned();

    // Both serve the real anchor; the one in between adds its own.
    home.write("honest", &read(&home.path(&root)));
    home.write(
        "added",
        &(read(&home.path(&root)) + &read(&home.path(&evil.1))),
    );
    home.write("many", &"-----BEGIN CERTIFICATE-----\n".repeat(80_000));
    let fetch = |port: &str, file: &str, out: &str| {
        let url = format!("https://127.0.0.1:{port}/{file}");
        home.run(&[
            "bundle",
            "fetch",
            &url,
            "--fingerprint",
            &print,
            "--out",
            out,
        ])
    };

    let port = free_port();
    let server = Server::start(&home, &port, ("tls.key", "tls.pem"));
    fetch(&port, "honest", "bundle.pem").ok();
    assert_eq!(
        read(&home.path("bundle.pem")).trim(),
        read(&home.path(&root)).trim()
    );
    assert!(
        fetch(&port, "honest", "bundle.pem")
            .fails(1)
            .contains("--force")
    );
    assert!(
        fetch(&port, "many", "many.pem")
            .fails(1)
            .contains("longer than 2 MiB")
    );
    drop(server);

    let port = free_port();
    let _server = Server::start(&home, &port, (&evil.0, &evil.1));
    let message = fetch(&port, "added", "added.pem").fails(6);
    assert!(
        message.contains("does not chain to the trust anchor with this fingerprint"),
        "{message}"
    );
    assert!(!home.path("added.pem").exists());
}
