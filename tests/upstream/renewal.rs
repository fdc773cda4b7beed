//! The life of an issuing CA: renewed in time, with a new key, and never in the way of issuance.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::command::run;
use rootbridge_test_support::softhsm;
use rootbridge_test_support::under_load::every_key_is_recorded;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually, stays};

use crate::authority::{
    approve, configure, fingerprint, issue, issuers, status, wait_for_problem, wait_for_state,
};
use crate::command::serve;
use crate::enterprise::{Behaviour, Enterprise};

/// Renewed after some seconds, long before its end: a slow machine may take a while for it.
pub const SHORT_LIFE: &str = "ttl = \"100s\"\nrenew_at = \"10%\"";

/// Between two requests of one caller, whose rate is limited.
pub const A_CALLERS_PAUSE: Duration = Duration::from_millis(200);

/// Certificates that fit an issuing CA of a minute and a half.
pub fn shorten_profiles(setup: &TestServer) {
    for (from, to) in [
        ("default_ttl = \"24h\"", "default_ttl = \"10s\""),
        ("backdate = \"2m\"", "backdate = \"1s\""),
        // Of the listener's own certificate.
        (
            "[istio]",
            "[profiles.serving]\ndefault_ttl = \"10s\"\nbackdate = \"1s\"\n\n[istio]",
        ),
        // Profiles that live a day.
        (
            "[\"short\", \"gold\", \"workload\"]",
            "[\"short\", \"workload\"]",
        ),
        (
            "[\"workload\", \"short\", \"ignore\"]",
            "[\"workload\", \"short\"]",
        ),
    ] {
        setup.edit(from, to);
    }
}

/// The issuers that have signed, or do.
pub fn used(setup: &TestServer) -> usize {
    let issuers = issuers(setup).into_iter();
    issuers
        .filter(|issuer| issuer["state"] != "pending")
        .count()
}

/// A leaf never outlives its issuer: a start is refused where a renewal would come too late for the longest.
#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_is_too_short_for_the_profiles_is_refused() {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    configure(&setup, &ca, "ttl = \"40h\"").await;
    for command in [&["config", "validate"][..], &["serve"]] {
        let refused = setup.refused(command);
        for says in [
            "renewed at 50% of its life",
            "has 18 hours left then",
            "live 1 day",
        ] {
            assert!(refused.contains(says), "{command:?}: {refused}");
        }
    }
}

/// With a new key each time; the certificates that were issued go on to verify.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuing_ca_is_renewed_in_time_while_workloads_are_served() {
    let setup = TestServer::bare();
    shorten_profiles(&setup);
    let ca = Enterprise::new(setup.path("enterprise"));
    ca.certificates_live(90);
    configure(&setup, &ca, SHORT_LIFE).await;
    let server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;
    let wanted = rounds(3, 30);
    let what = "every issuing CA, and a certificate at every moment";
    let limit = PATIENCE * u32::try_from(wanted).unwrap();
    eventually(limit, what, async || {
        issue(&setup, &server).await;
        tokio::time::sleep(A_CALLERS_PAUSE).await;
        used(&setup) >= wanted
    })
    .await;
    every_key_is_recorded(&setup);
    let requests = issuers(&setup).len();
    assert!(ca.submissions() <= requests, "one request for each key");
    server.stop().await;
}

/// The enterprise changes its root: the new one waits for an operator, then for the workloads, and the
/// issuing CA below the old one goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_is_published_before_it_is_used() {
    let setup = TestServer::bare();
    shorten_profiles(&setup);
    let old = Enterprise::new(setup.path("old"));
    old.certificates_live(150);
    let authority = format!("{SHORT_LIFE}\npublish_first = \"3s\"");
    configure(&setup, &old, &authority).await;
    let mut server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    // Asked from the renewal on.
    let new = Enterprise::new(setup.path("new"));
    new.certificates_live(3600);
    let url = serve(&new).await;
    let program = setup.path("ask-ca");
    let text = fs::read_to_string(&program).unwrap();
    let line = text.lines().find(|line| line.starts_with("CA_URL="));
    let text = text.replace(line.unwrap(), &format!("CA_URL={url}"));
    fs::write(&program, text).unwrap();
    approve(&setup, &old);
    server.ready().await;
    server.kill();
    drop(server);

    let server = setup.serve().await;
    let what = "the renewal's answer, while workloads are served";
    eventually(PATIENCE, what, async || {
        issue(&setup, &server).await;
        tokio::time::sleep(A_CALLERS_PAUSE).await;
        status(&setup, &server).await["request"]["state"] == "received"
    })
    .await;
    wait_for_problem(&setup, &server, "is not known").await;
    stays(Duration::from_secs(2), "one CA signs", async || {
        issue(&setup, &server).await;
        tokio::time::sleep(A_CALLERS_PAUSE).await;
        used(&setup) == 1
    })
    .await;
    // For what verifies here, from now on: the switch may follow soon.
    let both = old.root.pem() + &new.root.pem();
    fs::write(setup.path(&format!("{TD}.pem")), both).unwrap();
    setup.cli(&["anchors", "approve", &fingerprint(&new.root.pem())]);
    server.wait_for_log("is published until").await;
    issue(&setup, &server).await;
    eventually(PATIENCE, "the new issuing CA", async || used(&setup) == 2).await;
    issue(&setup, &server).await;
    server.wait_for_log("upstream.activated").await;
    let log = server.log();
    let (_, until) = log.rsplit_once("is published until ").unwrap();
    let activated = log
        .lines()
        .rfind(|line| line.contains("upstream.activated"));
    let activated: serde_json::Value = serde_json::from_str(activated.unwrap()).unwrap();
    let activated = activated["timestamp"].as_str().unwrap();
    // To the second.
    assert!(
        activated[..19] >= until[..19],
        "{activated}, {}",
        &until[..20]
    );
    server.stop().await;
}

/// kill -9 at many moments of a request: it goes on, and no key is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_continues_its_request() {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    ca.tell(Behaviour::Pending);
    configure(&setup, &ca, "").await;
    for kill in 0..rounds(5, 60) {
        let mut server = setup.start().await;
        // SoftHSM writes its token's file when it logs in, and loses the token when it dies in that.
        server.wait_for_log("the token is ready").await;
        // From before the first record to after the first poll.
        let after = u64::try_from(kill % 12).unwrap() * 150;
        tokio::time::sleep(Duration::from_millis(after)).await;
        server.kill();
        drop(server);
    }
    let server = setup.start().await;
    wait_for_state(&setup, &server, "pending").await;
    every_key_is_recorded(&setup);
    assert_eq!(issuers(&setup).len(), 1, "one key for one request");
    ca.tell(Behaviour::Issue);
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;
    issue(&setup, &server).await;
    assert_eq!(used(&setup), 1);
    server.stop().await;
}

/// What an operator has cancelled is not used, and the next request has a new key.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_is_not_used() {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    configure(&setup, &ca, "").await;
    let server = setup.start().await;
    let first = wait_for_state(&setup, &server, "received").await;
    setup.cli(&["ca", "cancel", TD, "--reason", "CHG-12"]);
    eventually(PATIENCE, "the next request", async || {
        let status = status(&setup, &server).await;
        let open = &status["request"];
        open["state"] == "received" && open["request"] != first["request"]
    })
    .await;
    assert_eq!(issuers(&setup).len(), 2, "a new key");
    assert_eq!(used(&setup), 0);
    // A root that is only published, for another CA, is none that callers are accepted through.
    let root = ca.root.pem_file();
    let root = root.to_str().unwrap();
    let add = [
        "anchors",
        "add",
        root,
        "--trust-domain",
        TD,
        "--source",
        "a peer",
    ];
    setup.cli(&add);
    stays(
        Duration::from_secs(2),
        "it waits for the approval",
        async || used(&setup) == 0,
    )
    .await;
    let refused = setup.refused(&["ca", "cancel", "other.example"]);
    assert!(refused.contains("no request of other.example"), "{refused}");
    let checked = setup.try_cli(&["check", "-o", "json"]).stdout;
    let checked = String::from_utf8(checked).unwrap();
    assert!(checked.contains("anchors approve"), "{checked}");

    approve(&setup, &ca);
    server.ready().await;
    issue(&setup, &server).await;
    let listed = issuers(&setup);
    assert_eq!(listed[0]["state"], "pending", "the cancelled key");
    assert_eq!(listed[1]["state"], "active");
    let unused: Vec<serde_json::Value> =
        serde_json::from_str(&setup.cli(&["key", "list", "--unused", "-o", "json"])).unwrap();
    assert_eq!(unused.len(), 1, "{unused:?}");
    let active = listed[1]["issuer"].as_str().unwrap();
    let refused = setup.refused(&["ca", "retire", active]);
    assert!(refused.contains("have not expired"), "{refused}");
    setup.cli(&["ca", "retire", listed[0]["issuer"].as_str().unwrap()]);
    assert_eq!(issuers(&setup)[0]["state"], "retired");
    server.stop().await;
}

/// Nobody else destroys a key, and it needs a yes: keys of requests that were cancelled, and keys with the
/// label of this server's that no record names.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nothing_uses_are_destroyed_by_an_operator() {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    configure(&setup, &ca, "").await;
    let server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    setup.cli(&["ca", "cancel", TD]);
    eventually(PATIENCE, "the next key", async || {
        issuers(&setup).len() == 2
    })
    .await;
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;
    server.stop().await;
    let orphan = format!("rootbridge {TD} issuing");
    for (label, id) in [(&*orphan, "6f01"), ("of another program", "6f02")] {
        let pin = fs::read_to_string(setup.path("token/pin")).unwrap();
        let mut tool = Command::new("pkcs11-tool");
        tool.env("SOFTHSM2_CONF", setup.path("token/softhsm2.conf"));
        tool.arg("--module").arg(softhsm::module());
        tool.args(["--token-label", "rootbridge", "--login", "--pin", &pin]);
        tool.args(["--keypairgen", "--key-type", "EC:prime256v1"]);
        run(tool.args(["--label", label, "--id", id, "--usage-sign", "--sensitive"]));
    }
    let keys = || -> Vec<serde_json::Value> {
        serde_json::from_str(&setup.cli(&["key", "list", "-o", "json"])).unwrap()
    };
    assert_eq!(keys().len(), 4);

    // Nobody is there to say yes.
    let refused = setup.refused(&["key", "prune"]);
    for says in [
        "Destroy 2 of them?",
        "no record names it",
        "was given up",
        "nothing was destroyed",
    ] {
        assert!(refused.contains(says), "{says}: {refused}");
    }
    assert_eq!(keys().len(), 4);

    let destroyed = setup.cli(&["key", "prune", "--yes"]);
    assert_eq!(destroyed.matches("destroyed key").count(), 2, "{destroyed}");
    let left = keys();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().any(|key| key["label"] == "of another program"));
    assert!(left.iter().any(|key| {
        key["use"]
            .as_str()
            .is_some_and(|used| used.contains("active"))
    }));
    assert_eq!(issuers(&setup)[0]["state"], "retired");
    assert_eq!(
        setup.cli(&["key", "prune", "--yes", "-o", "json"]).trim(),
        "[]"
    );
    let server = setup.serve().await;
    issue(&setup, &server).await;
    server.stop().await;
}
