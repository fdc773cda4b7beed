//! Each wrong setting has its own error, which says what to do.

use std::path::Path;
use std::time::Duration;

use rootbridge::hsm::{Hsm, HsmError, RawTokenConfig, TokenState};

use crate::support::{Module, PIN, SO_PIN, secret, until};

const LIMIT: Duration = Duration::from_secs(5);

scenario!(no_such_module, Module::Plain, async |scenario| {
    let open =
        |path: &Path| Hsm::open(&scenario.config(|raw| raw.module = path.into())).unwrap_err();
    let error = open(Path::new("/nowhere/libhsm.so"));
    assert!(matches!(error, HsmError::NoSuchModule { .. }));
    assert_eq!(
        error.to_string(),
        "no PKCS#11 module at /nowhere/libhsm.so: install the HSM's client library, or correct hsm.module"
    );
    let text = scenario.dir.join("softhsm2.conf");
    assert!(matches!(open(&text), HsmError::Module { .. }));
    // A library, and no PKCS#11 module.
    let source = scenario.dir.join("empty.c");
    std::fs::write(&source, "int nothing;").unwrap();
    let library = scenario.dir.join("empty.so");
    rootbridge_test_support::command::run(
        std::process::Command::new("cc")
            .args(["-shared", "-o"])
            .arg(&library)
            .arg(&source),
    );
    let error = open(&library).to_string();
    assert!(
        error.contains("C_GetFunctionList") && error.contains("empty.so"),
        "{error}"
    );
});

scenario!(
    an_environment_that_is_not_set,
    Module::Plain,
    async |scenario| {
        let config = scenario.config(|raw| {
            raw.environment
                .insert("SOFTHSM2_CONF".into(), "/elsewhere".into());
        });
        assert_eq!(
            config.missing_environment(),
            [("SOFTHSM2_CONF", "/elsewhere")]
        );
        let error = Hsm::open(&config).unwrap_err().to_string();
        assert!(
            error.contains("SOFTHSM2_CONF") && error.contains("hsm.environment"),
            "{error}"
        );
    }
);

scenario!(a_second_open_is_refused, Module::Plain, async |scenario| {
    let config = scenario.config(|_| ());
    let _hsm = Hsm::open(&config).unwrap();
    let error = Hsm::open(&config).unwrap_err().to_string();
    assert!(error.contains("initialized the module already"), "{error}");
});

scenario!(a_token_that_comes_later, Module::Plain, async |scenario| {
    let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
    let error = hsm.token("mian").unwrap_err().to_string();
    assert_eq!(
        error,
        "no token is configured as \"mian\": hsm.tokens has main"
    );
    let token = hsm.token("main").unwrap();
    let state = until(&token, LIMIT, |state| {
        matches!(state, TokenState::Unavailable(_))
    })
    .await
    .to_string();
    assert!(
        state.starts_with("no token with label \"main\" in any slot: the module shows"),
        "{state}"
    );
    hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
        .unwrap();
    until(&token, LIMIT, |state| *state == TokenState::Ready).await;
    assert_eq!(token.info().unwrap().label, "main");
});

scenario!(two_tokens_with_one_label, Module::Plain, async |scenario| {
    for _ in 0..2 {
        let pins = ["--so-pin", SO_PIN, "--pin", PIN];
        rootbridge_test_support::command::run(
            std::process::Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", "main"])
                .args(pins),
        );
    }
    let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
    let serials: Vec<String> = hsm
        .slots()
        .unwrap()
        .into_iter()
        .filter_map(|slot| {
            slot.token
                .ok()
                .filter(|token| token.initialized)
                .map(|token| token.serial)
        })
        .collect();
    let token = hsm.token("main").unwrap();
    let state = until(&token, LIMIT, |state| {
        matches!(state, TokenState::Unavailable(_))
    })
    .await
    .to_string();
    assert!(
        state.starts_with("2 tokens have label \"main\" (serials "),
        "{state}"
    );
    assert!(
        serials.iter().all(|serial| state.contains(serial)) && state.ends_with("with `serial`"),
        "{state}"
    );
    drop((token, hsm));

    let wanted = serials[1].clone();
    let hsm = Hsm::open(
        &scenario.config(|raw| raw.tokens.get_mut("main").unwrap().serial = Some(wanted)),
    )
    .unwrap();
    let token = hsm.token("main").unwrap();
    until(&token, LIMIT, |state| *state == TokenState::Ready).await;
    assert_eq!(token.info().unwrap().serial, serials[1]);
});

scenario!(
    a_broken_token_hides_no_other,
    Module::Faulty,
    async |scenario| {
        let (hsm, token) = scenario
            .ready(|raw| {
                let wanted = RawTokenConfig {
                    label: Some("broken".into()),
                    pin_env: Some("RB_SCENARIO".into()),
                    ..RawTokenConfig::default()
                };
                raw.tokens.insert("other".into(), wanted);
            })
            .await;
        let error = hsm
            .init_token(None, "broken", &secret(SO_PIN), &secret(PIN))
            .unwrap_err()
            .to_string();
        assert!(error.contains("CKR_DEVICE_ERROR"), "{error}");
        let slots = hsm.slots().unwrap();
        assert!(slots.iter().any(|slot| slot.token.is_err()), "{slots:?}");
        assert_eq!(token.state(), TokenState::Ready);
        let other = hsm.token("other").unwrap();
        let state = until(&other, LIMIT, |state| {
            matches!(state, TokenState::Unavailable(_))
        })
        .await
        .to_string();
        assert!(
            state.contains("\"main\"") && state.contains("CKR_DEVICE_ERROR"),
            "{state}"
        );
    }
);

scenario!(no_token_is_overwritten, Module::Plain, async |scenario| {
    let (hsm, token) = scenario.ready(|_| ()).await;
    let init = |slot, label: &str| {
        hsm.init_token(slot, label, &secret(SO_PIN), &secret(PIN))
            .unwrap_err()
    };
    assert!(matches!(
        init(Some(token.info().unwrap().slot), "other"),
        HsmError::SlotInUse { .. }
    ));
    assert!(matches!(init(None, "main"), HsmError::LabelInUse { .. }));
    assert!(matches!(init(Some(999_999), "other"), HsmError::NoFreeSlot));
    for label in [
        "",
        "ends with ",
        "a label that is much too long for a token",
    ] {
        assert!(matches!(init(None, label), HsmError::BadLabel { .. }));
    }
    // A second token lives next to the first.
    hsm.init_token(None, "second", &secret(SO_PIN), &secret(PIN))
        .unwrap();
    assert_eq!(token.state(), TokenState::Ready);
});
