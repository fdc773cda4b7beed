//! Addresses that cannot be listened on: the message names the key, the cause, and what to do.

use std::net::TcpListener;

use rootbridge_test_support::TestServer;

use super::ledger_older::start_fails;

/// The start's message with this address under the section's head.
fn refused(section: &str, address: &str) -> String {
    let setup = TestServer::new();
    let config = std::fs::read_to_string(setup.config()).unwrap();
    let (before, after) = config.split_once(section).unwrap();
    let (line, rest) = after.trim_start().split_once('\n').unwrap();
    assert!(line.starts_with("address = "), "{line}");
    let changed = format!("{before}{section}\naddress = \"{address}\"\n{rest}");
    std::fs::write(setup.config(), changed).unwrap();
    start_fails(&setup, 1)
}

#[test]
fn the_message_names_the_cause() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let all = address.replace("127.0.0.1", "0.0.0.0");
    for (section, key, address) in [
        ("[listeners.mesh]", "listeners.mesh.address", &address),
        ("[listeners.mesh]", "listeners.mesh.address", &all),
        ("[admin]", "admin.address", &address),
    ] {
        let message = refused(section, address);
        let cause =
            format!("cannot listen on {address}: Address already in use (os error 98), by ");
        let holder = format!("(process {})", std::process::id());
        for part in [
            &cause,
            &holder,
            &format!("where: {key}"),
            &format!("change {key}"),
        ] {
            assert!(message.contains(part.as_str()), "{part}: {message}");
        }
    }
    // TEST-NET-1 of RFC 5737, which no host has.
    let message = refused("[listeners.mesh]", "192.0.2.1:8443");
    let advice = "no interface of this host has this address: change listeners.mesh.address";
    assert!(message.contains(advice), "{message}");
}
