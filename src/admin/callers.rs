//! Who may use what is not public.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};

use super::state::Admin;
use crate::authn::{AuthnError, bearer};

/// Why a call is not made.
#[derive(Debug, thiserror::Error)]
pub enum NotAllowed {
    #[error(transparent)]
    Unauthenticated(#[from] AuthnError),
    #[error("{0} may not use the API admin (listeners.NAME.admins)")]
    Unauthorized(String),
}

/// Authenticates callers of the operators' API, and knows who may use it.
pub trait AdminCallers: Send + Sync + fmt::Debug {
    /// The caller's name, for what it does.
    ///
    /// # Errors
    /// It is nobody who may.
    fn authenticate<'a>(
        &'a self,
        headers: &'a HeaderMap,
        extensions: &'a Extensions,
    ) -> BoxFuture<'a, Result<String, NotAllowed>>;
}

/// The operators of `[admin]`.
#[derive(Debug)]
pub struct PortOperators(pub Arc<Admin>);

impl AdminCallers for PortOperators {
    fn authenticate<'a>(
        &'a self,
        headers: &'a HeaderMap,
        _: &'a Extensions,
    ) -> BoxFuture<'a, Result<String, NotAllowed>> {
        async move { Ok(operator(&self.0, headers).await?) }.boxed()
    }
}

async fn operator(admin: &Admin, headers: &HeaderMap) -> Result<String, AuthnError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let header = values.next().ok_or(AuthnError::Missing)?;
    if values.next().is_some() {
        return Err(AuthnError::rejected("more than one authorization header"));
    }
    let text = header
        .to_str()
        .map_err(|_| AuthnError::rejected("authorization is not ASCII"))?;
    let operators = admin.operators.load_full();
    let caller = operators
        .authenticate(bearer(text)?, &admin.operator_names)
        .await?;
    Ok(caller.identity.to_string())
}
