//! The ledger's open of a walk under way, and how it is concluded.

use super::SigningPipeline;
use crate::issuance::error::IssueError;
use crate::ledger::{IntentId, Outcome};

/// A durable intent that waits for its conclusion.
pub(super) struct OpenIntent {
    pipeline: SigningPipeline,
    id: IntentId,
    /// It was concluded before, as unknown, and is opened again for what is signed now.
    again: bool,
}

impl OpenIntent {
    pub(super) fn new(pipeline: SigningPipeline, id: IntentId) -> Self {
        Self {
            pipeline,
            id,
            again: false,
        }
    }

    pub(super) fn again(pipeline: SigningPipeline, id: IntentId) -> Self {
        Self {
            pipeline,
            id,
            again: true,
        }
    }

    pub(super) fn id(&self) -> &IntentId {
        &self.id
    }

    /// Nothing came of it. What was concluded before stays as it is.
    pub(super) async fn failed(self, outcome: Outcome) -> Result<(), IssueError> {
        match self.again {
            false => self.pipeline.conclude(self.id, outcome).await,
            true => Ok(()),
        }
    }

    /// It is issued, once this is durable.
    pub(super) async fn issued(self, signature: Vec<u8>) -> Result<(), IssueError> {
        let outcome = Outcome::Issued { signature };
        match self.again {
            false => self.pipeline.conclude(self.id, outcome).await,
            true => self.pipeline.reopen(self.id, outcome).await,
        }
    }
}
