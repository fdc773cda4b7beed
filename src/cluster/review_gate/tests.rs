#![allow(clippy::unwrap_used)]

use futures_util::FutureExt as _;

use super::*;

fn request(token: &str, subject: &str, peer: [u8; 4]) -> ReviewRequest {
    let claims = UnverifiedToken {
        issuer: "i".to_owned(),
        subject: subject.to_owned(),
    };
    ReviewRequest::new(token, "istio-ca", &claims, Some(IpAddr::from(peer)))
}

const HONEST: [u8; 4] = [10, 0, 0, 1];
const STRANGER: [u8; 4] = [10, 0, 0, 66];

fn refuse(gate: &Arc<ReviewGate>, request: &ReviewRequest) {
    let verdict: Result<(), _> = Err(AuthnError::rejected("not authenticated"));
    gate.conclude(request, &verdict);
}

#[tokio::test]
async fn callers_that_were_accepted_go_first_and_addresses_take_turns() {
    let gate = ReviewGate::new(1);
    let known = request("old", "cart", HONEST);
    let permit = gate.enter(&known).await.unwrap();
    gate.conclude(&known, &Ok(()));
    let strangers: Vec<_> = (0..3)
        .map(|n| request(&format!("s{n}"), "x", STRANGER))
        .collect();
    let newcomer = request("new", "till", HONEST);
    // The next token of a caller that was accepted.
    let renewed = request("renewed", "cart", HONEST);
    let mut waiting: Vec<_> = strangers
        .iter()
        .chain([&newcomer, &renewed, &known])
        .map(|each| Box::pin(gate.enter(each)))
        .collect();
    for each in &mut waiting {
        assert!(each.now_or_never().is_none());
    }
    let mut order = Vec::new();
    let mut permit = Some(permit);
    for _ in 0..6 {
        drop(permit.take());
        let next = (0..6).filter(|n| !order.contains(n));
        for n in next.collect::<Vec<_>>() {
            if let Some(entered) = waiting.get_mut(n).unwrap().now_or_never() {
                order.push(n);
                permit = Some(entered.unwrap());
                break;
            }
        }
    }
    assert_eq!(order, [4, 5, 0, 3, 1, 2]);
    drop(permit);
    assert_eq!(gate.lock().free, 1);
    drop(waiting);
    assert!(gate.lock().waiting.is_empty());
}

#[tokio::test]
async fn a_refused_token_is_not_reviewed_again_for_a_while() {
    let gate = ReviewGate::new(1);
    let bad = request("bad", "cart", STRANGER);
    drop(gate.enter(&bad).await.unwrap());
    refuse(&gate, &bad);
    let again = gate.enter(&request("bad", "cart", HONEST)).await;
    assert_eq!(
        again.unwrap_err().to_string(),
        "credential rejected: not authenticated"
    );
    drop(gate.enter(&request("good", "cart", HONEST)).await.unwrap());
}

#[tokio::test]
async fn an_address_with_many_refusals_waits_and_no_other_does() {
    let gate = ReviewGate::new(1);
    let mut reviews = 0;
    for n in 0..500 {
        let each = request(&format!("made-up-{n}"), "cart", STRANGER);
        if gate.enter(&each).await.is_ok() {
            reviews += 1;
            refuse(&gate, &each);
        }
    }
    assert!((60..70).contains(&reviews), "{reviews}");
    let refused = gate.enter(&request("more", "cart", STRANGER)).await;
    assert!(
        matches!(refused, Err(AuthnError::Busy { .. })),
        "{refused:?}"
    );
    drop(gate.enter(&request("other", "cart", HONEST)).await.unwrap());
    // A caller that was accepted from there still is heard.
    let known = request("known", "cart", STRANGER);
    gate.conclude(&known, &Ok(()));
    drop(gate.enter(&known).await.unwrap());
}

#[tokio::test]
async fn who_stops_waiting_leaves_no_permit_behind() {
    let gate = ReviewGate::new(1);
    let all: Vec<_> = (0..5)
        .map(|n| request(&format!("t{n}"), "x", HONEST))
        .collect();
    let first = gate.enter(all.first().unwrap()).await.unwrap();
    let mut waiting: Vec<_> = all
        .iter()
        .skip(1)
        .map(|each| Box::pin(gate.enter(each)))
        .collect();
    for each in &mut waiting {
        assert!(each.now_or_never().is_none());
    }
    drop(waiting);
    drop(first);
    assert_eq!(gate.lock().free, 1);
    assert!(gate.lock().waiting.is_empty() && gate.lock().others.is_empty());
}

#[tokio::test]
async fn one_address_leaves_room_for_others() {
    let gate = ReviewGate::new(0);
    let of =
        |peer, from: usize| (from..from + 5000).map(move |n| request(&n.to_string(), "x", peer));
    let strangers: Vec<_> = of(STRANGER, 0).collect();
    let mut waiting = Vec::new();
    for each in &strangers {
        let mut enter = Box::pin(gate.enter(each));
        match (&mut enter).now_or_never() {
            None => waiting.push(enter),
            Some(refused) => assert!(matches!(refused, Err(AuthnError::Busy { .. }))),
        }
    }
    // A thousand pods behind one address find room.
    assert_eq!(waiting.len(), MOST_WAITING / 2);
    let other = request("y", "x", HONEST);
    assert!(gate.enter(&other).now_or_never().is_none());
}

#[test]
fn a_network_of_ipv6_counts_as_one_address() {
    let of = |text: &str| network(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
}
