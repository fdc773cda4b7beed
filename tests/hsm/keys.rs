//! Keys: made, vouched for, found, refused.

use std::process::Command;
use std::time::Duration;

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::slot::Slot;
use rootbridge::hsm::{Hsm, HsmError};
use rootbridge::x509::KeyKind;

use rootbridge_test_support::command::run;

use crate::support::{Module, PIN, SO_PIN, foreign_key, new_key, secret, sign_and_verify};

scenario!(
    every_kind_signs_and_is_attested,
    Module::Spy,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let kinds = [
            KeyKind::EcdsaP256,
            KeyKind::EcdsaP384,
            KeyKind::Rsa { bits: 2048 },
            KeyKind::Rsa { bits: 3072 },
            KeyKind::Rsa { bits: 4096 },
        ];
        for (number, kind) in kinds.into_iter().enumerate() {
            let id = [0xa0, u8::try_from(number).unwrap()];
            let new = token.generate(kind, &kind.slug(), Some(&id)).await.unwrap();
            let public = new.public_key;
            assert_eq!(public.kind(), kind);
            let key = token.key(&id, &public).await.unwrap();
            assert_eq!(
                (key.kind(), key.label(), key.id()),
                (kind, kind.slug().as_str(), &id[..])
            );
            for message in [&b""[..], b"a message", &[7; 5000]] {
                sign_and_verify(&key, message).await;
            }
            assert!(key.probe().await.unwrap().signing_time.is_some());
        }
        assert_eq!(
            (
                token.signatures(),
                token.test_signatures(),
                token.unconfirmed_signatures()
            ),
            (15, 5, 0)
        );
        // cryptoki asks for the signature's length first, so each signature is two calls.
        assert_eq!(scenario.calls("C_SignInit"), 20);
        assert_eq!(scenario.calls("C_Sign"), 40);

        let keys = token.keys().await.unwrap();
        assert_eq!(keys.len(), 5);
        for key in keys {
            assert!(key.attestation.missing().is_empty(), "{key:?}");
            assert_eq!(
                (key.attestation.sensitive, key.attestation.extractable),
                (Some(true), Some(false))
            );
            assert_eq!(key.label, key.kind().unwrap().slug());
        }
        let shown = run(Command::new("pkcs11-tool")
            .args([
                "--module".as_ref(),
                std::env::var_os("PKCS11SPY").unwrap().as_os_str(),
            ])
            .args([
                "--token-label",
                "main",
                "--login",
                "--pin",
                PIN,
                "--list-objects",
                "--type",
                "privkey",
            ]));
        assert_eq!(shown.matches("Usage:      sign\n").count(), 5, "{shown}");
        assert_eq!(
            shown
                .matches("sensitive, always sensitive, never extract")
                .count(),
            5,
            "{shown}"
        );
    }
);

scenario!(
    an_imported_key_is_refused_unless_the_config_allows_it,
    Module::Plain,
    async |scenario| {
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        hsm.init_token(None, "main", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        drop(hsm);
        let pem = scenario.dir.join("key.pem");
        run(Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
            ])
            .arg(&pem));
        run(Command::new("softhsm2-util")
            .arg("--import")
            .arg(&pem)
            .args([
                "--token", "main", "--label", "imported", "--id", "c0ffee", "--pin", PIN,
            ]));

        // The module can be opened again after it was closed.
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(Duration::from_secs(5)).await.unwrap();
        let reports = token.keys().await.unwrap();
        let public = reports[0].public_key.clone().unwrap();
        let error = token.key(&[0xc0, 0xff, 0xee], &public).await.unwrap_err();
        assert!(matches!(&error, HsmError::Unattested { id, .. } if id == "c0ffee"));
        let text = error.to_string();
        assert!(
            text.contains("as CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE"),
            "{text}"
        );
        assert!(
            text.contains("allow_unattested_keys = true") && text.contains("[hsm.tokens.main]"),
            "{text}"
        );
        drop((token, hsm));

        let allowing =
            scenario.config(|raw| raw.tokens.get_mut("main").unwrap().allow_unattested_keys = true);
        let hsm = Hsm::open(&allowing).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(Duration::from_secs(5)).await.unwrap();
        sign_and_verify(
            &token.key(&[0xc0, 0xff, 0xee], &public).await.unwrap(),
            b"m",
        )
        .await;
        let log = std::fs::read_to_string(scenario.dir.join("output")).unwrap();
        assert!(
            log.contains("WARN") && log.contains("THE TOKEN DOES NOT VOUCH FOR THIS KEY"),
            "{log}"
        );
    }
);

scenario!(
    the_wrong_key_is_refused_with_a_reason,
    Module::Plain,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let key = new_key(&token, &[1]).await;
        // The public key counts, not the recorded CKA_ID.
        let moved = token.key(&[2], key.public_key()).await.unwrap();
        assert_eq!(moved.id(), [1]);
        let text = token.key(&[2], &foreign_key()).await;
        let text = text.unwrap_err().to_string();
        assert_eq!(
            text,
            "token \"main\" has no private key with CKA_ID 02: `rootbridge key list` shows those it has"
        );
        let error = token.key(&[1], &foreign_key()).await.unwrap_err();
        assert!(
            matches!(error, HsmError::PublicKeyMismatch { .. }),
            "{error}"
        );
        let error = token
            .generate(KeyKind::EcdsaP384, "again", Some(&[1]))
            .await
            .unwrap_err();
        assert!(matches!(error, HsmError::KeyExists { .. }), "{error}");
        for kind in [
            KeyKind::Ed25519,
            KeyKind::EcdsaP521,
            KeyKind::Rsa { bits: 1024 },
        ] {
            let error = token.generate(kind, "odd", Some(&[3])).await.unwrap_err();
            assert!(matches!(error, HsmError::UnsupportedKey { .. }), "{error}");
        }
        assert_eq!(token.keys().await.unwrap().len(), 1);
    }
);

scenario!(
    another_public_key_with_our_id_is_not_taken_for_ours,
    Module::Plain,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|_| ()).await;
        let ours = new_key(&token, &[1]).await.public_key().clone();
        let foreign = foreign_key();
        let module = Pkcs11::new(&scenario.module).unwrap();
        let slot = Slot::try_from(token.info().unwrap().slot).unwrap();
        let session = module.open_rw_session(slot).unwrap();
        let with_our_id = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Id(vec![1]),
        ];
        let our_object = session.find_objects(&with_our_id).unwrap()[0];

        // P-256; an OCTET STRING of 65 bytes.
        let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let spki = foreign.spki_der();
        let point = [&[0x04, 0x41], &spki[spki.len() - 65..]].concat();
        let mut object = with_our_id.to_vec();
        object.extend([
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::EcParams(p256),
            Attribute::EcPoint(point),
        ]);
        session.create_object(&object).unwrap();
        // The signature shows which of the two belongs to the private key.
        sign_and_verify(&token.key(&[1], &ours).await.unwrap(), b"m").await;
        let is_mismatch = |error| matches!(error, HsmError::PublicKeyMismatch { .. });
        assert!(is_mismatch(token.key(&[1], &foreign).await.unwrap_err()));
        let listed = token.keys().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].public_key.as_ref(), Ok(&ours));

        // Without our own one, too.
        session.destroy_object(our_object).unwrap();
        sign_and_verify(&token.key(&[1], &ours).await.unwrap(), b"m").await;
    }
);
