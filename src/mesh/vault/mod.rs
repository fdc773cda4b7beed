//! Vault's HTTP API, as far as Consul, cert-manager and SPIRE call it: its PKI secrets engine over this
//! server's authorities, and the logins before it.
//!
//! Every call is one [`Route`]; whether it needs a credential is decided before anything else is done.

mod api;
mod ca;
mod certification_requests;
mod config;
mod duration;
mod envelope;
mod error;
mod fields;
mod intermediate;
mod lockout;
mod login;
mod own_token;
mod roles;
mod route;
mod session;
mod sessions;
mod sign;
mod system;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError};

use super::request_id::RequestId;
use crate::net::Peer;

use api::Call;
pub(super) use api::VaultApi;
pub use api::{TokenKeyError, VaultState};
pub use config::{Mount, Presents, RawMount, RawVault, VaultConfig};
use envelope::Answer;
use error::VaultError;
use fields::Fields;
use route::{PkiCall, Route, Verb, path_in};

const NAMESPACE: &str = "x-vault-namespace";

/// The routes of the API: one handler, because a mount's name may be anything.
pub(super) fn router(api: VaultApi) -> Router {
    Router::new().fallback(handle).with_state(api)
}

async fn handle(State(api): State<VaultApi>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let id = RequestId::new(&parts.headers);
    let peer = parts.extensions.get::<Peer>().cloned();
    let body = match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(incomplete(&error)),
    };
    let outcome = match body {
        Ok(body) => api.answer(&parts, &body, &id, peer.as_ref()).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(answer) => answer.into_response(&id),
        Err(error) => {
            let name = format!("vault {} {}", parts.method, parts.uri.path());
            let name: String = name.chars().take(128).collect();
            api.authenticator
                .log_refusal(&name, &id, peer.as_ref(), &error);
            error.answer(&id, is_login(parts.uri.path()))
        }
    }
}

fn is_login(path: &str) -> bool {
    path.contains("/auth/") && path.ends_with("/login")
}

fn incomplete(error: &axum::Error) -> VaultError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(each) = cause {
        let too_large = each
            .downcast_ref::<tonic::Status>()
            .is_some_and(|status| status.code() == tonic::Code::OutOfRange);
        if each.is::<LengthLimitError>() || too_large {
            return VaultError::TooLarge;
        }
        cause = each.source();
    }
    VaultError::Incomplete(error.to_string())
}

impl VaultApi {
    async fn answer(
        &self,
        parts: &Parts,
        body: &Bytes,
        id: &RequestId,
        peer: Option<&Peer>,
    ) -> Result<Answer, VaultError> {
        let namespace = match parts.headers.get(NAMESPACE) {
            None => "",
            Some(value) => value
                .to_str()
                .map_err(|_| VaultError::invalid("X-Vault-Namespace is not ASCII"))?,
        };
        let (namespace, path) = path_in(self.config(), &parts.uri, namespace)?;
        let verb = Verb::of(&parts.method, parts.uri.query());
        let route = Route::parse(self.config(), &namespace, path, verb)?;
        let call = Call {
            id,
            peer,
            namespace: &namespace,
        };
        if route.is_open() {
            return match route {
                Route::Health => Ok(self.health(&parts.uri)),
                Route::SealStatus => Ok(self.seal_status()),
                Route::Login { method } => self.login(method, &Fields::parse(body)?, &call).await,
                Route::Pki(mount, pki) => self.public(mount, pki),
                _ => Err(VaultError::UnsupportedPath),
            };
        }
        let holder = self.holder(&parts.headers, &call).await?;
        let fields = Fields::parse(body)?;
        match route {
            Route::OwnToken(what) => self.own_token(what, &holder, &fields, &call),
            Route::ListMounts => Ok(self.list_mounts(&namespace, &holder)),
            Route::Mount { name, call } => self.mount(&namespace, name, call, &holder),
            Route::Pki(mount, pki) => {
                self.admit(holder.caller(), mount)?;
                match pki {
                    PkiCall::ListRoles => self.list_roles(mount),
                    PkiCall::Role(role) => self.role(mount, role),
                    PkiCall::WriteRole(role) => self.write_role(mount, role, &fields),
                    PkiCall::DeleteRole(_) => Ok(Answer::Nothing),
                    PkiCall::Sign(role) => {
                        self.sign_leaf(mount, role, &holder, &fields, &call).await
                    }
                    PkiCall::GenerateIntermediate => {
                        self.generate_intermediate(mount, &holder, &call).await
                    }
                    PkiCall::SignIntermediate => {
                        self.sign_intermediate(mount, &holder, &fields, &call).await
                    }
                    PkiCall::SetSigned => self.set_signed(mount, &fields),
                    other => match refusal(other) {
                        Some(why) => Err(VaultError::invalid(why)),
                        None => self.ca(mount, other, &holder),
                    },
                }
            }
            Route::Health | Route::SealStatus | Route::Login { .. } => {
                Err(VaultError::UnsupportedPath)
            }
        }
    }
}

/// What Vault does and this server does not, with what to do instead.
fn refusal(call: PkiCall<'_>) -> Option<&'static str> {
    match call {
        PkiCall::GenerateRoot => Some(
            "a mount's CA is made by this server's operator: `rootbridge ca init`, or `ca request` and \
             `ca import`",
        ),
        PkiCall::DeleteRoot => {
            Some("keys and certificates of CAs are removed by this server's operator only")
        }
        PkiCall::SignSelfIssued => Some(
            "roots are not cross-signed here: with Consul, set ForceWithoutCrossSigning in the new CA's \
             configuration",
        ),
        PkiCall::IssueWithKey => {
            Some("no private key is made for a caller here: make one, and send a CSR to sign/ROLE")
        }
        PkiCall::Revoke => Some("certificates are not revoked by this API: let them expire"),
        _ => None,
    }
}
