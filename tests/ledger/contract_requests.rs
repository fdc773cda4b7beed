//! Requests to upstream CAs: one in flight for an authority, from state to state.

use rootbridge::ledger::{
    AnchorOrigin, AnchorState, Applied, CaRequestChange, CaRequestId, CaRequestRecord,
    CaRequestState, Change, KeyLocation, LedgerError,
};
use rootbridge::x509::KeyKind;

use crate::contract_records::{apply, authority, foreign, published};
use crate::support::{DAY, Fixture, Key, NOW, Store, domain, operator};

fn begin(name: &str) -> Change {
    Change::Request(CaRequestChange::Begin {
        trust_domain: domain(name),
        upstream: "corp".into(),
        location: KeyLocation {
            token: "main".into(),
            token_serial: "1".into(),
            key_id: vec![7, 8],
            label: "issuing".into(),
        },
        kind: KeyKind::EcdsaP256,
        path_len: Some(0),
        issuer: None,
    })
}

async fn change(fixture: &Fixture, change: CaRequestChange) -> Result<Applied, LedgerError> {
    apply(fixture, Change::Request(change)).await
}

async fn last(fixture: &Fixture) -> CaRequestRecord {
    authority(fixture).await.requests.last().unwrap().clone()
}

fn end(request: CaRequestId, state: CaRequestState) -> CaRequestChange {
    CaRequestChange::End {
        request,
        state,
        reason: "because".into(),
    }
}

/// A request whose CSR is about to be sent, and its key.
async fn submitted(fixture: &Fixture) -> (CaRequestId, Key) {
    let name = fixture.domain.as_str();
    let request = apply(fixture, begin(name)).await.unwrap().request.unwrap();
    let key = Key::new();
    let add = CaRequestChange::AddKey {
        request,
        public_key: key.public.spki_der().to_vec(),
        key_id: vec![7],
    };
    change(fixture, add).await.unwrap();
    let relocate = CaRequestChange::Relocate {
        request,
        key_id: vec![9],
        reason: "it would be lost".into(),
    };
    let refused = change(fixture, relocate).await.unwrap_err();
    assert!(
        refused.to_string().contains("on record already"),
        "{refused}"
    );
    let csr = vec![1, 2, 3];
    change(fixture, CaRequestChange::Submit { request, csr })
        .await
        .unwrap();
    (request, key)
}

/// Another process, such as another server on the same ledger, cannot begin a second one.
pub async fn one_request_is_in_flight(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let name = fixture.domain.as_str().to_owned();
    let first = apply(&fixture, begin(&name)).await.unwrap();
    let request = first.request.unwrap();
    let other = store.other().await;
    let refused = other.apply(begin(&name), &operator()).await;
    assert_eq!(
        refused,
        Err(LedgerError::RequestInFlight(fixture.domain.clone()))
    );
    let record = last(&fixture).await;
    assert_eq!(
        (record.id, record.state),
        (request, CaRequestState::Prepared)
    );
    assert_eq!(record.location.key_id, [7, 8], "before the key exists");
    assert_eq!(record.issuer, None);
    let relocate = |request| CaRequestChange::Relocate {
        request,
        key_id: vec![9, 9],
        reason: "half a pair has it".into(),
    };
    change(&fixture, relocate(request)).await.unwrap();
    assert_eq!(last(&fixture).await.location.key_id, [9, 9]);

    let elsewhere = Fixture::build_for(other, "other.example").await;
    apply(&elsewhere, begin("other.example")).await.unwrap();

    change(&fixture, end(request, CaRequestState::Cancelled))
        .await
        .unwrap();
    let second = apply(&fixture, begin(&name)).await.unwrap();
    assert_ne!(second.request, Some(request));
    let record = authority(&fixture).await;
    assert_eq!(record.requests.len(), 2);
    assert_eq!(record.open_request().map(|open| open.id), second.request);
}

/// The states in order, what each keeps, and that the end is the end.
pub async fn a_request_goes_from_state_to_state(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let (request, key) = submitted(&fixture).await;
    let record = last(&fixture).await;
    assert_eq!(record.state, CaRequestState::Submitted);
    assert_eq!(record.issuer, Some(key.id()));
    assert_eq!(record.location.key_id, [7], "as the token has it");
    assert_eq!(record.csr.as_deref(), Some(&[1, 2, 3][..]));
    let again = CaRequestChange::Submit {
        request,
        csr: vec![9],
    };
    assert_eq!(
        change(&fixture, again.clone()).await,
        Err(LedgerError::RequestMoved {
            request,
            state: CaRequestState::Submitted
        })
    );

    let wait = CaRequestChange::Wait {
        request,
        reference: "case-1".into(),
    };
    change(&fixture, wait).await.unwrap();
    let record = last(&fixture).await;
    assert_eq!(record.state, CaRequestState::Pending);
    assert_eq!(record.reference.as_deref(), Some("case-1"));

    let forgotten = CaRequestChange::Resubmit { request };
    change(&fixture, forgotten).await.unwrap();
    assert_eq!(last(&fixture).await.state, CaRequestState::Submitted);
    let receive = CaRequestChange::Receive {
        request,
        certificates: vec![vec![1], vec![2]],
    };
    change(&fixture, receive).await.unwrap();
    let record = last(&fixture).await;
    assert_eq!(record.state, CaRequestState::Received);
    assert_eq!(record.certificates, [vec![1], vec![2]]);

    let not_an_end = change(&fixture, end(request, CaRequestState::Pending)).await;
    let error = not_an_end.unwrap_err();
    assert!(
        error.to_string().contains("does not end as pending"),
        "{error}"
    );
    change(&fixture, end(request, CaRequestState::Activated))
        .await
        .unwrap();
    let record = last(&fixture).await;
    assert_eq!(record.problem.as_deref(), Some("because"));
    assert_eq!(record.ended_at, Some(NOW));
    let late = end(request, CaRequestState::Cancelled);
    assert_eq!(
        change(&fixture, late).await,
        Err(LedgerError::RequestMoved {
            request,
            state: CaRequestState::Activated
        })
    );
}

/// Whether all are read or one: each authority gets its own rows, in their order, and no other's.
pub async fn records_are_those_of_their_authority(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    submitted(&fixture).await;
    let create = |name: &str| Change::CreateAuthority {
        trust_domain: domain(name),
    };
    apply(&fixture, create("other.example")).await.unwrap();
    apply(&fixture, create("empty.example")).await.unwrap();
    for (state, certificates) in [
        (CaRequestState::Cancelled, vec![]),
        (CaRequestState::Received, vec![vec![2], vec![1]]),
    ] {
        let begun = apply(&fixture, begin("other.example")).await.unwrap();
        let request = begun.request.unwrap();
        if state == CaRequestState::Cancelled {
            change(&fixture, end(request, state)).await.unwrap();
            continue;
        }
        let add = CaRequestChange::AddKey {
            request,
            public_key: Key::new().public.spki_der().to_vec(),
            key_id: vec![8],
        };
        let (csr, receive) = (
            CaRequestChange::Submit {
                request,
                csr: vec![4],
            },
            CaRequestChange::Receive {
                request,
                certificates,
            },
        );
        for each in [add, csr, receive] {
            change(&fixture, each).await.unwrap();
        }
    }
    let ledger = &fixture.ledger;
    let all = ledger.snapshot().await.unwrap().authorities;
    for record in &all {
        let alone = ledger.authority(&record.trust_domain).await.unwrap();
        assert_eq!(alone.as_ref(), Some(record));
    }
    assert_eq!(ledger.authority(&domain("unknown.example")).await, Ok(None));
    let [ours, other, empty] = &all[..] else {
        panic!("{all:?}")
    };
    assert!(!ours.issuers[0].certificates.is_empty() && ours.bundle.is_some());
    assert_eq!((ours.issuers.len(), ours.requests.len()), (3, 1));
    let states: Vec<_> = other.requests.iter().map(|each| each.state).collect();
    let wanted = [CaRequestState::Cancelled, CaRequestState::Received];
    assert_eq!(states, wanted, "oldest first");
    assert_eq!(other.requests[1].certificates, [vec![2], vec![1]]);
    assert_eq!((other.issuers.len(), &other.bundle), (1, &None));
    assert!(empty.issuers.is_empty() && empty.requests.is_empty());
}

/// Two servers see that an attempt is due, and one makes it. Attempts are no operator's actions.
pub async fn an_attempt_is_made_once(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let (request, _) = submitted(&fixture).await;
    let revision = fixture.ledger.revision().await.unwrap();
    let attempt = |by: &str| {
        Change::Request(CaRequestChange::Attempt {
            request,
            attempts: 0,
            by: by.into(),
            until: NOW.plus(DAY),
        })
    };
    apply(&fixture, attempt("a")).await.unwrap();
    let other = store.other().await;
    let second = other.apply(attempt("b"), &operator()).await.unwrap_err();
    assert!(second.to_string().contains("another server"), "{second}");
    let record = last(&fixture).await;
    assert_eq!(
        (record.attempts, record.next_attempt_at),
        (1, NOW.plus(DAY))
    );
    assert_eq!(record.attempt_by.as_deref(), Some("a"));

    let retry = CaRequestChange::Retry {
        request,
        at: NOW.plus(DAY * 2),
        problem: Some("no answer".into()),
    };
    change(&fixture, retry).await.unwrap();
    let record = last(&fixture).await;
    assert_eq!((record.attempts, record.attempt_by), (1, None));
    assert_eq!(record.next_attempt_at, NOW.plus(DAY * 2));
    assert_eq!(record.problem.as_deref(), Some("no answer"));
    assert_eq!(record.state, CaRequestState::Submitted);
    assert_eq!(fixture.ledger.revision().await.unwrap(), revision);
}

/// It is published, and one that was another CA's becomes this authority's own.
pub async fn an_approved_root_is_published(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let root = Fixture::build_for(store.other().await, "root.example").await;
    let (_, anchors) = published(root.ledger.as_ref(), &root).await;
    let der = anchors[0].clone();
    apply(&fixture, foreign(&fixture, &der, None))
        .await
        .unwrap();
    let approve = Change::ApproveAnchor {
        trust_domain: fixture.domain.clone(),
        der: der.clone(),
        source: "upstream corp".into(),
    };
    apply(&fixture, approve.clone()).await.unwrap();
    let (_, anchors) = published(fixture.ledger.as_ref(), &fixture).await;
    assert!(anchors.contains(&der));
    let record = authority(&fixture).await;
    let mut of_root = record.anchors.iter().filter(|anchor| anchor.der == der);
    let states: Vec<_> = of_root
        .by_ref()
        .map(|anchor| (anchor.origin, anchor.state))
        .collect();
    assert_eq!(
        states,
        [
            (AnchorOrigin::Foreign, AnchorState::Retired),
            (AnchorOrigin::Upstream, AnchorState::Pending)
        ]
    );
    // The same again changes nothing.
    let count = record.anchors.len();
    apply(&fixture, approve).await.unwrap();
    assert_eq!(authority(&fixture).await.anchors.len(), count);
}
