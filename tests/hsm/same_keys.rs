//! One key in two tokens of two modules: a faulty SoftHSM, and a copy of its token behind `p11-kit server`. Whichever
//! of them fails, no call does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rootbridge::hsm::{Hsm, Key, RawTokenConfig, SignError, Token, TokenState};
use rootbridge::x509::PublicKey;
use rootbridge_test_support::p11_kit::P11KitServer;
use rootbridge_test_support::softhsm::{self, copy_tokens, p11_kit_client};
use rootbridge_test_support::{PATIENCE, eventually};

use crate::support::{Module, Scenario, new_key, sign, sign_and_verify, until};

fn is_ready(state: &TokenState) -> bool {
    *state == TokenState::Ready
}

/// The second token's place.
struct Second {
    configuration: PathBuf,
    socket: PathBuf,
}

impl Second {
    fn start(&self) -> P11KitServer {
        let environment = [("SOFTHSM2_CONF", self.configuration.as_path())];
        P11KitServer::start_with(&softhsm::module(), &self.socket, &environment)
    }
}

/// A key in the token `main`, and a second token with a copy of it, whose module is not started.
async fn prepare(scenario: &Scenario) -> (PublicKey, Second) {
    let (hsm, token) = scenario.ready(|_| ()).await;
    let public = new_key(&token, &[1]).await.public_key().clone();
    drop((token, hsm));
    let second = Second {
        configuration: copy_tokens(&scenario.dir.join("tokens"), &scenario.dir.join("second")),
        socket: scenario.dir.join("p11-kit.sock"),
    };
    (public, second)
}

fn open(scenario: &Scenario) -> (Hsm, Arc<Token>, Arc<Token>) {
    let config = scenario.config(|raw| {
        // Longer than a busy machine stops: work that would take longer is refused at once.
        raw.deadline = Duration::from_secs(8);
        let second = RawTokenConfig {
            module: Some(p11_kit_client()),
            same_keys_in: vec!["main".to_owned()],
            ..raw.tokens["main"].clone()
        };
        raw.tokens.insert("second".to_owned(), second);
    });
    let hsm = Hsm::open_with_tokens(&config).unwrap();
    let (main, second) = (hsm.token("main").unwrap(), hsm.token("second").unwrap());
    (hsm, main, second)
}

/// Signs all the time.
struct Load {
    done: Arc<AtomicBool>,
    signed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(key: &Key) -> Self {
        let (done, signed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let tasks = (0..4).map(|_| {
            let (key, done, signed) = (key.clone(), done.clone(), signed.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let permit = key.reserve().expect("one of them has room");
                    // Where one hangs, the other has its turn after a third of the time.
                    let deadline = Instant::now() + Duration::from_secs(30);
                    let signature = permit.sign(b"load", deadline).await;
                    let signature = signature.expect("no call fails");
                    let algorithm = key.algorithm();
                    key.public_key()
                        .verify(algorithm, b"load", &signature)
                        .unwrap();
                    signed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        });
        Self {
            tasks: tasks.collect(),
            done,
            signed,
        }
    }

    /// Waits for some more signatures.
    async fn goes_on(&self, what: &str) {
        let before = self.signed.load(Ordering::Relaxed);
        let more = async || self.signed.load(Ordering::Relaxed) >= before + 20;
        eventually(PATIENCE, what, more).await;
    }

    async fn end(self) {
        self.done.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

scenario!(
    whichever_token_fails_no_call_does,
    Module::Faulty,
    async |scenario| {
        let (public, place) = prepare(&scenario).await;
        let server = place.start();
        let (hsm, main, second) = open(&scenario);
        for token in [&main, &second] {
            until(token, PATIENCE, is_ready).await;
        }
        let key = hsm.key("main", &[1], &public).await.unwrap();
        // The one with fewer requests signs: both are used.
        let load = Load::start(&key);
        for token in [&main, &second] {
            let used = async || token.signatures() > 0;
            eventually(PATIENCE, "each token signs", used).await;
        }

        // DEVICE_ERROR, with and without a signature; a session less; no session; no answer.
        for fault in [
            "sign_rv 48\n",
            "lost_rv 48\n",
            "close_all 1\n",
            "open_rv 48\nclose_all 1\n",
        ] {
            scenario.command(fault);
            load.goes_on(fault).await;
            scenario.command("");
            until(&main, PATIENCE, is_ready).await;
            load.goes_on("after it").await;
        }
        let before = second.signatures();
        scenario.command("sign_ms 600000\n");
        load.goes_on("while one hangs").await;
        assert!(second.signatures() > before);
        scenario.command("");
        until(&main, PATIENCE, is_ready).await;

        drop(server);
        until(&second, PATIENCE, |state| !is_ready(state)).await;
        load.goes_on("without the second").await;
        let server = place.start();
        until(&second, PATIENCE, is_ready).await;
        let before = second.signatures();
        scenario.command("wedge 5\ninitialize_rv 5\n");
        until(&main, PATIENCE, |state| !is_ready(state)).await;
        load.goes_on("without the first").await;
        assert!(second.signatures() > before);
        scenario.command("");
        until(&main, PATIENCE, is_ready).await;
        load.end().await;
        assert_eq!((main.stuck(), second.stuck()), (None, None));
        drop(server);
    }
);

scenario!(
    a_token_is_used_when_it_comes_and_takes_only_its_keys_when_it_goes,
    Module::Faulty,
    async |scenario| {
        let (public, place) = prepare(&scenario).await;
        // Neither module works at the start, then the second one does.
        scenario.command("initialize_rv 5\n");
        let (hsm, main, second) = open(&scenario);
        until(&main, PATIENCE, |state| {
            state.to_string().contains("cannot initialize")
        })
        .await;
        let error = hsm
            .key("main", &[1], &public)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"main\" is not ready"), "{error}");
        let server = place.start();
        until(&second, PATIENCE, is_ready).await;
        let key = hsm.key("main", &[1], &public).await.unwrap();
        sign_and_verify(&key, b"by the second").await;
        assert_eq!((main.signatures(), second.signatures()), (0, 1));
        hsm.complete(&key).await;
        sign_and_verify(&key, b"by the second").await;

        scenario.command("");
        until(&main, PATIENCE, is_ready).await;
        hsm.complete(&key).await;
        let only_here = new_key(&main, &[2]).await;
        drop(server);
        until(&second, PATIENCE, |state| !is_ready(state)).await;
        sign_and_verify(&key, b"by the first").await;
        sign_and_verify(&only_here, b"by the first").await;
        assert_eq!(main.signatures(), 2);

        // A key that is in one of them alone.
        let public = only_here.public_key().clone();
        let _server = place.start();
        until(&second, PATIENCE, is_ready).await;
        let alone = hsm.key("main", &[2], &public).await.unwrap();
        sign_and_verify(&alone, b"by the first").await;
        scenario.command("wedge 5\ninitialize_rv 5\n");
        until(&main, PATIENCE, |state| !is_ready(state)).await;
        let error = sign(&alone, b"m").await.unwrap_err();
        assert!(matches!(error, SignError::Unavailable(_)), "{error}");
        sign_and_verify(&key, b"by the second").await;
    }
);
