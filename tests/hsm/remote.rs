//! A remote HSM: SoftHSM behind `p11-kit server`, which can be stopped and killed.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rootbridge::hsm::{Hsm, HsmError, SignError, TokenState};

use rootbridge_test_support::PATIENCE;
use rootbridge_test_support::command::run;
use rootbridge_test_support::p11_kit::P11KitServer;
use rootbridge_test_support::softhsm::p11_kit_client;

use crate::support::{Module, PIN, SO_PIN, Scenario, new_key, sign, sign_and_verify, until};

/// A token `main` behind a server, at the address that the client library has from the environment.
fn serve(scenario: &Scenario) -> P11KitServer {
    run(Command::new("softhsm2-util").args([
        "--init-token",
        "--free",
        "--label",
        "main",
        "--so-pin",
        SO_PIN,
        "--pin",
        PIN,
    ]));
    start(scenario)
}

fn start(scenario: &Scenario) -> P11KitServer {
    P11KitServer::start(&scenario.module, &scenario.dir.join("p11-kit.sock"))
}

fn open(scenario: &Scenario) -> Hsm {
    let config = scenario.config(|raw| {
        raw.module = p11_kit_client();
        raw.deadline = Duration::from_millis(500);
    });
    Hsm::open(&config).unwrap()
}

scenario!(
    a_stopped_server_hangs_nobody_and_recovers_alone,
    Module::Remote,
    async |scenario| {
        let server = serve(&scenario);
        let hsm = open(&scenario);
        let token = hsm.token("main").unwrap();
        token.ready(Duration::from_secs(30)).await.unwrap();
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;

        server.signal(Signal::SIGSTOP);
        let stuck = tokio::spawn(
            key.reserve()
                .unwrap()
                .sign(b"m", Instant::now() + Duration::from_secs(20)),
        );
        let error = token.probe().await.unwrap_err();
        assert!(matches!(error, HsmError::Timeout { .. }), "{error}");
        assert!(matches!(
            key.reserve().unwrap_err(),
            SignError::Unavailable(_)
        ));
        assert!(!stuck.is_finished());

        server.signal(Signal::SIGCONT);
        until(&token, Duration::from_secs(5), |state| {
            *state == TokenState::Ready
        })
        .await;
        let signature = stuck.await.unwrap().unwrap();
        key.public_key()
            .verify(key.algorithm(), b"m", &signature)
            .unwrap();
        sign_and_verify(&key, b"after").await;
    }
);

scenario!(
    a_killed_server_is_said_to_be_gone_and_another_is_used,
    Module::Remote,
    async |scenario| {
        let server = serve(&scenario);
        let hsm = open(&scenario);
        let token = hsm.token("main").unwrap();
        token.ready(Duration::from_secs(30)).await.unwrap();
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;
        drop(server);
        let error = sign(&key, b"m").await.unwrap_err();
        assert!(
            matches!(error, SignError::Unavailable(_) | SignError::Unknown(_)),
            "{error}"
        );
        until(&token, Duration::from_secs(5), |state| {
            matches!(state, TokenState::Unavailable(_))
        })
        .await;
        assert!(matches!(
            key.reserve().unwrap_err(),
            SignError::Unavailable(_)
        ));
        let _server = start(&scenario);
        until(&token, PATIENCE, |state| *state == TokenState::Ready).await;
        sign_and_verify(&key, b"after").await;
    }
);
