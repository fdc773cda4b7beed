//! Tokens that behave as those of other vendors are reported to (`faulty_module.c`).

use std::time::Duration;

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::slot::Slot;
use rootbridge::hsm::{Hsm, HsmError, NewKey, SignError, SlotReport, TokenState};
use rootbridge::x509::KeyKind;

use crate::support::{Module, PIN, SO_PIN, Scenario, secret, sign, sign_and_verify, until};

const LIMIT: Duration = Duration::from_secs(5);

/// CKF_LOGIN_REQUIRED, CKF_USER_PIN_INITIALIZED, CKF_TOKEN_INITIALIZED.
const USUAL_FLAGS: u64 = 0x4 | 0x8 | 0x400;

/// A key that the token generates signs.
async fn a_new_key_signs(scenario: &Scenario, kind: KeyKind) -> NewKey {
    let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
    let token = hsm.token("main").unwrap();
    token.ready(LIMIT).await.unwrap();
    let new = token.generate(kind, "new", None).await.unwrap();
    sign_and_verify(&token.key(&new.id, &new.public_key).await.unwrap(), b"m").await;
    new
}

/// A token `main`, which nobody uses yet.
fn init(scenario: &Scenario) {
    let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
    hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
        .unwrap();
}

scenario!(
    a_raw_point_is_read_whatever_it_begins_with,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        // 3f and 5f: the length of the rest of the point, as in the header of an OCTET STRING.
        for (kind, first) in [(KeyKind::EcdsaP256, 0x3f), (KeyKind::EcdsaP384, 0x5f)] {
            scenario.command(&format!("raw_point 1\nfirst_x {first}\n"));
            let new = a_new_key_signs(&scenario, kind).await;
            let coordinates = if kind == KeyKind::EcdsaP256 { 64 } else { 96 };
            let spki = new.public_key.spki_der();
            assert_eq!(spki[spki.len() - coordinates], first);
        }
    }
);

scenario!(
    text_fields_that_end_with_nuls,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        scenario.command("nul 1\n");
        a_new_key_signs(&scenario, KeyKind::EcdsaP256).await;
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let slots = hsm.slots().unwrap();
        let token = slots[0].token.as_ref().unwrap();
        assert_eq!((&*token.label, &*token.model), ("main", "SoftHSM v2"));
        let rest = [
            &token.manufacturer,
            &token.serial,
            &token.slot_description,
            &token.slot_manufacturer,
        ];
        assert!(
            rest.iter()
                .all(|text| !text.is_empty() && !text.contains('\0')),
            "{token:?}"
        );
    }
);

scenario!(
    a_token_that_cuts_cka_id_to_two_octets,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        scenario.command("id_octets 2\n");
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(LIMIT).await.unwrap();
        let mut ids = Vec::new();
        for _ in 0..8 {
            let new = token.generate(KeyKind::EcdsaP256, "new", None).await;
            let NewKey { id, public_key } = new.unwrap();
            assert_eq!(id.len(), 2, "as the token has it");
            sign_and_verify(&token.key(&id, &public_key).await.unwrap(), b"m").await;
            assert!(!ids.contains(&id), "{ids:02x?}");
            ids.push(id);
        }
        assert_eq!(token.keys().await.unwrap().len(), 8);
    }
);

scenario!(
    attributes_that_a_token_does_not_accept_are_left_out,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        for (refusal, kind) in [
            ("no_false 2", KeyKind::EcdsaP256), // CKA_PRIVATE
            ("no_type 265", KeyKind::Rsa { bits: 2048 }),
            ("no_false 268", KeyKind::EcdsaP256), // CKA_DERIVE
            ("no_type 266", KeyKind::EcdsaP256),  // CKA_VERIFY
            ("no_type 2", KeyKind::EcdsaP384),    // CKA_PRIVATE, of either
        ] {
            scenario.command(&format!("{refusal}\n"));
            a_new_key_signs(&scenario, kind).await;
        }
        // What protects the key is never left out.
        scenario.command("no_false 354\n"); // CKA_EXTRACTABLE
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(LIMIT).await.unwrap();
        let before = token.keys().await.unwrap().len();
        let error = token
            .generate(KeyKind::EcdsaP256, "new", None)
            .await
            .unwrap_err();
        assert!(matches!(error, HsmError::KeyTemplate { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("CKA_EXTRACTABLE false")
                && text.contains("CKR_ATTRIBUTE_VALUE_INVALID")
                && text.contains("--use-key"),
            "{text}"
        );
        assert_eq!(token.keys().await.unwrap().len(), before);
    }
);

scenario!(
    flags_that_are_not_set_prevent_no_login,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        for flags in [0x8, 0x400, 0x8 | 0x400, 0x4, USUAL_FLAGS] {
            scenario.command(&format!("unflag {flags}\n"));
            a_new_key_signs(&scenario, KeyKind::EcdsaP256).await;
        }
    }
);

scenario!(
    a_token_without_a_user_pin_is_reported_by_its_answer,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        scenario.command("login_rv 258\n"); // CKR_USER_PIN_NOT_INITIALIZED
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        let state = until(&token, LIMIT, |state| {
            matches!(state, TokenState::Unavailable(_))
        })
        .await
        .to_string();
        assert_eq!(
            state,
            "C_Login: the token has no user PIN yet; the security officer must set one (CKR_USER_PIN_NOT_INITIALIZED)"
        );
    }
);

scenario!(
    a_token_that_cannot_be_read_is_named_by_its_slot,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        // SoftHSM numbers a new token's slot again when the module is next opened.
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let slots = hsm.slots().unwrap();
        let is_main = |slot: &&SlotReport| slot.token.as_ref().is_ok_and(|t| t.label == "main");
        let slot = slots.iter().find(is_main).unwrap().slot;
        drop(hsm);
        scenario.command("bad_clock 1\n");
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        let state = until(&token, LIMIT, |state| {
            matches!(state, TokenState::Unavailable(_))
        });
        let state = state.await.to_string();
        let uri = format!("pkcs11:slot-id={slot}");
        assert!(state.contains(&uri), "{state}");
        drop((token, hsm));

        let by_slot = scenario.config(|raw| {
            let token = raw.tokens.get_mut("main").unwrap();
            (token.label, token.uri) = (None, Some(uri));
        });
        let hsm = Hsm::open(&by_slot).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(LIMIT).await.unwrap();
        let new = token
            .generate(KeyKind::EcdsaP256, "new", None)
            .await
            .unwrap();
        sign_and_verify(&token.key(&new.id, &new.public_key).await.unwrap(), b"m").await;
    }
);

scenario!(
    tokens_that_need_no_login_or_do_not_show_it,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        // With a PIN that the token does not ask for, then without one.
        scenario.command("no_login 1\nunflag 4\n");
        a_new_key_signs(&scenario, KeyKind::EcdsaP256).await;
        let without = scenario.config(|raw| {
            let token = raw.tokens.get_mut("main").unwrap();
            (token.pin_file, token.login) = (None, Some(false));
        });
        let hsm = Hsm::open(&without).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(LIMIT).await.unwrap();
        let keys = token.keys().await.unwrap();
        assert_eq!(keys.len(), 1);
        let public = keys[0].public_key.clone().unwrap();
        let key = token.key(&keys[0].id, &public).await.unwrap();
        // Longer than the interval of the periodic check.
        for _ in 0..8 {
            sign_and_verify(&key, b"m").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(token.state(), TokenState::Ready);
        drop((key, token, hsm));

        scenario.command("hidden_login 1\n");
        a_new_key_signs(&scenario, KeyKind::EcdsaP256).await;
        // One that does require a login, and gets none.
        scenario.command("");
        let hsm = Hsm::open(&without).unwrap();
        let token = hsm.token("main").unwrap();
        let state = until(&token, LIMIT, |state| {
            matches!(state, TokenState::Unavailable(_))
        });
        let state = state.await.to_string();
        assert!(
            state.contains("requires a login (CKF_LOGIN_REQUIRED)"),
            "{state}"
        );
    }
);

scenario!(
    a_strangers_key_with_our_cka_id_changes_nothing,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let ours = token
            .generate(KeyKind::EcdsaP256, "ours", Some(&[1, 2]))
            .await;
        let ours = ours.unwrap().public_key;
        // Another application's pair.
        let module = Pkcs11::new(&scenario.module).unwrap();
        let slot = Slot::try_from(token.info().unwrap().slot).unwrap();
        let session = module.open_rw_session(slot).unwrap();
        let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let same_id = [Attribute::Token(true), Attribute::Id(vec![1, 2])];
        let public = [&same_id[..], &[Attribute::EcParams(p256)]].concat();
        let private = [
            &same_id[..],
            &[Attribute::Sign(true), Attribute::Sensitive(true)],
        ]
        .concat();
        let mechanism = cryptoki::mechanism::Mechanism::EccKeyPairGen;
        session
            .generate_key_pair(&mechanism, &public, &private)
            .unwrap();
        let key = token.key(&[1, 2], &ours).await.unwrap();
        for _ in 0..4 {
            sign_and_verify(&key, b"m").await;
        }
        let listed = token.keys().await.unwrap();
        assert_eq!(listed.len(), 2);
        for key in &listed {
            let is_ours = key.public_key.as_ref() == Ok(&ours);
            assert_eq!(is_ours, key.label == "ours", "{key:?}");
            assert!(key.public_key.is_ok(), "{key:?}");
        }

        // The administrator gives our key another CKA_ID.
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            let named = [Attribute::Class(class), Attribute::Label(b"ours".to_vec())];
            let object = session.find_objects(&named).unwrap()[0];
            let moved = [Attribute::Id(vec![9])];
            session.update_attributes(object, &moved).unwrap();
        }
        let key = token.key(&[1, 2], &ours).await.unwrap();
        assert_eq!(key.id(), [9]);
        sign_and_verify(&key, b"m").await;
    }
);

scenario!(
    either_of_two_mechanisms_is_enough_to_sign,
    Module::Faulty,
    async |scenario| {
        init(&scenario);
        let inits = |mechanism: &str| {
            let log = std::fs::read_to_string(scenario.dir.join("spy.log")).unwrap();
            let used = format!("pMechanism->type = {mechanism}");
            log.lines()
                .filter(|line| line.trim_end().ends_with(&used))
                .count()
        };
        // What the token hashes itself is asked first; a key may not allow it.
        let kind = KeyKind::Rsa { bits: 2048 };
        a_new_key_signs(&scenario, kind).await;
        let hashed = inits("CKM_SHA256_RSA_PKCS");
        assert!(hashed > 0, "{hashed}");
        assert_eq!(inits("CKM_RSA_PKCS"), 0);
        scenario.command("no_mechanism 64\n"); // CKM_SHA256_RSA_PKCS
        a_new_key_signs(&scenario, kind).await;
        assert!(inits("CKM_SHA256_RSA_PKCS") > hashed);
        assert!(inits("CKM_RSA_PKCS") > 0);
        // Without either, the first one is in the message.
        scenario.command("no_mechanism 4161\n"); // CKM_ECDSA
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(LIMIT).await.unwrap();
        let new = token.generate(KeyKind::EcdsaP256, "new", None).await;
        let NewKey { id, public_key } = new.unwrap();
        let key = token.key(&id, &public_key).await.unwrap();
        let error = sign(&key, b"m").await.unwrap_err();
        assert!(matches!(error, SignError::Refused(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("C_SignInit") && text.contains("CKR_MECHANISM_INVALID"),
            "{text}"
        );
    }
);

scenario!(
    a_key_that_wants_its_pin_for_each_signature_is_refused,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        scenario.command("each_pin 1\n");
        let new = token.generate(KeyKind::EcdsaP256, "new", None).await;
        let NewKey { id, public_key } = new.unwrap();
        let listed = token.keys().await.unwrap();
        assert_eq!(listed[0].attestation.always_authenticate, Some(true));
        let before = scenario.calls("C_SignInit");
        let error = token.key(&id, &public_key).await.unwrap_err();
        assert!(
            matches!(error, HsmError::AlwaysAuthenticate { .. }),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains("CKA_ALWAYS_AUTHENTICATE"), "{text}");
        assert_eq!(
            scenario.calls("C_SignInit"),
            before,
            "no signature was tried"
        );
        assert_eq!(token.state(), TokenState::Ready);
    }
);
