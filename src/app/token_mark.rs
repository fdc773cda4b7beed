//! The mark in a token: a data object, which no restored disk and no removed file takes back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::digest::{hex, sha256};
use crate::hsm::{HsmError, Token, TokenState};
use crate::ledger::{HighWater, Ledger, LedgerError};

/// The shortest time between two writings: tokens write slowly, and some wear out.
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum TokenMarkError {
    #[error(transparent)]
    Token(#[from] HsmError),
    #[error("its data object {label:?} is no mark of a ledger: {error}")]
    Unreadable {
        label: String,
        error: serde_json::Error,
    },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// One server's mark of one ledger in one token.
#[derive(Debug)]
pub(super) struct TokenMark {
    token: Arc<Token>,
    ledger: Arc<dyn Ledger>,
    instance: String,
    /// The label of the object that the ledger is not behind.
    compared: Option<String>,
    written: Option<(Instant, HighWater)>,
}

impl TokenMark {
    pub(super) fn new(token: Arc<Token>, ledger: Arc<dyn Ledger>, instance: &str) -> Self {
        Self {
            token,
            ledger,
            instance: instance.to_owned(),
            compared: None,
            written: None,
        }
    }

    /// For messages.
    pub(super) fn place(&self) -> String {
        format!("a data object of token {:?}", self.token.name())
    }

    /// Waits until the token is ready, or is known not to be.
    pub(super) async fn settled(&self, limit: Duration) {
        let mut states = self.token.watch();
        let settled = states.wait_for(|state| *state != TokenState::Starting);
        let _ = tokio::time::timeout(limit, settled).await;
    }

    /// The mark in the token, the furthest if there are several; `None` for a ledger without one.
    pub(super) async fn read(&self) -> Result<Option<HighWater>, TokenMarkError> {
        let Some(label) = self.label().await? else {
            return Ok(None);
        };
        let mut furthest: Option<HighWater> = None;
        for value in self.token.data_objects(&label).await? {
            let mark: HighWater = serde_json::from_slice(&value).map_err(|error| {
                let label = label.clone();
                TokenMarkError::Unreadable { label, error }
            })?;
            furthest = Some(mark.furthest(furthest));
        }
        Ok(furthest)
    }

    /// From now on the mark in the token may be replaced.
    pub(super) async fn accept(&mut self) -> Result<(), LedgerError> {
        self.compared = self.label().await?;
        Ok(())
    }

    /// Whether the mark in the token has been compared with this ledger.
    pub(super) async fn is_compared(&self) -> Result<bool, LedgerError> {
        Ok(self.compared == self.label().await?)
    }

    /// Replaces the mark in the token, unless that was done a short while ago. Whether there is one now.
    pub(super) async fn write(
        &mut self,
        reached: &HighWater,
        at_once: bool,
    ) -> Result<bool, TokenMarkError> {
        let Some(label) = self.compared.clone() else {
            return Ok(false);
        };
        let is_due = match &self.written {
            None => true,
            Some((_, before)) if before == reached => false,
            Some((at, _)) => at_once || at.elapsed() >= INTERVAL,
        };
        if !is_due {
            return Ok(true);
        }
        let value = serde_json::to_vec(reached).map_err(|error| TokenMarkError::Unreadable {
            label: label.clone(),
            error,
        })?;
        self.token.replace_data_object(&label, value).await?;
        self.written = Some((Instant::now(), reached.clone()));
        Ok(true)
    }

    /// Servers of several ledgers may use one token, and their names be equal.
    async fn label(&self) -> Result<Option<String>, LedgerError> {
        let Some(ledger) = self.ledger.identity().await? else {
            return Ok(None);
        };
        let server = hex(&sha256(self.instance.as_bytes()));
        let short = |text: &str| text.chars().take(16).collect::<String>();
        let (ledger, server) = (short(&ledger), short(&server));
        Ok(Some(format!("rootbridge mark {ledger} {server}")))
    }
}
