//! The login: one attempt for each PIN, ever.

use std::time::Duration;

use rootbridge::hsm::{Hsm, HsmError, TokenState};
use rootbridge_test_support::{eventually, stays};

use crate::support::{Module, PIN, SO_PIN, Scenario, new_key, secret, sign_and_verify, until};

const LIMIT: Duration = Duration::from_secs(5);
/// Longer than the periodic check takes to read the PIN's source three times.
const A_WHILE: Duration = Duration::from_millis(3500);

/// Waits for the login `count`, and asserts that no other follows.
async fn logins(scenario: &Scenario, count: usize, why: &str) {
    let calls = || scenario.calls("C_Login");
    eventually(LIMIT, why, async || calls() >= count).await;
    stays(A_WHILE, why, async || calls() == count).await;
}

scenario!(
    a_wrong_pin_is_tried_once_and_recovers_alone,
    Module::Spy,
    async |scenario| {
        scenario.write_pin("4711-wrong");
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        // The security officer's login.
        assert_eq!(scenario.calls("C_Login"), 1);
        let token = hsm.token("main").unwrap();
        until(&token, LIMIT, |state| *state == TokenState::PinRejected).await;
        let error = token.keys().await.unwrap_err();
        assert!(
            matches!(
                error,
                HsmError::NotReady {
                    state: TokenState::PinRejected,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("it refused the PIN"), "{error}");

        logins(&scenario, 2, "the wrong PIN is not sent again").await;
        // Written again with another line end: still the same PIN.
        scenario.write_pin("4711-wrong\n");
        logins(&scenario, 2, "an unchanged PIN is not sent again").await;

        // Another wrong one is one more attempt, and again only one.
        scenario.write_pin("4711-wrong-too");
        logins(&scenario, 3, "one attempt for each PIN").await;
        assert_eq!(token.state(), TokenState::PinRejected);

        scenario.write_pin(PIN);
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        assert_eq!(scenario.calls("C_Login"), 4);
        sign_and_verify(&new_key(&token, &[1]).await, b"m").await;
        assert_eq!(scenario.calls("C_Login"), 4);
    }
);

scenario!(
    a_missing_pin_file_is_no_attempt,
    Module::Spy,
    async |scenario| {
        std::fs::remove_file(scenario.dir.join("pin")).unwrap();
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        let token = hsm.token("main").unwrap();
        let state = until(&token, LIMIT, |state| {
            matches!(state, TokenState::Unavailable(_))
        })
        .await;
        assert!(
            state.to_string().contains("cannot read the PIN from")
                && state.to_string().contains("No such file")
        );
        assert_eq!(scenario.calls("C_Login"), 1);
        scenario.write_pin(PIN);
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        assert_eq!(scenario.calls("C_Login"), 2);
    }
);

scenario!(
    the_last_attempt_is_not_spent_without_the_operators_word,
    Module::Faulty,
    async |scenario| {
        scenario.command("flags 131072\n"); // CKF_USER_PIN_FINAL_TRY
        let mut config = scenario.config(|_| ());
        let hsm = Hsm::open(&config).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        let token = hsm.token("main").unwrap();
        until(&token, LIMIT, |state| *state == TokenState::FinalTry).await;
        logins(&scenario, 1, "the last attempt is not spent").await;
        assert!(
            token
                .keys()
                .await
                .unwrap_err()
                .to_string()
                .contains("--final-try")
        );
        // The flag goes when another process logs in with the right PIN.
        scenario.command("");
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        drop((token, hsm));

        scenario.command("flags 131072\n");
        config.allow_final_try();
        let hsm = Hsm::open(&config).unwrap();
        let token = hsm.token("main").unwrap();
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        assert_eq!(scenario.calls("C_Login"), 3);
    }
);

scenario!(
    a_locked_token_gets_no_login_until_it_is_unlocked,
    Module::Faulty,
    async |scenario| {
        scenario.command("flags 262144\n"); // CKF_USER_PIN_LOCKED
        let mut config = scenario.config(|_| ());
        config.allow_final_try();
        let hsm = Hsm::open(&config).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        let token = hsm.token("main").unwrap();
        until(&token, LIMIT, |state| *state == TokenState::PinLocked).await;
        logins(&scenario, 1, "none to a locked token").await;
        let error = token.keys().await.unwrap_err().to_string();
        assert!(
            error.contains("the security officer must unlock it"),
            "{error}"
        );
        scenario.command("");
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        assert_eq!(scenario.calls("C_Login"), 2);
    }
);

scenario!(
    the_same_pin_is_sent_again_after_the_token_is_unlocked,
    Module::Faulty,
    async |scenario| {
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        // CKR_PIN_LOCKED, and no flag says so.
        scenario.command("login_rv 164\n");
        let token = hsm.token("main").unwrap();
        until(&token, LIMIT, |state| *state == TokenState::PinLocked).await;
        logins(&scenario, 2, "none to a locked token").await;
        // The flag appears, which is no reason to try, and goes.
        scenario.command("login_rv 164\nflags 262144\n");
        logins(&scenario, 2, "none to a locked token").await;
        scenario.command("login_rv 164\n");
        logins(&scenario, 3, "one attempt for each change").await;
        assert_eq!(token.state(), TokenState::PinLocked);
        scenario.command("flags 262144\n");
        // So that the flag is seen, which shows nowhere.
        logins(&scenario, 3, "none to a locked token").await;
        scenario.command("");
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        assert_eq!(scenario.calls("C_Login"), 4);
    }
);

scenario!(
    an_expired_pin_is_sent_again_when_something_changed,
    Module::Faulty,
    async |scenario| {
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        // CKR_PIN_EXPIRED, CKF_USER_PIN_TO_BE_CHANGED.
        scenario.command("login_rv 163\nflags 524288\n");
        let token = hsm.token("main").unwrap();
        until(&token, LIMIT, |state| *state == TokenState::PinExpired).await;
        let error = token.keys().await.unwrap_err().to_string();
        assert!(error.contains("its PIN has expired"), "{error}");
        logins(&scenario, 2, "an expired PIN is not sent again").await;
        // For tokens without the flags, the operator writes the same PIN again.
        scenario.write_pin(PIN);
        logins(&scenario, 3, "one attempt for each change").await;
        assert_eq!(token.state(), TokenState::PinExpired);
        scenario.command("");
        until(&token, LIMIT, |state| *state == TokenState::Ready).await;
        assert_eq!(scenario.calls("C_Login"), 4);
    }
);

scenario!(
    each_code_of_a_wrong_pin_is_remembered,
    Module::Faulty,
    async |scenario| {
        let config = scenario.config(|_| ());
        let hsm = Hsm::open(&config).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        drop(hsm);
        // PIN_INCORRECT, PIN_INVALID, PIN_LEN_RANGE.
        for (number, code) in [0xa0, 0xa1, 0xa2].into_iter().enumerate() {
            scenario.command(&format!("login_rv {code}\n"));
            let hsm = Hsm::open(&config).unwrap();
            let token = hsm.token("main").unwrap();
            until(&token, LIMIT, |state| *state == TokenState::PinRejected).await;
            scenario.command("");
            scenario.write_pin(PIN);
            logins(&scenario, 2 + number, "the PIN is not sent again").await;
            assert_eq!(token.state(), TokenState::PinRejected, "{code:#x}");
        }
    }
);
