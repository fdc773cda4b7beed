//! Many authorities at one upstream CA, all due at once, and a server that is killed meanwhile.

use std::fs;

use reqwest::Method;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::{PATIENCE, RunningServer, TestServer, eventually};
use serde_json::Value;

use crate::authority::{configure, issuers};
use crate::enterprise::{Behaviour, Enterprise};

/// How many authorities ask at the same time: as many may ask again after a kill.
const AT_ONCE: usize = 8;

/// How many of the authorities have a request in this state.
async fn in_state(setup: &TestServer, server: &RunningServer, state: &str) -> usize {
    let credential = Some(setup.operator.as_str());
    let (code, text) = server
        .admin_request(Method::GET, "/v1/status", credential)
        .await;
    assert_eq!(code, 200, "{text}");
    let status: Value = serde_json::from_str(&text).unwrap();
    let authorities = status["upstream"].as_array().unwrap().iter();
    authorities
        .filter(|each| each["request"]["state"] == state)
        .count()
}

/// A request that is on record as sent is never sent again; one that was being sent when the server died
/// is, for the same key.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_are_due_at_once_ask_once_each() {
    let many = rounds(5, 500);
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    ca.tell(Behaviour::Pending);
    configure(&setup, &ca, "").await;
    let others: String = (1..many)
        .map(|number| format!("[authority.\"a{number}.example\"]\nupstream = \"corp\"\n\n"))
        .collect();
    let text = fs::read_to_string(setup.config()).unwrap();
    fs::write(setup.config(), text + &others).unwrap();
    let limit = PATIENCE * u32::try_from(rounds(1, 10)).unwrap();

    let mut server = setup.start().await;
    eventually(limit, "the first submission", async || ca.submissions() > 0).await;
    server.kill();
    drop(server);

    let mut server = setup.start().await;
    eventually(limit, "all requests pending", async || {
        in_state(&setup, &server, "pending").await == many
    })
    .await;
    let sent = ca.submissions();
    assert!((many..=many + AT_ONCE).contains(&sent), "{sent}");
    let keys = issuers(&setup).len();
    assert_eq!(keys, many, "one key for each authority");
    server.kill();
    drop(server);

    // What is pending is only polled, by the next server too.
    let polls = || ca.calls().len() - ca.submissions();
    let before = polls();
    let server = setup.start().await;
    eventually(limit, "polls", async || polls() >= before + many).await;
    ca.tell(Behaviour::Issue);
    eventually(limit, "all answers", async || {
        in_state(&setup, &server, "received").await == many
    })
    .await;
    assert_eq!(ca.submissions(), sent, "none is sent again");
    assert_eq!(issuers(&setup).len(), many);
    server.stop().await;
}
