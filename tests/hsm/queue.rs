//! The queue: bounded, with deadlines, and working without one of its workers.

use std::time::{Duration, Instant};

use rootbridge::fair_queue::Share;
use rootbridge::hsm::{HsmError, SignError, TokenState};

use rootbridge_test_support::{PATIENCE, eventually, stays};

use crate::support::{Module, new_key, sign, sign_and_verify, until};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

scenario!(
    a_full_queue_is_busy_before_anything_is_recorded,
    Module::Plain,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|raw| raw.queue = 4).await;
        let key = new_key(&token, &[1]).await;
        let mut permits: Vec<_> = (0..4).map(|_| key.reserve().unwrap()).collect();
        assert_eq!(key.reserve().unwrap_err(), SignError::Busy);
        assert!(matches!(
            token.keys().await.unwrap_err(),
            HsmError::Busy { queue: 4, .. }
        ));
        // A permit that is dropped gives its place back; one that signs too.
        permits.pop();
        let permit = key.reserve().unwrap();
        assert_eq!(key.reserve().unwrap_err(), SignError::Busy);
        permit.sign(b"m", soon()).await.unwrap();
        for permit in permits {
            permit.sign(b"m", soon()).await.unwrap();
        }
        assert_eq!((token.queued(), token.signatures()), (0, 4));
    }
);

scenario!(
    what_waited_too_long_is_never_signed,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|raw| raw.workers = 1).await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"warm").await;
        let before = scenario.calls("C_SignInit");
        scenario.command("sign_ms 400\n");
        let slow = tokio::spawn(key.reserve().unwrap().sign(b"slow", soon()));
        let taken = async || scenario.calls("C_SignInit") == before + 1;
        eventually(PATIENCE, "the worker has the first", taken).await;
        let late = key
            .reserve()
            .unwrap()
            .sign(b"late", Instant::now() + Duration::from_millis(100));
        // It does not wait for the worker.
        assert_eq!(late.await, Err(SignError::Expired));
        assert_eq!(token.queued(), 0);
        assert!(slow.await.unwrap().is_ok());
        assert_eq!(scenario.calls("C_SignInit"), before + 1);
        let past = key
            .reserve()
            .unwrap()
            .sign(b"past", Instant::now() - Duration::from_millis(1));
        assert_eq!(past.await, Err(SignError::Expired));

        // A caller that is gone is not signed for.
        let busy = tokio::spawn(key.reserve().unwrap().sign(b"slow", soon()));
        let taken = async || scenario.calls("C_SignInit") == before + 2;
        eventually(PATIENCE, "the worker has the first", taken).await;
        let gone = tokio::spawn(key.reserve().unwrap().sign(b"gone", soon()));
        eventually(PATIENCE, "the other waits", async || token.queued() == 1).await;
        gone.abort();
        assert!(busy.await.unwrap().is_ok());
        scenario.command("");
        sign_and_verify(&key, b"after").await;
        assert_eq!(scenario.calls("C_SignInit"), before + 3);
        assert_eq!(token.signatures(), 4);
    }
);

scenario!(
    what_cannot_be_signed_in_time_is_refused_at_once,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario
            .ready(|raw| {
                raw.workers = 1;
                raw.deadline = Duration::from_secs(20);
                raw.probe_interval = Duration::from_secs(600);
            })
            .await;
        let key = new_key(&token, &[1]).await;
        // A token that takes two seconds: eight signatures in the 16 s that a request has for them.
        scenario.command("sign_ms 2000\n");
        sign_and_verify(&key, b"slow").await;
        scenario.command("sign_ms 600000\n");
        let flood = Share::new("a", "east", "x");
        let mut waiting = Vec::new();
        let refused = loop {
            assert!(waiting.len() < 100);
            match key.reserve_for(flood) {
                Ok(permit) => {
                    waiting.push(tokio::spawn(permit.sign(b"m", Instant::now() + PATIENCE)))
                }
                Err(error) => break error,
            }
        };
        let SignError::TooLate { wait, limit } = refused else {
            panic!("{refused:?}")
        };
        assert!(
            wait > limit && limit == Duration::from_secs(16),
            "{refused}"
        );
        assert!((2..=10).contains(&waiting.len()), "{}", waiting.len());
        assert!(key.has_room_for(flood).is_err());
        // Others have turns of their own, and this server's own work is always admitted.
        for share in [Share::new("b", "", "x"), Share::own("x")] {
            key.has_room_for(share).unwrap();
        }
        // A caller that gives up frees its place.
        let taken = async || token.queued() == waiting.len() - 1;
        eventually(PATIENCE, "the worker has one", taken).await;
        let queued = token.queued();
        waiting.pop().unwrap().abort();
        eventually(PATIENCE, "its place is free", async || {
            token.queued() == queued - 1
        })
        .await;
        key.has_room_for(flood).unwrap();

        scenario.command("");
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        // What was signed quickly counts.
        for _ in 0..20 {
            sign_and_verify(&key, b"quick").await;
        }
        assert_eq!(token.queued(), 0);
        let permits: Vec<_> = (0..50).map(|_| key.reserve_for(flood).unwrap()).collect();
        drop(permits);
    }
);

scenario!(
    stuck_workers_hold_up_nobody_else,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario
            .ready(|raw| {
                raw.queue = 3;
                // A worker is replaced after twice as long.
                raw.deadline = Duration::from_secs(300);
            })
            .await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"warm").await;
        scenario.command("sign_ms 600000\n");
        let mut waiting = Vec::new();
        let full = loop {
            match key.reserve() {
                Ok(permit) => waiting.push(tokio::spawn(permit.sign(b"m", soon()))),
                Err(error) => break error,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // Two in the workers' hands, three in the queue.
        assert_eq!((full, waiting.len()), (SignError::Busy, 5));
        assert!(matches!(
            token.probe().await.unwrap_err(),
            HsmError::Busy { .. }
        ));
        let span = Duration::from_millis(700);
        stays(span, "all wait", async || token.queued() == 3).await;
        assert_eq!(key.reserve().unwrap_err(), SignError::Busy);
        assert!(waiting.iter().all(|task| !task.is_finished()));
        scenario.command("");
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        sign_and_verify(&key, b"after").await;
    }
);

scenario!(
    a_token_that_hangs_has_its_own_error,
    Module::Faulty,
    async |scenario| {
        let (_hsm, token) = scenario
            .ready(|raw| raw.deadline = Duration::from_millis(300))
            .await;
        let key = new_key(&token, &[1]).await;
        assert!(token.probe().await.unwrap().signing_time.is_some());
        scenario.command("sign_ms 3000\n");
        let error = token.probe().await.unwrap_err();
        assert!(matches!(error, HsmError::Timeout { .. }), "{error}");
        assert!(matches!(token.state(), TokenState::Unavailable(_)));
        assert!(matches!(
            key.reserve().unwrap_err(),
            SignError::Unavailable(_)
        ));
        scenario.command("");
        until(&token, Duration::from_secs(8), |state| {
            *state == TokenState::Ready
        })
        .await;
        sign_and_verify(&key, b"after").await;
    }
);

scenario!(
    many_tasks_sign_at_once_and_every_signature_is_counted,
    Module::Spy,
    async |scenario| {
        let (_hsm, token) = scenario.ready(|raw| raw.workers = 4).await;
        let keys = [new_key(&token, &[1]).await, new_key(&token, &[2]).await];
        let tasks: Vec<_> = (0..64u8)
            .map(|task| {
                let key = keys[usize::from(task % 2)].clone();
                tokio::spawn(async move {
                    for turn in 0..10u8 {
                        let message = [task, turn];
                        let signature = sign(&key, &message).await.unwrap();
                        key.public_key()
                            .verify(key.algorithm(), &message, &signature)
                            .unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..5 {
            token.probe().await.unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((token.signatures(), token.test_signatures()), (640, 5));
        assert_eq!(scenario.calls("C_SignInit"), 645);
        assert_eq!(scenario.calls("C_Sign"), 2 * 645);
        // Handles are looked up once for each session, not for each signature.
        assert!(
            scenario.calls("C_FindObjectsInit") < 40,
            "{}",
            scenario.calls("C_FindObjectsInit")
        );
    }
);
