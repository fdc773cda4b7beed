//! What only C_Finalize and C_Initialize heal.

use std::time::{Duration, Instant};

use rootbridge::hsm::{HsmError, Key, RawTokenConfig, SignError, TokenState};
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::{PATIENCE, eventually, stays};

use crate::support::{Module, PIN, SO_PIN, new_key, secret, sign, sign_and_verify, until};

fn is_ready(state: &TokenState) -> bool {
    *state == TokenState::Ready
}

fn is_unavailable(state: &TokenState) -> bool {
    matches!(state, TokenState::Unavailable(_))
}

scenario!(
    a_token_directory_that_was_away_is_used_again,
    Module::Plain,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;
        let (tokens, moved) = (scenario.dir.join("tokens"), scenario.dir.join("moved"));
        std::fs::rename(&tokens, &moved).unwrap();
        let error = sign(&key, b"m").await.unwrap_err();
        assert!(matches!(error, SignError::Unavailable(_)), "{error}");
        until(&token, PATIENCE, is_unavailable).await;
        assert!(matches!(
            key.reserve().unwrap_err(),
            SignError::Unavailable(_)
        ));
        assert_eq!(token.signatures(), 1);
        // The module is started again while the directory is away too, as an operator's mistake lasts.
        std::fs::create_dir(&tokens).unwrap();
        let restarts = token.module_restarts();
        let started = async || token.module_restarts() > restarts;
        eventually(PATIENCE, "a restart of the module", started).await;
        tokio::time::sleep(Duration::from_secs(rounds(0, 26) as u64)).await;
        std::fs::remove_dir(&tokens).unwrap();
        std::fs::rename(&moved, &tokens).unwrap();
        // On a machine of its own within five seconds, however long it was away.
        let limit = Duration::from_secs(rounds(30, 5) as u64);
        until(&token, limit, is_ready).await;
        sign_and_verify(&key, b"after").await;
    }
);

scenario!(
    a_module_that_fails_until_it_is_initialized_is_initialized_again_with_one_login,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;
        // GENERAL_ERROR, DEVICE_ERROR, a vendor's own.
        for code in [0x5u64, 0x30, 0x8000_0001] {
            let (logins, starts) = (scenario.calls("C_Login"), token.module_restarts());
            scenario.command(&format!("wedge {code}\nonce 1\n"));
            let restarted = async || token.module_restarts() > starts;
            eventually(PATIENCE, "a restart of the module", restarted).await;
            until(&token, PATIENCE, is_ready).await;
            sign_and_verify(&key, b"after").await;
            assert_eq!(token.module_restarts(), starts + 1, "{code:#x}");
            assert_eq!(scenario.calls("C_Login"), logins + 1, "{code:#x}");
        }
        assert_eq!(token.unconfirmed_signatures(), 0);
    }
);

scenario!(
    a_pin_that_is_refused_after_a_restart_is_not_tried_again,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        scenario.write_pin("4711-wrong");
        let (logins, starts) = (scenario.calls("C_Login"), token.module_restarts());
        scenario.command("wedge 5\nonce 1\n");
        until(&token, PATIENCE, |state| *state == TokenState::PinRejected).await;
        let restarts = token.module_restarts();
        assert_eq!(restarts, starts + 1);
        // The PIN's source is read again each second.
        let same =
            async || scenario.calls("C_Login") == logins + 1 && token.module_restarts() == restarts;
        stays(Duration::from_millis(2500), "no login, no restart", same).await;
        scenario.write_pin(PIN);
        until(&token, PATIENCE, is_ready).await;
    }
);

/// Signs one after the other until `done`, and returns how often.
async fn sign_until(key: &Key, done: &tokio::sync::Notify) -> u64 {
    let mut signed = 0;
    let done = done.notified();
    tokio::pin!(done);
    loop {
        let deadline = Instant::now() + PATIENCE;
        let signature = key.reserve().unwrap().sign(b"other", deadline);
        signature.await.expect("no call of the other token fails");
        signed += 1;
        if futures_util::FutureExt::now_or_never(done.as_mut()).is_some() {
            return signed;
        }
    }
}

scenario!(
    other_tokens_of_the_module_pause_and_fail_no_call,
    Module::Plain,
    async |scenario| {
        let (hsm, token) = scenario
            .ready(|raw| {
                let main = &raw.tokens["main"];
                let other = RawTokenConfig {
                    label: Some("other".to_owned()),
                    ..main.clone()
                };
                raw.tokens.insert("other".to_owned(), other);
            })
            .await;
        let key = new_key(&token, &[1]).await;
        let before: Vec<_> = directories(&scenario.dir.join("tokens"));
        hsm.init_token(None, "other", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        let leaves = hsm.token("other").unwrap();
        until(&leaves, PATIENCE, is_ready).await;
        let leaving = new_key(&leaves, &[1]).await;
        sign_and_verify(&leaving, b"before").await;

        let done = std::sync::Arc::new(tokio::sync::Notify::new());
        let signing = {
            let (key, done) = (key.clone(), done.clone());
            tokio::spawn(async move { sign_until(&key, &done).await })
        };
        let directory = directories(&scenario.dir.join("tokens"))
            .into_iter()
            .find(|path| !before.contains(path))
            .unwrap();
        let moved = scenario.dir.join("moved");
        std::fs::rename(&directory, &moved).unwrap();
        until(&leaves, PATIENCE, is_unavailable).await;
        let restarts = leaves.module_restarts();
        let started = async || leaves.module_restarts() >= restarts + 2;
        eventually(PATIENCE, "two restarts of the module", started).await;
        assert_eq!(token.state(), TokenState::Ready);
        std::fs::rename(&moved, &directory).unwrap();
        until(&leaves, PATIENCE, is_ready).await;
        sign_and_verify(&leaving, b"after").await;
        done.notify_one();
        let signed = signing.await.unwrap();
        assert!(signed > 10, "{signed}");
        assert_eq!(token.state(), TokenState::Ready);
    }
);

fn directories(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

// The faulty module ends the process when C_Finalize is called during C_Sign.
scenario!(
    nothing_is_finalized_while_a_thread_is_in_c_sign,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario
            .ready(|raw| {
                raw.workers = 2;
                raw.deadline = Duration::from_millis(300);
            })
            .await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;
        let inits = scenario.calls("C_SignInit");
        scenario.command("sign_ms 600000\n");
        let held = tokio::spawn(
            key.reserve()
                .unwrap()
                .sign(b"held", Instant::now() + PATIENCE),
        );
        let taken = async || scenario.calls("C_SignInit") > inits;
        eventually(PATIENCE, "a worker is in C_Sign", taken).await;
        scenario.command("sign_ms 600000\nwedge 5\n");
        until(&token, PATIENCE, is_unavailable).await;
        // A restart waits two seconds for the worker.
        let held_up = async || token.module_restarts() == 0 && !held.is_finished();
        stays(Duration::from_secs(4), "no restart", held_up).await;
        let error = token.keys().await.unwrap_err();
        assert!(matches!(error, HsmError::NotReady { .. }), "{error}");
        // C_Sign returns, and the module can be started again.
        scenario.command("");
        assert!(held.await.unwrap().is_ok());
        until(&token, PATIENCE, is_ready).await;
        assert!(token.module_restarts() > 0);
        sign_and_verify(&key, b"after").await;
    }
);
