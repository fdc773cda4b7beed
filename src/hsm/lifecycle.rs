//! When the module may be finalized and initialized again.
//!
//! Only while no session is open and no other thread selects a token: C_Finalize while a thread is in
//! C_Sign crashes SoftHSM and opencryptoki, and session handles start at 1 again, so that a stale
//! session that is dropped later would close another thread's. So a restart takes the lifecycle for
//! itself, asks every [`SessionHolder`] for its sessions, and waits until they are closed. A thread
//! that hangs in the module keeps its session, and then there is no restart.

use std::fmt;
use std::ops::Deref;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    TryLockError, Weak,
};
use std::time::Duration;

use cryptoki::session::Session;

use super::fault::Fault;

/// How long a restart waits for open sessions, during which the other tokens do not sign.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long the opening of a session waits for a restart.
const RESTART_LIMIT: Duration = Duration::from_secs(5);

/// A token's threads.
pub(super) trait SessionHolder: Send + Sync {
    /// Asks its threads to close their sessions now; they may open new ones.
    fn release_sessions(&self);

    /// Whether its token can be used.
    fn is_ready(&self) -> bool;
}

/// Why the module was not started again.
#[derive(Debug)]
pub(super) enum RestartError {
    /// Another thread logs in or starts it again.
    InProgress,
    /// So many sessions were not closed: their threads are inside the module.
    Hangs(usize),
    Failed(Fault),
}

#[derive(Default)]
pub(super) struct Lifecycle {
    exclusive: RwLock<()>,
    sessions: Arc<Sessions>,
    holders: Mutex<Vec<Weak<dyn SessionHolder>>>,
}

#[derive(Default)]
struct Sessions {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    open: usize,
    restarting: bool,
}

impl Lifecycle {
    /// Held while a token is selected and logged in to.
    pub(super) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.exclusive
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a token is initialized.
    pub(super) fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.exclusive
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, holder: Weak<dyn SessionHolder>) {
        let mut holders = self.holders();
        holders.retain(|known| known.strong_count() > 0);
        holders.push(holder);
    }

    /// Whether a restart would interrupt a token that can be used.
    pub(super) fn is_in_use(&self) -> bool {
        let holders = self.holders().clone();
        holders
            .iter()
            .filter_map(Weak::upgrade)
            .any(|holder| holder.is_ready())
    }

    /// True from the moment when a restart asks for all sessions until its end.
    pub(super) fn is_restarting(&self) -> bool {
        self.sessions.lock().restarting
    }

    /// Opens a session. For a thread that holds none: it waits for a restart.
    pub(super) fn open(
        &self,
        open: impl FnOnce() -> Result<Session, Fault>,
    ) -> Result<ModuleSession, Fault> {
        self.sessions.wait_for_restart();
        self.open_now(open)
    }

    /// Opens a session. For a thread that holds another one: a restart waits for that one, so this
    /// must not wait for the restart.
    pub(super) fn open_now(
        &self,
        open: impl FnOnce() -> Result<Session, Fault>,
    ) -> Result<ModuleSession, Fault> {
        let counted = self.sessions.count()?;
        Ok(ModuleSession {
            session: open()?,
            _counted: counted,
        })
    }

    /// Runs `restart` once every session is closed.
    pub(super) fn restart(
        &self,
        restart: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(), RestartError> {
        let guard = match self.exclusive.try_write() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(RestartError::InProgress),
        };
        let _restarting = self.sessions.start_restart();
        let holders = self.holders().clone();
        for holder in holders.iter().filter_map(Weak::upgrade) {
            holder.release_sessions();
        }
        match self.sessions.drain() {
            0 => restart().map_err(RestartError::Failed)?,
            open => return Err(RestartError::Hangs(open)),
        }
        drop(guard);
        Ok(())
    }

    fn holders(&self) -> MutexGuard<'_, Vec<Weak<dyn SessionHolder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.sessions.lock().open;
        f.debug_struct("Lifecycle")
            .field("open", &open)
            .finish_non_exhaustive()
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_restart(&self) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), RESTART_LIMIT, |inner| inner.restarting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn count(self: &Arc<Self>) -> Result<Counted, Fault> {
        let mut inner = self.lock();
        if inner.restarting {
            return Err(Fault::other(
                "C_OpenSession",
                "the module is being finalized and initialized again",
            ));
        }
        inner.open += 1;
        Ok(Counted(Arc::clone(self)))
    }

    fn start_restart(self: &Arc<Self>) -> Restarting {
        self.lock().restarting = true;
        Restarting(Arc::clone(self))
    }

    /// Waits until no session is open, and returns how many still are after the limit.
    fn drain(&self) -> usize {
        let drained = self
            .changed
            .wait_timeout_while(self.lock(), DRAIN_LIMIT, |inner| inner.open > 0);
        drained.unwrap_or_else(PoisonError::into_inner).0.open
    }
}

/// An open session of the module.
pub(super) struct ModuleSession {
    // Dropped first: the session is closed before it counts as closed.
    session: Session,
    _counted: Counted,
}

impl Deref for ModuleSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

struct Counted(Arc<Sessions>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
        self.0.changed.notify_all();
    }
}

struct Restarting(Arc<Sessions>);

impl Drop for Restarting {
    fn drop(&mut self) {
        self.0.lock().restarting = false;
        self.0.changed.notify_all();
    }
}
