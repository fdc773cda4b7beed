//! The token by itself: C_SignInit and C_Sign in a row, with nothing around them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::cpu_time;

pub(crate) const LABEL: &str = "bench";
/// Of a token that exists for a minute, in a directory that only its owner can read.
pub(crate) const PIN: &str = "bench-4711";

/// Stands for a SHA-256 digest.
const DIGEST: [u8; 32] = [0x5a; 32];
/// OBJECT IDENTIFIER prime256v1 in DER.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// An initialized token with a key pair for signing, which is destroyed when the measurement ends.
pub(crate) struct Token {
    module: Pkcs11,
    slot: Slot,
    /// Keeps the login while other sessions open and close.
    session: Session,
    public: ObjectHandle,
    private: ObjectHandle,
}

pub(crate) struct SigningSpeed {
    /// Over all threads.
    pub(crate) per_second: f64,
    /// CPU time of one signature in this process.
    pub(crate) cpu: Duration,
}

impl Token {
    /// Initializes the first free slot's token and generates a key in it.
    pub(crate) fn create(module: &Path) -> Result<Self> {
        let module = Pkcs11::new(module)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let slots = module.get_slots_with_token()?;
        let free = |slot: &Slot| {
            let info = module.get_token_info(*slot);
            info.is_ok_and(|info| !info.token_initialized())
        };
        let slot = slots.into_iter().find(free).context("no free slot")?;
        let pin = AuthPin::from(PIN);
        module.init_token(slot, &pin, LABEL)?;
        let session = module.open_rw_session(slot)?;
        session.login(UserType::So, Some(&pin))?;
        session.init_pin(&pin)?;
        session.logout()?;
        session.login(UserType::User, Some(&pin))?;
        let (public, private) = session.generate_key_pair(
            &Mechanism::EccKeyPairGen,
            &[
                Attribute::Token(true),
                Attribute::EcParams(P256.to_vec()),
                Attribute::Verify(true),
            ],
            &[
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ],
        )?;
        Ok(Self {
            module,
            slot,
            session,
            public,
            private,
        })
    }

    /// Signs for about `span` from `threads` threads with a session each.
    pub(crate) fn signing_speed(&self, threads: usize, span: Duration) -> Result<SigningSpeed> {
        let start = Instant::now();
        let until = start + span;
        // A session belongs to one thread.
        let (module, slot, key) = (&self.module, self.slot, self.private);
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|_| scope.spawn(move || sign_until(module, slot, key, until)))
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let elapsed = start.elapsed();
        let (mut signatures, mut cpu) = (0, Duration::ZERO);
        for result in results {
            let (count, spent) = result.map_err(|_| anyhow!("a signing thread panicked"))??;
            signatures += count;
            cpu += spent;
        }
        Ok(SigningSpeed {
            per_second: f64::from(signatures) / elapsed.as_secs_f64(),
            cpu: cpu / signatures.max(1),
        })
    }

    /// Destroys the key pair; the initialized token stays for the servers.
    pub(crate) fn destroy(self) -> Result<()> {
        self.session.destroy_object(self.private)?;
        self.session.destroy_object(self.public)?;
        drop(self.session);
        Ok(self.module.finalize()?)
    }
}

fn sign_until(
    module: &Pkcs11,
    slot: Slot,
    key: ObjectHandle,
    until: Instant,
) -> Result<(u32, Duration)> {
    let session = module.open_ro_session(slot)?;
    let (start, mut count) = (cpu_time::thread(), 0);
    while Instant::now() < until {
        session.sign(&Mechanism::Ecdsa, key, &DIGEST)?;
        count += 1;
    }
    Ok((count, cpu_time::thread().saturating_sub(start)))
}
