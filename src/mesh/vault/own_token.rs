//! `auth/token/…-self`.

use std::time::Duration;

use serde_json::json;

use super::api::{Call, Holder, VaultApi};
use super::envelope::Answer;
use super::error::VaultError;
use super::fields::Fields;
use super::login::{auth, metadata};
use super::route::TokenCall;

impl VaultApi {
    pub(super) fn own_token(
        &self,
        what: TokenCall,
        holder: &Holder,
        fields: &Fields,
        call: &Call<'_>,
    ) -> Result<Answer, VaultError> {
        let now = self.clock.now();
        match (what, holder) {
            (TokenCall::Lookup, Holder::Operator(caller)) => {
                let name = caller.identity.to_string();
                Ok(Answer::data(json!({
                    // Not the credential: answers reach logs of clients.
                    "id": name,
                    "accessor": name,
                    "display_name": name,
                    "creation_time": 0,
                    "creation_ttl": 0,
                    "entity_id": "",
                    "expire_time": null,
                    "explicit_max_ttl": 0,
                    "meta": metadata(caller),
                    "num_uses": 0,
                    "orphan": true,
                    "path": "auth/token/create",
                    "policies": [name],
                    "renewable": false,
                    "ttl": 0,
                    "type": "service",
                })))
            }
            (
                TokenCall::Lookup,
                Holder::Session {
                    session,
                    token,
                    ends,
                },
            ) => {
                let name = session.caller.identity.to_string();
                Ok(Answer::data(json!({
                    "id": token,
                    "accessor": session.accessor(),
                    "display_name": name,
                    "creation_time": session.issued_at.secs(),
                    "creation_ttl": session.expires_at.since(session.issued_at).as_secs(),
                    "entity_id": "",
                    "expire_time": ends.to_string(),
                    "explicit_max_ttl": session.last_at.since(session.issued_at).as_secs(),
                    "issue_time": session.issued_at.to_string(),
                    "meta": metadata(&session.caller),
                    "num_uses": 0,
                    "orphan": true,
                    "path": session.path,
                    "policies": [name],
                    "renewable": true,
                    "ttl": ends.since(now).as_secs(),
                    "type": "service",
                })))
            }
            (TokenCall::Renew, Holder::Operator(_)) => {
                Err(VaultError::invalid("lease is not renewable"))
            }
            (TokenCall::Renew, Holder::Session { session, token, .. }) => {
                let ttl = self.increment(fields)?;
                let ends = self.state.sessions.renew(session, ttl, now)?;
                Ok(Answer::Auth(auth(session, token, ends, now)))
            }
            (TokenCall::Revoke, Holder::Operator(_)) => Err(VaultError::invalid(
                "an operator's credential ends with its file: remove the file, or the operator from the \
                 listener's `operators`",
            )),
            (TokenCall::Revoke, Holder::Session { session, .. }) => {
                self.state.sessions.revoke(session, now)?;
                tracing::info!(
                    request_id = &**call.id, accessor = session.accessor(),
                    caller = %session.caller.identity, "a session is revoked"
                );
                Ok(Answer::Nothing)
            }
        }
    }

    /// How long a renewal lasts: what is asked for, and no longer than a login.
    fn increment(&self, fields: &Fields) -> Result<Duration, VaultError> {
        let most = self.config().token_ttl();
        Ok(fields
            .duration("increment")?
            .map_or(most, |span| span.min(most)))
    }
}
