//! A real OpenBao as the upstream CA.

use std::fs;
use std::time::{Duration, Instant};

use reqwest::Method;
use rootbridge::upstream::Answer;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::openbao::OpenBao;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::under_load::{Kills, every_key_is_recorded, workloads_are_served};
use rootbridge_test_support::{PATIENCE, TD, TestServer};
use serde_json::{Value, json};

use crate::authority::{configure_section, fingerprint, status, wait_for_problem, wait_for_state};
use crate::contract::{connect, submission};
use crate::renewal::{A_CALLERS_PAUSE, SHORT_LIFE, used};

/// An AppRole with the policy; its login's keys.
async fn approle(bao: &OpenBao, setup: &TestServer) -> String {
    bao.enable_login("approle").await;
    let role = json!({ "token_policies": "rootbridge", "token_ttl": "5m", "token_num_uses": 0 });
    let path = "auth/approle/role/rootbridge";
    bao.call(Method::POST, path, role).await;
    let (id, secret) = (format!("{path}/role-id"), format!("{path}/secret-id"));
    let id = bao.call(Method::GET, &id, Value::Null).await;
    let id = id["data"]["role_id"].as_str().unwrap();
    let secret = bao.call(Method::POST, &secret, json!({})).await;
    let secret = secret["data"]["secret_id"].as_str().unwrap();
    let file = setup.path("secret-id");
    fs::write(&file, secret).unwrap();
    format!(
        "login = \"approle\"\nrole_id = \"{id}\"\nsecret_id_file = \"{}\"\n",
        file.display()
    )
}

/// A client certificate that OpenBao knows logs in, and another one of the same name does not.
async fn certificates_log_in(bao: &OpenBao, setup: &TestServer) {
    bao.enable_login("cert").await;
    let known = OpensslCa::new(&setup.path(""), "mesh");
    let role = json!({ "certificate": known.pem(), "token_policies": "rootbridge" });
    bao.call(Method::POST, "auth/cert/certs/mesh", role).await;
    let directory = setup.path("stranger");
    fs::create_dir_all(&directory).unwrap();
    let stranger = OpensslCa::new(&directory, "mesh");
    let login = |client: &OpensslCa| {
        let keys = format!(
            "login = \"cert\"\nrole = \"mesh\"\nclient_certificate_file = \"{}\"\nclient_key_file = \"{}\"\n",
            client.pem_file().display(),
            client.key_file().display()
        );
        connect(&(bao.section() + &keys))
    };
    let upstream = login(&known);
    let found = upstream.test().await.unwrap().join("\n");
    assert!(found.contains("may sign CAs"), "{found}");
    let answer = upstream.submit(&submission()).await;
    assert!(matches!(answer, Ok(Answer::Issued(_))), "{answer:?}");
    let refused = login(&stranger).submit(&submission()).await.unwrap_err();
    assert!(
        refused.reason.contains("auth/cert/login answered 400"),
        "{refused:?}"
    );
}

/// From `upstream test` to a renewal, with the least rights.
#[tokio::test(flavor = "multi_thread")]
async fn openbao_certifies_and_renews_the_issuing_ca() {
    let setup = TestServer::bare();
    let bao = OpenBao::start(&setup.path("")).await;
    let root = bao.pki().await;
    let section = bao.section() + &approle(&bao, &setup).await;
    crate::renewal::shorten_profiles(&setup);
    configure_section(&setup, &section, "20s", SHORT_LIFE);

    let found = setup.cli(&["upstream", "test", "corp"]);
    for says in ["is active", "accepts the credential", "may sign CAs"] {
        assert!(found.contains(says), "{found}");
    }
    let refused = setup.refused(&["upstream", "test", "other"]);
    assert!(refused.contains("known: corp"), "{refused}");

    let mut server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    setup.cli(&["anchors", "approve", &fingerprint(&root)]);
    fs::write(setup.path(&format!("{TD}.pem")), &root).unwrap();
    server.ready().await;
    // Three renewals of the first one.
    let wanted = rounds(4, 31);
    let mut kills = Kills::new(rounds(1, 30), Duration::from_secs(10));
    let start = Instant::now();
    while used(&setup) < wanted || !kills.are_done() {
        let limit = PATIENCE * u32::try_from(wanted).unwrap();
        assert!(start.elapsed() < limit, "not renewed within {limit:?}");
        workloads_are_served(&setup, &server).await;
        tokio::time::sleep(A_CALLERS_PAUSE).await;
        server = kills.perhaps(&setup, server).await;
    }
    every_key_is_recorded(&setup);
    let secret = fs::read_to_string(setup.path("secret-id")).unwrap();
    assert!(!server.log().contains(&secret));

    // The role loses its policy: the credential is accepted, and may do nothing.
    let role = json!({ "token_policies": "default" });
    bao.call(Method::POST, "auth/approle/role/rootbridge", role)
        .await;
    let refused = setup.refused(&["upstream", "test", "corp"]);
    assert!(
        refused.contains("do not let the credential update"),
        "{refused}"
    );
    wait_for_problem(&setup, &server, "permission denied").await;
    assert!(status(&setup, &server).await["request"]["state"] == "submitted");
    fs::write(setup.path("secret-id"), "wrong").unwrap();
    wait_for_problem(&setup, &server, "auth/approle/login answered 400").await;
    server.stop().await;
    certificates_log_in(&bao, &setup).await;
}
