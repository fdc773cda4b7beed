//! What a session shows of the login.

use cryptoki::session::{Session, SessionState};

use super::fault::Fault;
use super::token_inner::TokenInner;

/// Whether the session can use private keys. One that never shows a login is asked for nothing: its
/// token needs none, or does not report it.
pub(super) fn is_usable(inner: &TokenInner, session: &Session) -> Result<bool, Fault> {
    let logged_in = is_logged_in(session)?;
    Ok(logged_in || !inner.login_is_shown())
}

/// Whether the user is logged in, as the session reports it.
pub(super) fn is_logged_in(session: &Session) -> Result<bool, Fault> {
    let info = session.get_session_info()?;
    Ok(matches!(
        info.session_state(),
        SessionState::RoUser | SessionState::RwUser
    ))
}
