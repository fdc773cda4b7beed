//! Help, bad arguments, bad files: exit codes and what is said.

use std::collections::BTreeSet;

use crate::support::Home;

const PAGE: &str = include_str!("../../docs/reference/cli.md");
const SMALL: &str = "[ledger]\npath = '/nowhere/ledger.db'\n[hsm]\nmodule = '/nowhere/module.so'\n";

/// The commands that do something, with their options.
fn commands(command: &clap::Command, name: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
    let inner: Vec<_> = command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
        .collect();
    if inner.is_empty() {
        let shown = command.get_arguments().filter(|each| !each.is_hide_set());
        let options = shown.filter_map(clap::Arg::get_long);
        let options = options.filter(|long| !["help", "version"].contains(long));
        found.push((
            name.to_owned(),
            options.map(|long| format!("--{long}")).collect(),
        ));
    }
    for inner in inner {
        commands(inner, &format!("{name} {}", inner.get_name()), found);
    }
}

#[test]
fn every_command_and_option_is_documented() {
    let mut all = Vec::new();
    let mut command = rootbridge::cli::command();
    command.build();
    commands(&command, "rootbridge", &mut all);
    assert!(all.len() > 15, "{all:?}");
    for (name, options) in all {
        let start = PAGE.find(&format!("\n## {name}\n"));
        let start = start.unwrap_or_else(|| panic!("docs/reference/cli.md lacks `## {name}`"));
        let section = &PAGE[start + 4..];
        let section = section.find("\n## ").map_or(section, |end| &section[..end]);
        let documented: BTreeSet<String> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .filter_map(|line| line.split('`').find(|part| part.starts_with("--")))
            .map(|part| part.split([' ', '[']).next().unwrap().to_owned())
            .collect();
        assert_eq!(options, documented, "docs/reference/cli.md, {name}");
    }
    for (exit, name) in rootbridge::cli::Exit::ALL {
        assert!(
            PAGE.contains(&format!("| {} | {name} |", exit as u8)),
            "{name}"
        );
    }
}

#[test]
fn help_completions_and_manual_pages() {
    let home = Home::new();
    assert!(home.run(&["--help"]).ok().contains("Exit codes: 0 done"));
    assert!(home.run(&["--version"]).ok().starts_with("rootbridge 0."));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            home.run(&["completions", shell])
                .ok()
                .contains("rootbridge"),
            "{shell}"
        );
    }
    assert!(home.run(&["man"]).ok().contains(".TH rootbridge 1"));
    home.run(&["man", "--out", "man"]).ok();
    assert!(home.path("man/rootbridge-ca-init.1").exists());
}

#[test]
fn usage_errors_are_2() {
    let home = Home::new();
    for args in [
        &["frobnicate"][..],
        &["sign"],
        &["sign", "https://not.a.spiffe.id/", "--out", "x"],
        &[
            "sign",
            "spiffe://td/ns/a/sa/b",
            "--out",
            "x",
            "--key",
            "dsa-1024",
        ],
        &[
            "sign",
            "spiffe://td/ns/a/sa/b",
            "--out",
            "x",
            "--ttl",
            "soon",
        ],
        &["ca", "init"],
        &["ca", "init", "--trust-domain", "Not A Domain"],
        &["ca", "init", "--trust-domain", "td", "--path-len", "300"],
        &[
            "ca",
            "init",
            "--trust-domain",
            "td",
            "--root-ttl",
            "1d",
            "--issuing-ttl",
            "2d",
        ],
        &["cert", "list", "--state", "lost"],
        &["cert", "list", "--since", "yesterday"],
        &[
            "bundle",
            "fetch",
            "https://h/v1/trust-bundles/td",
            "--out",
            "x",
            "--fingerprint",
            "12",
        ],
        &[
            "bundle",
            "fetch",
            "http://h/v1/trust-bundles/td",
            "--out",
            "x",
            "--fingerprint",
            &"0".repeat(64),
        ],
        &["anchors", "remove", "xyz"],
    ] {
        let message = home.run(args).fails(2);
        assert!(message.starts_with("error:"), "{args:?}: {message}");
    }
}

#[test]
fn a_bad_configuration_is_3_with_file_line_and_what_to_write() {
    let home = Home::new();
    let none = home.run(&["config", "validate"]).fails(3);
    assert!(
        none.contains("no configuration: looked for /etc/rootbridge/"),
        "{none}"
    );
    assert!(none.contains("next:  or run `rootbridge dev`"), "{none}");

    home.write("rb.toml", &format!("{SMALL}workres = 3\n"));
    for args in [
        &["config", "validate"][..],
        &["serve"],
        &["check"],
        &["ca", "list"],
    ] {
        let mut args = args.to_vec();
        args.extend(["--config", "rb.toml"]);
        let message = home.run(&args).fails(3);
        assert!(
            message.contains("error: hsm.workres: unknown key"),
            "{message}"
        );
        assert!(message.contains("where: rb.toml:5"), "{message}");
        assert!(message.contains("did you mean `workers`?"), "{message}");
    }

    home.write("rb.toml", SMALL);
    let valid = home.run(&["config", "validate", "-c", "rb.toml"]).ok();
    assert!(valid.starts_with("rb.toml is valid\n"), "{valid}");
    assert!(valid.contains("its limits allow"), "{valid}");
    let overridden = home
        .command(&["config", "validate", "-c", "rb.toml", "-o", "json"])
        .env("ROOTBRIDGE_HSM__WORKERS", "0")
        .output()
        .unwrap();
    assert_eq!(overridden.status.code(), Some(3));
    let found: serde_json::Value = serde_json::from_slice(&overridden.stdout).unwrap();
    assert_eq!(found["valid"], false);
    assert_eq!(
        found["findings"][0]["place"],
        "environment variable ROOTBRIDGE_HSM__WORKERS"
    );
    let missing = home
        .run(&["config", "validate", "-c", "gone.toml"])
        .fails(3);
    assert!(missing.contains("gone.toml"), "{missing}");
}

#[test]
fn each_room_has_its_code() {
    let home = Home::new();
    home.write("rb.toml", SMALL);
    let module = home.run(&["key", "list", "-c", "rb.toml"]).fails(4);
    assert!(module.contains("/nowhere/module.so"), "{module}");
    let ledger = home.run(&["cert", "list", "-c", "rb.toml"]).fails(5);
    assert!(
        ledger.contains("there is no ledger at /nowhere/ledger.db yet"),
        "{ledger}"
    );
    let nobody = home.run(&["bundle", "show"]).fails(3);
    assert!(nobody.contains("run `rootbridge dev` first"), "{nobody}");
    let url = "https://127.0.0.1:1/v1/trust-bundles/td";
    let print = "0".repeat(64);
    home.run(&[
        "bundle",
        "fetch",
        url,
        "--out",
        "x",
        "--fingerprint",
        &print,
    ])
    .fails(7);
    assert!(!home.path("x").exists());
}

#[test]
fn a_client_file_with_an_unknown_key_is_refused() {
    let home = Home::new();
    home.write("client.toml", "endpiont = 'https://localhost:1'\n");
    let message = home
        .run(&["bundle", "show", "--client", "client.toml"])
        .fails(3);
    assert!(
        message.contains("endpiont: unknown key") && message.contains("`endpoint`"),
        "{message}"
    );
    home.write(
        "client.toml",
        "endpoint = 'http://localhost:1'\nbundle = 'b'\n",
    );
    let message = home
        .run(&["bundle", "show", "--client", "client.toml"])
        .fails(3);
    assert!(message.contains("is not https://HOST:PORT"), "{message}");
}

#[test]
fn check_says_what_is_missing() {
    let home = Home::new();
    home.write("rb.toml", SMALL);
    let done = home.run(&["check", "-c", "rb.toml"]);
    assert_eq!(done.code, 1);
    assert!(
        done.out
            .contains("× load: no PKCS#11 module at /nowhere/module.so"),
        "{}",
        done.out
    );
    assert!(
        done.out.contains("see docs/reference/cli.md#check-module"),
        "{}",
        done.out
    );
    let short = home.run(&["check", "-c", "rb.toml", "-o", "short"]);
    assert!(
        short.out.lines().all(|line| line.starts_with(['‼', '×'])),
        "{}",
        short.out
    );
    let json = home.run(&["check", "-c", "rb.toml", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["checks"][0]["result"], "ok");
}

/// Every category that `check` can name has its section, where the hint points.
#[test]
fn every_category_of_check_is_explained() {
    for category in [
        "config",
        "ledger",
        "clock",
        "module",
        "token",
        "pin",
        "keys",
        "signature",
        "chain",
        "bundle",
    ] {
        assert!(
            PAGE.contains(&format!("\n### check {category}\n")),
            "{category}"
        );
    }
}
