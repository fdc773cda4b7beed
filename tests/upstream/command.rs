//! The upstream CA behind a program of the operator's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rootbridge_test_support::TestServer;

use crate::contract::{Implementation, contract};
use crate::enterprise::Enterprise;

/// What docs/how-to/upstream-command.md shows, but for the address.
const PROGRAM: &str = r#"#!/bin/sh
answer=$(mktemp) || exit 69
trap 'rm -f "$answer"' EXIT
status=$(curl -sS --max-time 30 -o "$answer" -w '%{http_code}' --data-binary @- \
    "$CA_URL/${ROOTBRIDGE_REFERENCE:-}") || exit 69
case $status in
200) cat "$answer" ;;
202) cat "$answer"; exit 75 ;;
4??) cat "$answer" >&2; exit 1 ;;
*) echo "HTTP $status" >&2; exit 69 ;;
esac
"#;

pub struct Program;

impl Implementation for Program {
    async fn section(&self, setup: &TestServer, ca: &Arc<Enterprise>) -> String {
        let url = ca.serve().await;
        let program = setup.path("ask-ca");
        let text = PROGRAM.replacen(
            "answer=$(mktemp)",
            &format!("CA_URL={url}\nanswer=$(mktemp)"),
            1,
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        format!("kind = \"command\"\nprogram = \"{}\"\n", program.display())
    }
}

contract!(Program);
