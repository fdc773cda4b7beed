//! Logins: an operator's credential as an AppRole, a token of a cluster or of another issuer, a client
//! certificate. Each yields a session for the same caller that the other APIs would see.

use serde_json::{Value, json};

use super::api::{Call, VaultApi, random};
use super::envelope::Answer;
use super::error::VaultError;
use super::fields::Fields;
use super::session::Session;
use crate::authn::{Api, AuthnError, Caller};
use crate::clock::UnixTime;

/// What Vault says to each wrong AppRole.
const WRONG_SECRET: &str = "invalid role or secret ID";
const WRONG_CERTIFICATE: &str = "invalid certificate or no client certificate supplied";

impl VaultApi {
    /// `auth/METHOD/login`.
    pub(super) async fn login(
        &self,
        method: &str,
        fields: &Fields,
        call: &Call<'_>,
    ) -> Result<Answer, VaultError> {
        let caller = match method {
            "approle" => self.approle(fields, call).await?,
            "cert" => {
                let caller = self
                    .authenticator
                    .authenticate_certificate(call.peer, Api::Vault);
                caller
                    .await
                    .map_err(|error| wrong(error, WRONG_CERTIFICATE))?
            }
            "kubernetes" | "jwt" => self.jwt("", fields, call).await?,
            cluster if self.authenticator.has_cluster(cluster) => {
                self.jwt(cluster, fields, call).await?
            }
            _ => {
                return Err(VaultError::Denied(format!(
                    "there is no login at auth/{method}"
                )));
            }
        };
        let now = self.clock.now();
        let (ttl, max_ttl) = (self.config().token_ttl(), self.config().token_max_ttl());
        let mut id = [0; 16];
        random(&mut id);
        let session = Session {
            id,
            caller,
            namespace: call.namespace.to_owned(),
            path: format!("auth/{method}/login"),
            issued_at: now,
            expires_at: now.plus(ttl),
            last_at: now.plus(max_ttl),
        };
        tracing::info!(
            request_id = &**call.id, accessor = session.accessor(), path = session.path,
            caller = %session.caller.identity, trust_domain = %session.caller.trust_domain,
            role = %crate::authn::Quoted(&fields.text("role").unwrap_or_default()),
            "logged in"
        );
        let token = self.state.sealer.seal(&session);
        Ok(Answer::Auth(auth(
            &session,
            &token,
            session.expires_at,
            now,
        )))
    }

    /// An operator's name and its credential.
    async fn approle(&self, fields: &Fields, call: &Call<'_>) -> Result<Caller, VaultError> {
        let (role, secret) = (fields.text("role_id")?, fields.text("secret_id")?);
        if role.is_empty() {
            return Err(VaultError::invalid("missing role_id"));
        }
        if secret.is_empty() {
            return Err(VaultError::invalid("missing secret_id"));
        }
        let refused = |why: String| VaultError::Login {
            public: WRONG_SECRET,
            why,
        };
        // A name that does not exist needs no lock, and takes no memory.
        if !self.authenticator.has_operator(&role) {
            let why = "role_id names no operator of this listener";
            self.authenticator
                .count_refused(Api::Vault, &AuthnError::rejected(why));
            return Err(refused(format!("{why}: {}", crate::authn::Quoted(&role))));
        }
        let lockout = &self.state.lockout;
        if let Some(retry_after) = lockout.locked(&role, call.address()) {
            let why = format!("too many wrong secrets for the role {role} from this address");
            return Err(AuthnError::Busy { why, retry_after }.into());
        }
        let authenticated =
            self.authenticator
                .authenticate_operator(&secret, Some(&role), Api::Vault);
        match authenticated.await {
            Ok(caller) => {
                lockout.right(&role, call.address());
                Ok(caller)
            }
            Err(AuthnError::Rejected { reason }) => {
                lockout.wrong(&role, call.address());
                Err(refused(format!("role {role}: {reason}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn jwt(
        &self,
        cluster: &str,
        fields: &Fields,
        call: &Call<'_>,
    ) -> Result<Caller, VaultError> {
        let token = fields.text("jwt")?;
        if token.is_empty() {
            return Err(VaultError::invalid("missing jwt"));
        }
        let caller = self
            .authenticator
            .authenticate_jwt(&token, cluster, call.peer, Api::Vault);
        Ok(caller.await?)
    }
}

/// What a credential that is rejected is answered with.
fn wrong(error: AuthnError, public: &'static str) -> VaultError {
    match error {
        AuthnError::Missing | AuthnError::Rejected { .. } => VaultError::Login {
            public,
            why: error.to_string(),
        },
        other => other.into(),
    }
}

/// The `auth` of an answer.
pub(super) fn auth(session: &Session, token: &str, ends: UnixTime, now: UnixTime) -> Value {
    let policies = [session.caller.identity.to_string()];
    json!({
        "client_token": token,
        "accessor": session.accessor(),
        "policies": policies,
        "token_policies": policies,
        "metadata": metadata(&session.caller),
        "lease_duration": ends.since(now).as_secs(),
        "renewable": true,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
        "mfa_requirement": null,
        "num_uses": 0,
    })
}

/// What a login knows of its caller, as texts.
pub(super) fn metadata(caller: &Caller) -> Value {
    let mut data = json!({
        "trust_domain": caller.trust_domain.as_str(),
        "method": caller.method.name(),
    });
    if let (Some(cluster), Some(data)) = (&caller.cluster, data.as_object_mut()) {
        data.insert("cluster".to_owned(), cluster.as_str().into());
    }
    data
}
