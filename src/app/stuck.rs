//! `hsm.exit_when_stuck`.

use std::sync::Arc;
use std::time::Duration;

use crate::hsm::Token;

const INTERVAL: Duration = Duration::from_millis(500);

/// A token that only a restart of the process can help.
#[derive(Debug, thiserror::Error)]
#[error("token {token:?}: {why} (hsm.exit_when_stuck)")]
pub(super) struct Stuck {
    token: String,
    why: String,
}

/// Waits until one of `tokens` is stuck; for ever without any.
pub(super) async fn first_of(tokens: &[Arc<Token>]) -> Stuck {
    loop {
        let stuck = tokens.iter().find_map(|token| {
            token.stuck().map(|why| Stuck {
                token: token.name().to_owned(),
                why,
            })
        });
        if let Some(stuck) = stuck {
            return stuck;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
