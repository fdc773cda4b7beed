//! Every return code at every call, delays, lost sessions and other slot numbers (`faulty_module.c`): when the
//! fault has ended the token signs again by itself, and no call outlasts its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rootbridge::hsm::{Hsm, Key, SignError, Token, TokenState};
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::{PATIENCE, eventually, stays};

use crate::support::{
    Module, PIN, SO_PIN, Scenario, new_key, secret, sign, sign_and_verify, until,
};

/// A machine of its own recovers within five seconds; one that runs other tests may take its time.
fn recovery() -> Duration {
    Duration::from_secs(u64::try_from(rounds(30, 5)).unwrap())
}

/// What `faulty_module.c` calls the functions, with what makes the server call them.
const CALLS: [(&str, &str); 6] = [
    ("initialize", "wedge 5\n"),
    ("open", "close_all 1\n"),
    ("login", "close_all 1\n"),
    ("find", "close_all 1\n"),
    ("init", ""),
    ("sign", ""),
];

/// CKR_PIN_INCORRECT, PIN_INVALID, PIN_LEN_RANGE, PIN_EXPIRED, PIN_LOCKED: as answers of C_Login they are final.
const PIN_CODES: [u64; 5] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4];

/// Every code that PKCS#11 defines, and two that it does not.
fn codes() -> Vec<u64> {
    let defined = |code: &u64| {
        use cryptoki::error::{Rv, RvError};
        !matches!(
            Rv::from(*code),
            Rv::Ok | Rv::Error(RvError::UnknownErrorCode(_))
        )
    };
    // GENERAL_ERROR, DEVICE_ERROR, SESSION_HANDLE_INVALID, DATA_INVALID, a vendor's own.
    let few = vec![0x5, 0x30, 0xb3, 0x20, 0x8000_0001];
    let all: Vec<u64> = (1..=0x200)
        .filter(defined)
        .chain([0xfff, 0x8000_0001])
        .collect();
    assert!(all.len() > 80 && few.iter().all(|code| all.contains(code)));
    if rounds(0, 1) == 0 { few } else { all }
}

/// A token that was ready, with a key.
struct Used {
    hsm: Hsm,
    token: Arc<Token>,
    key: Key,
}

impl Used {
    async fn open(scenario: &Scenario) -> Self {
        let hsm = Hsm::open(&scenario.config(|_| ())).unwrap();
        let token = hsm.token("main").unwrap();
        token.ready(PATIENCE).await.unwrap();
        let public = token.keys().await.unwrap()[0].public_key.clone().unwrap();
        let key = token.key(&[1], &public).await.unwrap();
        Self { hsm, token, key }
    }

    /// As the server does, for as long as the fault lasts: calls end by their deadline, and a signature is right.
    async fn try_to_sign(&self, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let Ok(permit) = self.key.reserve() else {
            return;
        };
        let signing = permit.sign(b"during", deadline);
        let signed = tokio::time::timeout(Duration::from_secs(5) + PATIENCE, signing).await;
        match signed.unwrap_or_else(|_| panic!("{what}: no answer")) {
            Ok(signature) => self
                .key
                .public_key()
                .verify(self.key.algorithm(), b"during", &signature)
                .unwrap_or_else(|error| panic!("{what}: {error}")),
            Err(error) => assert!(
                matches!(
                    error,
                    SignError::Unavailable(_) | SignError::Unknown(_) | SignError::Refused(_)
                ),
                "{what}: {error:?}"
            ),
        }
    }

    /// After the fault's end.
    async fn recovers(&self, what: &str) {
        let ended = Instant::now();
        loop {
            if sign(&self.key, b"after").await.is_ok() {
                break;
            }
            let took = ended.elapsed();
            assert!(
                took < recovery(),
                "{what}: {:?} after {took:?}",
                self.token.state()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        until(&self.token, recovery(), |state| *state == TokenState::Ready).await;
        sign_and_verify(&self.key, b"after").await;
    }
}

async fn prepare(scenario: &Scenario) -> Used {
    let (hsm, token) = scenario.ready(|_| ()).await;
    let key = new_key(&token, &[1]).await;
    Used { hsm, token, key }
}

scenario!(
    every_code_of_every_call_heals_without_a_restart,
    Module::Faulty,
    async |scenario| {
        let mut used = prepare(&scenario).await;
        for (call, provoked) in CALLS {
            for code in codes() {
                if call == "login" && PIN_CODES.contains(&code) {
                    continue;
                }
                let what = format!("{call} answers {code:#x}");
                // C_Initialize's answer shows once something else makes it necessary.
                scenario.command(&format!("{provoked}{call}_rv {code}\n"));
                used.try_to_sign(&what).await;
                if call == "initialize" {
                    until(&used.token, PATIENCE, |state| *state != TokenState::Ready).await;
                }
                scenario.command("");
                used.recovers(&what).await;
            }
        }
        // One attempt with a PIN that is refused, and none before somebody acts.
        for code in PIN_CODES {
            let logins = scenario.calls("C_Login");
            scenario.command(&format!("close_all 1\nlogin_rv {code}\n"));
            used.try_to_sign("login").await;
            let Used { hsm, token, key } = used;
            until(&token, PATIENCE, TokenState::needs_operator).await;
            scenario.command("");
            // The PIN's source is read again each second.
            let same = async || scenario.calls("C_Login") == logins + 1;
            stays(Duration::from_millis(1100), "one login", same).await;
            drop((key, token, hsm));
            used = Used::open(&scenario).await;
        }
    }
);

scenario!(
    delays_lost_sessions_and_other_slots_heal_without_a_restart,
    Module::Faulty,
    async |scenario| {
        let used = prepare(&scenario).await;
        let delays: &[u64] = if rounds(0, 1) == 0 {
            &[50, 600_000]
        } else {
            &[50, 1000, 30_000, 600_000]
        };
        for (call, provoked) in CALLS {
            for delay in delays {
                let what = format!("{call} takes {delay} ms");
                scenario.command(&format!("{provoked}{call}_ms {delay}\n"));
                let key = used.key.clone();
                let waiting = tokio::spawn(async move { sign(&key, b"waits").await });
                if *delay > 1000 {
                    // The fault shows.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                scenario.command("");
                used.recovers(&what).await;
                let _ = tokio::time::timeout(PATIENCE, waiting).await.expect(&what);
            }
        }
        for round in 0..rounds(3, 30) {
            let tests = used.token.unconfirmed_signatures();
            scenario.command("close_one 1\nonce 1\n");
            used.recovers(&format!("session {round} is lost")).await;
            assert_eq!(used.token.unconfirmed_signatures(), tests);
        }
        // The numbers of slots are those of the module's last start.
        let before = used.token.info().unwrap().slot;
        // Not ready until the next line: a restart in between has the new numbers too.
        scenario.command("wedge 5\nslot_shift 7\n");
        until(&used.token, PATIENCE, |state| *state != TokenState::Ready).await;
        scenario.command("slot_shift 7\n");
        let moved = async || {
            let info = used.token.info();
            info.is_some_and(|info| info.slot == before + 7)
        };
        eventually(PATIENCE, "the slot has another number", moved).await;
        used.recovers("slots have other numbers").await;
        assert_eq!(used.token.stuck(), None);
        drop(used.hsm);
    }
);

scenario!(
    workers_that_hang_are_replaced_up_to_a_bound,
    Module::Faulty,
    async |scenario| {
        let (hsm, token) = scenario
            .ready(|raw| {
                raw.workers = 2;
                raw.deadline = Duration::from_millis(300);
                let other = rootbridge::hsm::RawTokenConfig {
                    label: Some("other".to_owned()),
                    ..raw.tokens["main"].clone()
                };
                raw.tokens.insert("other".to_owned(), other);
            })
            .await;
        hsm.init_token(None, "other", &secret(SO_PIN), &secret(PIN))
            .unwrap();
        let other = hsm.token("other").unwrap();
        until(&other, PATIENCE, |state| *state == TokenState::Ready).await;
        let elsewhere = new_key(&other, &[1]).await;
        let key = new_key(&token, &[1]).await;
        sign_and_verify(&key, b"before").await;

        // One call that never returns: its worker is replaced, and nothing else is noticed.
        let soon = || Instant::now() + PATIENCE;
        scenario.command("hang 1\n");
        let never = tokio::spawn(key.reserve().unwrap().sign(b"never", soon()));
        eventually(PATIENCE, "it hangs", async || token.hanging() == 1).await;
        for _ in 0..4 {
            sign_and_verify(&key, b"meanwhile").await;
        }
        assert_eq!((token.state(), token.stuck()), (TokenState::Ready, None));

        // The bound is two. While three more hang, nothing signs here, and the other token does.
        // SHA-256 of "goes on" begins with these octets.
        scenario.command("sign_ms 600000\nspare 3514793433\n");
        let held: Vec<_> = (0..3)
            .map(|_| tokio::spawn(key.reserve().unwrap().sign(b"held", soon())))
            .collect();
        eventually(PATIENCE, "stuck", async || token.stuck().is_some()).await;
        assert_eq!(token.hanging(), 4);
        let why = token.state().to_string();
        assert!(
            why.contains("4 threads hang in the PKCS#11 module"),
            "{why}"
        );
        assert!(matches!(
            key.reserve().unwrap_err(),
            SignError::Unavailable(_)
        ));
        sign_and_verify(&elsewhere, b"goes on").await;
        scenario.command("");

        // They return, each with its signature, and the token is used again.
        for task in held {
            task.await.unwrap().unwrap();
        }
        until(&token, recovery(), |state| *state == TokenState::Ready).await;
        sign_and_verify(&key, b"after").await;
        eventually(PATIENCE, "one hangs", async || token.hanging() == 1).await;
        assert_eq!(token.stuck(), None);
        assert!(!never.is_finished());
    }
);

scenario!(
    workers_are_no_more_than_the_token_bears,
    Module::Faulty,
    async |scenario| {
        scenario.command("sessions 5\n");
        let (_hsm, token) = scenario.ready(|raw| raw.workers = 16).await;
        // One session is the login's, one is for what creates objects.
        let key = new_key(&token, &[1]).await;
        // Threads that would find no session do not exist.
        let workers = async || {
            let threads = std::fs::read_dir("/proc/self/task").unwrap();
            let name = |thread: std::io::Result<std::fs::DirEntry>| {
                std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default()
            };
            let is_worker = |name: &String| {
                let number = name.trim_end().strip_prefix("hsm-main-");
                number.is_some_and(|number| number.parse::<u32>().is_ok())
            };
            threads.map(name).filter(is_worker).count()
        };
        eventually(PATIENCE, "three workers", async || workers().await == 3).await;
        let tasks: Vec<_> = (0..32u8)
            .map(|task| {
                let key = key.clone();
                tokio::spawn(async move {
                    for _ in 0..5 {
                        sign_and_verify(&key, &[task]).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((workers().await, token.state()), (3, TokenState::Ready));
    }
);
