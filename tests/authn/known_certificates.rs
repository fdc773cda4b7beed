//! A client certificate is looked up once for a connection, and no change of the records is missed.

use rootbridge::authn::{AuthnError, CertificateStatus, ClientCertificate};
use rootbridge::clock::UnixTime;

use crate::certificates::{DAY, Fixture, ID};
use crate::support::NOW;

#[tokio::test]
async fn a_connection_asks_the_ledger_again_when_the_records_have_changed() {
    let fixture = Fixture::new();
    let leaf = fixture.leaf(&[ID], &[]);
    fixture.hold(&leaf, Fixture::status());
    let connection = ClientCertificate::new(leaf.as_slice());
    let asked = || *fixture.ledger.asked.lock().unwrap();
    let moves = || *fixture.ledger.revision.lock().unwrap() += 1;
    let call = async || fixture.callers.authenticate(&connection).await;
    let first = call().await.unwrap();
    for _ in 0..5 {
        assert_eq!(call().await.unwrap(), first);
    }
    assert_eq!(asked(), 1);
    // Another connection knows nothing of this one.
    fixture.ask(&leaf).await.unwrap();
    assert_eq!(asked(), 2);

    // Each change of the records is seen by the next call.
    for (change, why) in [
        (
            CertificateStatus {
                revoked: true,
                ..Fixture::status()
            },
            "is revoked",
        ),
        (
            CertificateStatus {
                issuer_retired: true,
                ..Fixture::status()
            },
            "issuer is retired",
        ),
        (
            CertificateStatus {
                released: false,
                ..Fixture::status()
            },
            "never released",
        ),
    ] {
        fixture.hold(&leaf, change);
        moves();
        for _ in 0..2 {
            let refused = call().await.unwrap_err().to_string();
            let reason = fixture.ask(&leaf).await.unwrap_err().to_string();
            assert!(refused.contains(why) && refused == reason, "{refused}");
        }
        fixture.hold(&leaf, Fixture::status());
        moves();
        assert_eq!(call().await.unwrap(), first);
    }
    // What was not released is looked up at each call: it may be released without a change of the records.
    let before = asked();
    fixture.hold(
        &leaf,
        CertificateStatus {
            released: false,
            ..Fixture::status()
        },
    );
    moves();
    call().await.unwrap_err();
    fixture.hold(&leaf, Fixture::status());
    call().await.unwrap();
    assert_eq!(asked(), before + 2);
    // A record that has vanished.
    fixture.ledger.held.lock().unwrap().clear();
    moves();
    let refused = call().await.unwrap_err().to_string();
    assert!(refused.contains("does not hold"), "{refused}");

    // The time and the ledger's absence are seen without a change.
    fixture.hold(&leaf, Fixture::status());
    call().await.unwrap();
    *fixture.ledger.down.lock().unwrap() = true;
    assert!(matches!(call().await, Err(AuthnError::Unavailable(_))));
    *fixture.ledger.down.lock().unwrap() = false;
    fixture.clock.set(UnixTime::from_secs(NOW + 5 * DAY));
    let refused = call().await.unwrap_err().to_string();
    assert!(refused.contains("reauthenticate_after"), "{refused}");
}

#[tokio::test]
async fn it_must_be_exactly_the_one_and_in_its_own_domain() {
    let fixture = Fixture::new();
    // Of our own issuer and of a stranger's, with the same name: neither is the one on record.
    fixture.hold(&fixture.leaf(&[ID], &[]), Fixture::status());
    fixture
        .rejects(&fixture.leaf(&[ID], &[]), "does not hold")
        .await;
    fixture
        .rejects(&Fixture::new().leaf(&[ID], &[]), "does not hold")
        .await;
    // Another domain that counts here has a ledger of its own.
    let two = fixture.leaf(&["spiffe://two.example/ns/foo/sa/vm"], &[]);
    fixture.hold(
        &two,
        CertificateStatus {
            subject: "spiffe://two.example/ns/foo/sa/vm".to_owned(),
            ..Fixture::status()
        },
    );
    fixture
        .rejects(&two, "the ledger of two.example does not hold")
        .await;
}
