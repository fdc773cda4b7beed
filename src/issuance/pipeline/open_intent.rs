//! A recorded intent whose outcome is not recorded yet.

use super::SigningPipeline;
use crate::issuance::error::IssueError;
use crate::ledger::{IntentId, Outcome};

pub(super) struct OpenIntent {
    pipeline: SigningPipeline,
    id: IntentId,
    /// The ledger holds an earlier outcome, `unknown`; the bytes are signed again.
    reopened: bool,
}

impl OpenIntent {
    pub(super) fn new(pipeline: SigningPipeline, id: IntentId) -> Self {
        Self {
            pipeline,
            id,
            reopened: false,
        }
    }

    pub(super) fn reopened(pipeline: SigningPipeline, id: IntentId) -> Self {
        Self {
            pipeline,
            id,
            reopened: true,
        }
    }

    pub(super) fn id(&self) -> &IntentId {
        &self.id
    }

    /// Records that nothing was issued. An earlier outcome is left unchanged.
    pub(super) async fn failed(self, outcome: Outcome) -> Result<(), IssueError> {
        match self.reopened {
            false => self.pipeline.conclude(self.id, outcome).await,
            true => Ok(()),
        }
    }

    /// Records the signature; durable when this returns.
    pub(super) async fn issued(self, signature: Vec<u8>) -> Result<(), IssueError> {
        let outcome = Outcome::Issued { signature };
        match self.reopened {
            false => self.pipeline.conclude(self.id, outcome).await,
            true => self.pipeline.reopen(self.id, outcome).await,
        }
    }
}
