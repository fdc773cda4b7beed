//! What goes wrong with tokens: no such token, a wrong PIN, a key that is gone.

use std::os::unix::fs::PermissionsExt as _;

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
    // No later process sends it either.
    let record = home.state("high-water/refused-pin.main.json");
    let written = std::fs::metadata(&record).unwrap();
    for _ in 0..3 {
        let message = home.run(&["key", "list"]).fails(4);
        for part in [
            "where: hsm.tokens.main",
            "is not sent again",
            "refused-pin.main.json",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let done = home.run(&["check"]);
    assert_eq!(done.code, 1);
    assert!(done.out.contains("is not sent again"), "{}", done.out);
    assert!(!read(&record).contains("not-the-pin"));
    let now = std::fs::metadata(&record).unwrap();
    assert_eq!(
        now.modified().unwrap(),
        written.modified().unwrap(),
        "no attempt"
    );
    assert_eq!(now.permissions().mode() & 0o077, 0);

    // The PIN may have been right: the operator says so.
    std::fs::remove_file(&record).unwrap();
    let message = home.run(&["key", "list"]).fails(4);
    assert!(message.contains("it refused the PIN"), "{message}");
    assert!(record.exists());

    std::fs::write(home.state("pin"), right).unwrap();
    home.run(&["check"]).ok();
    assert!(!record.exists());
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

#[test]
fn what_a_token_is_and_can_do_is_shown_without_a_change() {
    let home = made();
    let probe: serde_json::Value =
        serde_json::from_str(&home.run(&["hsm", "probe", "-o", "json"]).ok()).unwrap();
    assert_eq!(probe["library"]["manufacturer"], "SoftHSM");
    let slots = probe["slots"].as_array().unwrap();
    // SoftHSM always shows one more slot, for the next token.
    assert_eq!(slots.len(), 2, "{probe}");
    let ours = |slot: &&serde_json::Value| slot["configured_as"] == "main";
    let slot = slots.iter().find(ours).unwrap();
    assert_eq!(slot["token"]["label"], "rootbridge-dev");
    assert_eq!(slot["token"]["login_required"], true);
    // The root's, the issuing CA's.
    assert_eq!(slot["private_keys"], 2, "{slot}");
    assert_eq!(slot["not_ready"], serde_json::Value::Null);
    let kinds = slot["keys_of_kind"].as_array().unwrap();
    let p256 = kinds.iter().find(|kind| kind["kind"] == "ecdsa-p256");
    assert_eq!(
        *p256.unwrap(),
        serde_json::json!({
            "kind": "ecdsa-p256",
            "generates_with": "CKM_EC_KEY_PAIR_GEN",
            "signs_with": "CKM_ECDSA",
        })
    );
    let rsa = kinds.iter().find(|kind| kind["kind"] == "rsa-4096");
    assert_eq!(rsa.unwrap()["signs_with"], "CKM_SHA256_RSA_PKCS");

    let text = home.run(&["hsm", "probe"]).ok();
    for part in [
        "hsm.tokens.main",
        "2, all reported as generated in the token and never extractable",
        "needs 3",
        "not initialized",
        "no token in [hsm.tokens] is this one",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // Without a configuration nothing is logged in to, and a wrong PIN is not noticed.
    let config = read(&home.state("rootbridge.toml"));
    let module = config
        .lines()
        .find_map(|line| line.strip_prefix("module = "))
        .unwrap()
        .trim_matches(['\'', '"']);
    let text = home.run(&["hsm", "probe", "--module", module]).ok();
    assert!(text.contains("SoftHSM"), "{text}");
    assert!(!text.contains("hsm.tokens.main"), "{text}");
    let message = home.run(&["hsm", "probe", "--module", "m.so"]).fails(2);
    assert!(message.contains("absolute"), "{message}");

    std::fs::write(home.state("pin"), "not-the-pin").unwrap();
    let text = home.run(&["hsm", "probe"]).ok();
    for part in ["hsm.tokens.main", "it refused the PIN", "CKM_ECDSA,"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    with_config(&home, |text| {
        text.replace("\"rootbridge-dev\"", "\"other\"")
    });
    let text = home.run(&["hsm", "probe"]).ok();
    for part in ["no token in [hsm.tokens]", "not found", "label \"other\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
