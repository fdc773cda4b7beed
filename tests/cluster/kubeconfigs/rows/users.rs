//! Users and their credentials.

use super::{Expected, TOKEN, Table, wrapped};
use crate::kubeconfigs::files::{Files, base64};

pub(super) fn rows(table: &mut Table, files: &Files) {
    use Expected::{Narrower, Refused, Same, Wider};
    table.user("a token", TOKEN, Same);
    table.user("a token file", "tokenFile: token", Same);
    table.user(
        "a token file with a newline",
        "tokenFile: token-newline",
        Same,
    );
    table.user("a token file of Windows", "tokenFile: token-crlf", Same);
    table.user(
        "a missing token file",
        "tokenFile: none",
        Refused("the token file"),
    );
    table.user(
        "an empty token file",
        "tokenFile: empty",
        Refused("it is empty"),
    );
    table.user(
        "a token and its file",
        &format!("{TOKEN}\ntokenFile: token"),
        Same,
    );
    table.user(
        "a token and a missing file",
        &format!("{TOKEN}\ntokenFile: none"),
        Same,
    );
    table.user("a token that is a number", "token: 12345", Wider);
    table.user("nothing", "{}", Same);
    let pair = "client-certificate: client.crt\nclient-key: client.key";
    table.user("a client certificate", pair, Same);
    table.user(
        "one file for both",
        "client-certificate: both.pem\nclient-key: both.pem",
        Same,
    );
    let data = format!(
        "client-certificate-data: {}\nclient-key-data: |\n  {}",
        base64(&files.certificate),
        wrapped(&files.key, "\n  ")
    );
    table.user("client data", &data, Same);
    let mixed = format!(
        "client-certificate: client.crt\nclient-key-data: {}",
        base64(&files.key)
    );
    table.user("a file and data", &mixed, Same);
    table.user(
        "a key of another",
        "client-certificate: client.crt\nclient-key: other.key",
        Refused("do not belong together"),
    );
    table.user(
        "no key",
        "client-certificate: client.crt",
        Refused("without client-key"),
    );
    table.user(
        "no certificate",
        "client-key: client.key",
        Narrower("without client-certificate"),
    );
    table.user(
        "an empty key",
        "client-certificate: client.crt\nclient-key: empty",
        Refused("no PEM block of a private key"),
    );
    table.user(
        "a certificate that is text",
        "client-certificate: text\nclient-key: client.key",
        Refused("no PEM block CERTIFICATE"),
    );
    let twice = format!("{pair}\nclient-key-data: {}", base64(&files.key));
    table.user("a key twice", &twice, Refused("both client-key and"));
    table.user(
        "a certificate and a token",
        &format!("{pair}\n{TOKEN}"),
        Same,
    );
    table.user("a password", "username: me\npassword: passw0rd", Same);
    table.user("a user without password", "username: me", Same);
    table.user(
        "a password and a token",
        &format!("username: me\npassword: passw0rd\n{TOKEN}"),
        Refused("one way to authenticate"),
    );
    table.user(
        "impersonation",
        &format!(
            "{TOKEN}\nas: jane\nas-uid: '7'\nas-groups: [a, b]\nas-user-extra: {{Sc/op%e: [one, two]}}"
        ),
        Same,
    );
    table.user(
        "impersonation of nobody",
        &format!("{TOKEN}\nas-groups: [a]"),
        Refused("without `as`"),
    );
    table.user(
        "gcp",
        "auth-provider: {name: gcp}",
        Refused("gke-gcloud-auth-plugin"),
    );
    table.user(
        "azure",
        "auth-provider: {name: azure}",
        Refused("kubelogin"),
    );
    table.user(
        "oidc",
        "auth-provider: {name: oidc, config: {}}",
        Refused("auth-provider oidc"),
    );
    let exec =
        |more: &str| format!("exec:\n  apiVersion: client.authentication.k8s.io/v1beta1\n{more}");
    table.user(
        "a program",
        &exec("  command: aws\n  args: [eks, get-token]"),
        Same,
    );
    table.user(
        "a program by its path",
        &exec("  command: /opt/aws\n  env: null"),
        Same,
    );
    table.user(
        "a program that is not allowed",
        &exec("  command: sh\n  installHint: install it"),
        Narrower("does not allow it"),
    );
    table.user(
        "a program of that name elsewhere",
        &exec("  command: ./aws"),
        Narrower("does not allow it"),
    );
    table.user(
        "a variable that is not allowed",
        &exec("  command: aws\n  env: [{name: LD_PRELOAD, value: x}]"),
        Narrower("LD_PRELOAD"),
    );
    table.user("no program", &exec("  args: [a]"), Refused("no command"));
    table.user(
        "a program and a token",
        &format!("{}\n{TOKEN}", exec("  command: aws")),
        Same,
    );
    table.user(
        "a program and a certificate",
        &format!("{}\n{pair}", exec("  command: aws")),
        Same,
    );
    let old = "exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: aws}";
    table.user("an old version", old, Narrower("v1alpha1"));
    let v1 =
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}";
    table.user("version v1", v1, Same);
    let silent = "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}";
    table.user(
        "v1 without interactiveMode",
        silent,
        Refused("interactiveMode"),
    );
    table.user(
        "a terminal",
        &exec("  command: aws\n  interactiveMode: Always"),
        Narrower("terminal"),
    );
    table.user(
        "an unknown mode",
        &exec("  command: aws\n  interactiveMode: Maybe"),
        Refused("interactiveMode Maybe"),
    );
}
