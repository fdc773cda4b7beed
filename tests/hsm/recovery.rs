//! Lost sessions and logins, and the return codes that report them.

use std::time::Duration;

use cryptoki::context::Pkcs11;
use rootbridge::hsm::{HsmError, SignError, Token, TokenState};
use rootbridge_test_support::{eventually, stays};

use crate::support::{Module, Scenario, new_key, sign, sign_and_verify, until};

const LIMIT: Duration = Duration::from_secs(5);

/// Ends the login from another session: a login belongs to the process.
fn log_out(scenario: &Scenario, token: &Token) {
    let module = Pkcs11::new(&scenario.module).unwrap();
    let slot = token.info().unwrap().slot.try_into().unwrap();
    let session = module.open_ro_session(slot).unwrap();
    session.logout().unwrap();
}

scenario!(
    a_lost_login_is_restored_with_one_attempt,
    Module::Spy,
    async |scenario| {
        let (_hsm, token) = scenario
            .ready(|raw| raw.probe_interval = Duration::from_secs(600))
            .await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;
        let logins = scenario.calls("C_Login");
        for round in 1..=5u8 {
            log_out(&scenario, &token);
            let tasks: Vec<_> = (0..16u8)
                .map(|task| {
                    let key = key.clone();
                    tokio::spawn(async move { sign_and_verify(&key, &[round, task]).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(scenario.calls("C_Login"), logins + usize::from(round));
            assert_eq!(token.state(), TokenState::Ready);
        }
        // Other calls restore the login too, although a lost login only hides private keys.
        log_out(&scenario, &token);
        assert_eq!(token.keys().await.unwrap().len(), 1);
        assert_eq!(token.unconfirmed_signatures(), 0);
    }
);

scenario!(
    the_periodic_check_restores_a_lost_login,
    Module::Spy,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let logins = scenario.calls("C_Login");
        log_out(&scenario, &token);
        eventually(LIMIT, "another login", async || {
            scenario.calls("C_Login") == logins + 1
        })
        .await;
    }
);

scenario!(
    a_changed_pin_is_not_guessed_at_after_a_lost_login,
    Module::Spy,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        scenario.write_pin("4711-wrong");
        let logins = scenario.calls("C_Login");
        log_out(&scenario, &token);
        assert!(matches!(
            sign(&key, b"m").await.unwrap_err(),
            SignError::Unavailable(_)
        ));
        until(&token, LIMIT, |state| *state == TokenState::PinRejected).await;
        stays(Duration::from_secs(3), "no other login", async || {
            scenario.calls("C_Login") == logins + 1
        })
        .await;
        assert!(matches!(
            sign(&key, b"m").await.unwrap_err(),
            SignError::Unavailable(_)
        ));
        assert_eq!(scenario.calls("C_Login"), logins + 1);
        scenario.write_pin(crate::support::PIN);
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        sign_and_verify(&key, b"m").await;
    }
);

scenario!(
    lost_sessions_are_opened_again,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario
            .ready(|raw| raw.probe_interval = Duration::from_secs(600))
            .await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;
        let tests = token.test_signatures();
        for _ in 0..5 {
            scenario.command("close_all 1\nonce 1\n");
            for _ in 0..4 {
                sign_and_verify(&key, b"after").await;
            }
        }
        // The login thread lost its session too, and tested the new one.
        assert_eq!(token.test_signatures(), tests + 5);
        assert_eq!(
            (token.signatures(), token.unconfirmed_signatures()),
            (21, 0)
        );
    }
);

scenario!(
    each_code_of_a_lost_login_is_retried_once,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        // OBJECT_HANDLE_INVALID, KEY_HANDLE_INVALID, GENERAL_ERROR, USER_NOT_LOGGED_IN, HOST_MEMORY,
        // DEVICE_ERROR, SESSION_HANDLE_INVALID, a vendor's own.
        for code in [0x82u64, 0x60, 0x5, 0x101, 0x2, 0x30, 0xb3, 0x8000_0001] {
            for function in ["init_rv", "sign_rv"] {
                let inits = scenario.calls("C_SignInit");
                scenario.command(&format!("{function} {code}\nonce 1\n"));
                sign_and_verify(&key, b"m").await;
                assert_eq!(
                    scenario.calls("C_SignInit"),
                    inits + 2,
                    "{function} {code:#x}"
                );
            }
        }
        assert_eq!(token.state(), TokenState::Ready);
        assert_eq!(token.signatures(), 16);
        // Four codes do not tell whether C_Sign had signed.
        assert_eq!(token.unconfirmed_signatures(), 4);
    }
);

scenario!(
    a_refusal_is_never_retried,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        // DATA_INVALID, DATA_LEN_RANGE, MECHANISM_INVALID, KEY_TYPE_INCONSISTENT, KEY_FUNCTION_NOT_PERMITTED.
        // For MECHANISM_INVALID the key's other mechanism is tried, once.
        for (code, tried) in [(0x20u64, 1), (0x21, 1), (0x70, 2), (0x63, 1), (0x68, 1)] {
            let inits = scenario.calls("C_SignInit");
            scenario.command(&format!("init_rv {code}\n"));
            assert!(
                matches!(sign(&key, b"m").await.unwrap_err(), SignError::Refused(_)),
                "{code:#x}"
            );
            assert_eq!(scenario.calls("C_SignInit"), inits + tried, "{code:#x}");
        }
        scenario.command("");
        sign_and_verify(&key, b"m").await;
        assert_eq!(token.state(), TokenState::Ready);
    }
);

scenario!(
    a_signature_that_may_exist_is_unknown,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        // The token signs and returns DEVICE_ERROR each time.
        scenario.command("lost_rv 48\n");
        let error = sign(&key, b"m").await.unwrap_err();
        assert!(
            matches!(&error, SignError::Unknown(text) if text.contains("CKR_DEVICE_ERROR")),
            "{error}"
        );
        until(&token, LIMIT, |state| {
            matches!(state, TokenState::Unavailable(_))
        })
        .await;
        // Nothing may be signed while the token fails its test signature.
        assert!(matches!(
            key.reserve().unwrap_err(),
            SignError::Unavailable(_)
        ));
        scenario.command("");
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        sign_and_verify(&key, b"m").await;
        assert_eq!(token.unconfirmed_signatures(), 2);

        // Before C_Sign nothing was signed, and that is certain.
        scenario.command("init_rv 48\n");
        assert!(matches!(
            sign(&key, b"m").await.unwrap_err(),
            SignError::Unavailable(_)
        ));
    }
);

scenario!(
    a_wrong_test_signature_makes_the_token_unavailable,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario
            .ready(|raw| raw.probe_interval = Duration::from_secs(600))
            .await;
        let key = new_key(&token, &[1]).await;
        let wrong = async || {
            let error = key.probe().await.unwrap_err();
            assert!(matches!(error, HsmError::Probe { .. }), "{error}");
        };
        // The login thread's own test signature is valid.
        scenario.command("spoil 0\nonce 1\n");
        let tests = token.test_signatures();
        wrong().await;
        eventually(LIMIT, "test signatures", async || {
            token.test_signatures() >= tests + 2
        })
        .await;
        assert_eq!(token.state(), TokenState::Ready);

        scenario.command("spoil 0\n");
        wrong().await;
        let state = until(&token, LIMIT, |state| *state != TokenState::Ready).await;
        assert!(state.to_string().contains("signature"), "{state}");
        assert!(matches!(
            key.reserve().unwrap_err(),
            SignError::Unavailable(_)
        ));
        scenario.command("");
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        sign_and_verify(&key, b"m").await;
    }
);

scenario!(
    a_key_that_is_gone_does_not_stop_the_others,
    Module::Plain,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let gone = new_key(&token, &[1]).await;
        let here = new_key(&token, &[2]).await;
        rootbridge_test_support::command::run(
            std::process::Command::new("pkcs11-tool")
                .arg("--module")
                .arg(&scenario.module)
                .args([
                    "--token-label",
                    "main",
                    "--login",
                    "--pin",
                    crate::support::PIN,
                ])
                .args(["--delete-object", "--type", "privkey", "--id", "01"]),
        );
        let error = sign(&gone, b"m").await.unwrap_err();
        assert!(
            matches!(&error, SignError::Unavailable(text) if text.contains("CKA_ID 01")),
            "{error}"
        );
        stays(
            Duration::from_millis(200),
            "the token is ready",
            async || token.state() == TokenState::Ready,
        )
        .await;
        sign_and_verify(&here, b"m").await;
    }
);
