//! What goes wrong with tokens: no such token, a wrong PIN, a key that is gone.

use crate::support::{Home, read};

/// A home with what `dev` made, and no server.
fn made() -> Home {
    let home = Home::new();
    home.dev().stop();
    home
}

fn with_config(home: &Home, change: impl FnOnce(String) -> String) {
    let file = home.state("rootbridge.toml");
    std::fs::write(&file, change(read(&file))).unwrap();
}

#[test]
fn a_wrong_pin_is_tried_once_and_no_more() {
    let home = made();
    let right = read(&home.state("pin"));
    std::fs::write(home.state("pin"), "not-the-pin").unwrap();
    let done = home.run(&["check", "--wait", "1m"]);
    assert_eq!(done.code, 1);
    assert!(
        done.out.contains("× main: the token refused the PIN"),
        "{}",
        done.out
    );
    assert!(
        done.out.contains("no further attempt is made"),
        "{}",
        done.out
    );
    assert!(!done.out.contains("not-the-pin") && !done.err.contains("not-the-pin"));
    let message = home.run(&["key", "list"]).fails(4);
    assert!(message.contains("where: hsm.tokens.main"), "{message}");
    std::fs::write(home.state("pin"), right).unwrap();
    home.run(&["check"]).ok();
}

#[test]
fn a_token_that_is_not_there_is_named_with_those_that_are() {
    let home = made();
    with_config(&home, |text| {
        text.replace("label = \"rootbridge-dev\"", "label = \"other\"")
    });
    let done = home.run(&["check", "-o", "short"]);
    assert_eq!(done.code, 1);
    assert!(
        done.out.contains("× token main: no slot holds it"),
        "{}",
        done.out
    );
    assert!(done.out.contains("\"rootbridge-dev\""), "{}", done.out);
    let message = home.run(&["key", "list", "--token", "gone"]).fails(4);
    assert!(
        message.contains("no token is configured as \"gone\""),
        "{message}"
    );
}

#[test]
fn a_file_that_is_no_module_is_reported() {
    let home = made();
    let other = home.write("module.so", "not a library");
    with_config(&home, |text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("module"))
            .unwrap()
            .to_owned();
        text.replace(&line, &format!("module = '{}'", other.display()))
    });
    let message = home.run(&["key", "list"]).fails(4);
    assert!(message.contains("as a PKCS#11 module"), "{message}");
    let done = home
        .run(&["dev", "--dir", "elsewhere", "--module", "missing.so"])
        .fails(4);
    assert!(done.contains("apt-get install softhsm2"), "{done}");
}

#[test]
fn a_file_that_is_no_ledger_is_reported() {
    let home = made();
    let ledger = home.state("ledger.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", ledger.display()));
    }
    std::fs::write(
        &ledger,
        "not a database, and rather longer than a header would be".repeat(9),
    )
    .unwrap();
    let message = home.run(&["cert", "list"]).fails(5);
    assert!(message.contains("not a Rootbridge ledger"), "{message}");
}
