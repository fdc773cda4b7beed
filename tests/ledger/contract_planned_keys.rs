//! Keys that a ceremony plans before a token generates them.

use rootbridge::ledger::{
    Change, IssuerState, KeyLocation, LedgerError, PlannedKey, PlannedKeyChange, Role,
};
use rootbridge::x509::KeyKind;

use crate::contract_records::{apply, authority};
use crate::support::{Fixture, Key, NOW, Store, operator};

fn plan(fixture: &Fixture, key_id: &[u8]) -> Change {
    Change::PlannedKey(PlannedKeyChange::Plan {
        trust_domain: fixture.domain.clone(),
        role: Role::Issuing,
        location: location(key_id),
        kind: KeyKind::EcdsaP256,
        path_len: Some(1),
    })
}

fn location(key_id: &[u8]) -> KeyLocation {
    KeyLocation {
        token: "main".into(),
        token_serial: "1".into(),
        key_id: key_id.to_vec(),
        label: "planned".into(),
    }
}

fn record(planned_id: &[u8], key: &Key) -> Change {
    Change::PlannedKey(PlannedKeyChange::Record {
        token: "main".into(),
        planned_id: planned_id.to_vec(),
        public_key: key.public.spki_der().to_vec(),
        key_id: vec![7],
    })
}

fn drop_plan(planned_id: &[u8]) -> Change {
    Change::PlannedKey(PlannedKeyChange::Drop {
        token: "main".into(),
        planned_id: planned_id.to_vec(),
    })
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> String {
    match result {
        Err(LedgerError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// By the process that finds it first, and never again once an operator has dropped it.
pub async fn a_planned_key_is_recorded_once(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let before = authority(&fixture).await.issuers.len();
    apply(&fixture, plan(&fixture, &[7, 8])).await.unwrap();
    let expected = PlannedKey {
        role: Role::Issuing,
        location: location(&[7, 8]),
        kind: KeyKind::EcdsaP256,
        path_len: Some(1),
        planned_at: NOW,
        planned_by: operator().name,
    };
    assert_eq!(authority(&fixture).await.planned_keys, [expected]);
    let refused = refusal(apply(&fixture, plan(&fixture, &[7, 8])).await);
    assert!(refused.contains("planned already"), "{refused}");
    let key = Key::new();
    let refused = refusal(apply(&fixture, record(&[9], &key)).await);
    assert!(refused.contains("CKA_ID 09 on main"), "{refused}");

    let first = apply(&fixture, record(&[7, 8], &key)).await.unwrap();
    let found = authority(&fixture).await;
    assert_eq!(found.planned_keys, []);
    let issuer = found.issuers.last().unwrap();
    assert_eq!(issuer.id, key.id());
    assert_eq!(issuer.state, IssuerState::Pending);
    assert_eq!((issuer.role, issuer.path_len), (Role::Issuing, Some(1)));
    assert_eq!(issuer.locations, [location(&[7])], "as the token has it");
    // Another process found the same key.
    let again = apply(&fixture, record(&[7, 8], &key)).await.unwrap();
    assert_eq!(again.revision, first.revision);
    let refused = refusal(apply(&fixture, record(&[7, 8], &Key::new())).await);
    assert!(refused.contains("is on record as issuer"), "{refused}");
    let refused = refusal(apply(&fixture, drop_plan(&[7, 8])).await);
    assert!(refused.contains("is on record as issuer"), "{refused}");

    apply(&fixture, plan(&fixture, &[9])).await.unwrap();
    let dropped = apply(&fixture, drop_plan(&[9])).await.unwrap();
    let again = apply(&fixture, drop_plan(&[9])).await.unwrap();
    assert_eq!(again.revision, dropped.revision);
    let refused = refusal(apply(&fixture, record(&[9], &Key::new())).await);
    assert!(refused.contains("was dropped by an operator"), "{refused}");
    let found = authority(&fixture).await;
    assert_eq!(found.planned_keys, []);
    assert_eq!(found.issuers.len(), before + 1);
}
