//! Certificates of the API server, and other fields of a cluster.

use super::{Expected, Table, wrapped};
use crate::kubeconfigs::files::{Files, base64};

pub(super) fn rows(table: &mut Table, files: &Files) {
    use Expected::{Narrower, Refused, Same, Wider};
    let absolute = format!("certificate-authority: {}", files.path("ca.crt").display());
    table.cluster("a CA by an absolute path", &absolute, Same);
    table.cluster(
        "a CA beside the kubeconfig",
        "certificate-authority: ca.crt",
        Same,
    );
    table.cluster("a CA below it", "certificate-authority: ./pki/ca.crt", Same);
    table.cluster("a CA with ..", "certificate-authority: pki/../ca.crt", Same);
    table.cluster(
        "several certificates",
        "certificate-authority: two.crt",
        Same,
    );
    table.cluster("lines of Windows", "certificate-authority: crlf.crt", Same);
    table.cluster("no CA: the system's", "", Same);
    table.cluster("an empty path", "certificate-authority: ''", Same);
    let missing = Refused("its certificate-authority: ");
    table.cluster("a missing CA", "certificate-authority: none.crt", missing);
    table.cluster(
        "an empty CA",
        "certificate-authority: empty",
        Narrower("holds no certificate"),
    );
    table.cluster(
        "a CA that is text",
        "certificate-authority: text",
        Refused("holds no certificate"),
    );
    let data = |text: &str| format!("certificate-authority-data: {text}");
    table.cluster("CA data", &data(&base64(&files.ca)), Same);
    table.cluster(
        "CA data in a block",
        &data(&format!("|\n  {}", wrapped(&files.ca, "\n  "))),
        Same,
    );
    table.cluster(
        "CA data in quotes",
        &data(&format!("\"{}\"", wrapped(&files.ca, "\\n"))),
        Same,
    );
    table.cluster(
        "CA data with blanks",
        &data(&format!("'{}'", wrapped(&files.ca, " "))),
        Wider,
    );
    table.cluster(
        "CA data folded",
        &data(&format!(">\n  {}", wrapped(&files.ca, "\n  "))),
        Wider,
    );
    table.cluster("CA data not in base64", &data("'@@@'"), Refused("is not"));
    table.cluster(
        "CA data in PEM",
        &data(&format!("|\n  {}", files.ca.trim().replace('\n', "\n  "))),
        Refused("is not base64"),
    );
    let both = format!(
        "certificate-authority: ca.crt\n{}",
        data(&base64(&files.ca))
    );
    table.cluster(
        "a CA twice",
        &both,
        Refused("both certificate-authority and"),
    );
    table.cluster(
        "another name in the certificate",
        "tls-server-name: other.example",
        Same,
    );
    table.cluster(
        "an address in the certificate",
        "tls-server-name: 10.0.0.1",
        Same,
    );
    table.cluster(
        "unverified",
        "insecure-skip-tls-verify: true",
        Expected::Narrower("insecure-skip-tls-verify"),
    );
    table.cluster(
        "verified explicitly",
        "insecure-skip-tls-verify: false",
        Same,
    );
    let unverified = "certificate-authority: ca.crt\ninsecure-skip-tls-verify: true";
    table.cluster(
        "unverified with a CA",
        unverified,
        Refused("insecure-skip-tls-verify"),
    );
    table.cluster(
        "unknown fields",
        "disable-compression: true\nfuture: {a: 1}",
        Same,
    );
    table.cluster(
        "an extension",
        "extensions: [{name: minikube, extension: {version: v1}}]",
        Same,
    );
}
