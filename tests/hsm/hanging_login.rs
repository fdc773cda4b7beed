//! A call of the login thread that does not return.

use std::time::Duration;

use rootbridge::hsm::{Hsm, TokenState};
use rootbridge_test_support::{PATIENCE, eventually, stays};

use crate::support::{Module, new_key, sign_and_verify, until};

fn is_ready(state: &TokenState) -> bool {
    *state == TokenState::Ready
}

scenario!(
    a_login_that_hangs_is_replaced_and_its_pin_was_accepted_before,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;
        let logins = scenario.calls("C_Login");
        // Only a start of the module helps, and then a login is needed.
        scenario.command("wedge 5\n");
        until(&token, PATIENCE, |state| !is_ready(state)).await;
        scenario.command("hang_login 1\n");
        eventually(PATIENCE, "it hangs", async || token.hanging() == 1).await;
        until(&token, PATIENCE, is_ready).await;
        sign_and_verify(&key, b"after").await;
        assert_eq!(scenario.calls("C_Login"), logins + 2);
        assert_eq!((token.hanging(), token.stuck()), (1, None));
    }
);

scenario!(
    a_pin_that_was_never_accepted_is_not_sent_again_while_it_has_no_answer,
    Module::Faulty,
    async |scenario| {
        let (hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        let public = key.public_key().clone();
        drop((key, token, hsm));
        let logins = scenario.calls("C_Login");
        scenario.command("login_ms 600000\n");
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        let waits = |state: &TokenState| state.to_string().contains("C_Login has not answered yet");
        until(&token, PATIENCE, waits).await;
        assert_eq!((token.hanging(), token.stuck()), (1, None));
        let once = async || scenario.calls("C_Login") == logins + 1;
        stays(Duration::from_millis(2500), "one login", once).await;
        // It returns, and the token is logged in to.
        scenario.command("");
        until(&token, PATIENCE, is_ready).await;
        eventually(PATIENCE, "none hangs", async || token.hanging() == 0).await;
        let key = token.key(&[1], &public).await.unwrap();
        sign_and_verify(&key, b"after").await;
        // The thread that was replaced may have closed the only session, which ends the login.
        let sent = scenario.calls("C_Login") - logins;
        assert!((1..=2).contains(&sent), "{sent}");
    }
);
