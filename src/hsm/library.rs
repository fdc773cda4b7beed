//! The module's library: loaded and initialized when it is first needed, so that one that cannot be started yet is
//! a token's problem and not the process's.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use super::error::HsmError;
use super::fault::Fault;
use super::module_hint;
use super::text::fixed_text;
use super::token_info::LibraryInfo;

/// How long a thread waits for another one's C_Initialize.
const START_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Library {
    path: PathBuf,
    /// `hsm.environment`, for messages.
    environment: Vec<(String, String)>,
    loaded: OnceLock<Loaded>,
    /// Since the last C_Initialize, unless C_Finalize followed.
    initialized: AtomicBool,
    starting: Mutex<bool>,
    started: Condvar,
}

#[derive(Debug)]
struct Loaded {
    context: Pkcs11,
    was_initialized: AtomicBool,
    info: OnceLock<LibraryInfo>,
}

/// What [`Library::start`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing: it was initialized.
    NotNeeded,
    First,
    /// It had been finalized.
    Again,
}

impl Library {
    pub(super) fn new(path: &Path, environment: Vec<(String, String)>) -> Self {
        Self {
            path: path.to_owned(),
            environment,
            loaded: OnceLock::new(),
            initialized: AtomicBool::new(false),
            starting: Mutex::new(false),
            started: Condvar::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Loads and initializes it, where it is not. Several threads may call it; none may restart it meanwhile.
    ///
    /// # Errors
    /// [`HsmError::NoSuchModule`], [`HsmError::Module`], [`HsmError::Initialize`].
    pub(super) fn start(&self) -> Result<Start, HsmError> {
        if self.initialized.load(Ordering::SeqCst) {
            return Ok(Start::NotNeeded);
        }
        let _starting = self.begin()?;
        if self.initialized.load(Ordering::SeqCst) {
            return Ok(Start::NotNeeded);
        }
        let loaded = self.load()?;
        let again = loaded.was_initialized.load(Ordering::SeqCst);
        self.initialize(loaded).map_err(|fault| {
            let variables = self.environment.iter();
            let variables = variables.map(|(name, value)| (name.as_str(), value.as_str()));
            HsmError::Initialize {
                path: self.path.clone(),
                fault,
                causes: module_hint::causes(&self.path, variables),
            }
        })?;
        Ok(if again { Start::Again } else { Start::First })
    }

    /// C_Finalize and C_Initialize. No session is open, and no other thread starts it.
    pub(super) fn restart(&self) -> Result<(), Fault> {
        let loaded = self.loaded.get().ok_or_else(not_started)?;
        self.finalize(loaded);
        self.initialize(loaded)
    }

    pub(super) fn context(&self) -> Result<&Pkcs11, Fault> {
        self.loaded
            .get()
            .map(|loaded| &loaded.context)
            .ok_or_else(not_started)
    }

    /// As it describes itself; nothing of it before it was initialized.
    pub(super) fn info(&self) -> LibraryInfo {
        let info = self.loaded.get().and_then(|loaded| loaded.info.get());
        info.cloned().unwrap_or_default()
    }

    fn begin(&self) -> Result<Starting<'_>, HsmError> {
        let waited = self
            .started
            .wait_timeout_while(self.lock(), START_LIMIT, |starting| *starting);
        let mut starting = waited.unwrap_or_else(PoisonError::into_inner).0;
        if *starting {
            return Err(HsmError::Initialize {
                path: self.path.clone(),
                fault: Fault::other("C_Initialize", "the call does not return"),
                causes: Vec::new(),
            });
        }
        *starting = true;
        Ok(Starting(self))
    }

    fn load(&self) -> Result<&Loaded, HsmError> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        if !self.path.exists() {
            return Err(HsmError::NoSuchModule {
                path: self.path.clone(),
            });
        }
        let context = Pkcs11::new(&self.path).map_err(|error| HsmError::Module {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok(self.loaded.get_or_init(|| Loaded {
            context,
            was_initialized: AtomicBool::new(false),
            info: OnceLock::new(),
        }))
    }

    fn initialize(&self, loaded: &Loaded) -> Result<(), Fault> {
        // Without OS locking, threads crash SoftHSM. A module that is initialized already is refused: it
        // may have been initialized without locking.
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        loaded.context.initialize(arguments)?;
        loaded.was_initialized.store(true, Ordering::SeqCst);
        self.initialized.store(true, Ordering::SeqCst);
        if loaded.info.get().is_none()
            && let Ok(info) = loaded.context.get_library_info()
        {
            let version = info.library_version();
            let _ = loaded.info.set(LibraryInfo {
                manufacturer: fixed_text(info.manufacturer_id()),
                description: fixed_text(info.library_description()),
                version: (version.major(), version.minor()),
            });
        }
        Ok(())
    }

    fn finalize(&self, loaded: &Loaded) {
        if !self.initialized.swap(false, Ordering::SeqCst) {
            return;
        }
        if let Err(error) = loaded.context.clone().finalize()
            && !matches!(error, Error::Pkcs11(RvError::CryptokiNotInitialized, _))
        {
            tracing::warn!(module = %self.path.display(), error = %Fault::from(error), "C_Finalize failed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if let Some(loaded) = self.loaded.get() {
            self.finalize(loaded);
        }
    }
}

struct Starting<'a>(&'a Library);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.started.notify_all();
    }
}

fn not_started() -> Fault {
    Fault::other("C_Initialize", "the module could not be started yet")
}
