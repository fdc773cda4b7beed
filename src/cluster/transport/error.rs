//! Why there is no connection.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper_util::client::legacy;

use crate::error_chain::error_chain;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Address(String),
    #[error("TLS with the API server: {0}")]
    Tls(io::Error),
    #[error("the proxy {proxy}: {why}")]
    Proxy { proxy: String, why: String },
    #[error("no connection within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Our own cause where there is one. The library's wrapping says nothing to an operator.
pub(super) fn text(error: &legacy::Error) -> String {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(at) = cause {
        if let Some(found) = at.downcast_ref::<ConnectError>() {
            return found.to_string();
        }
        cause = at.source();
    }
    error
        .source()
        .map_or_else(|| error.to_string(), error_chain)
}
