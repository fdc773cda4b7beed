//! Reads an issuer's key set once, for `check`.

use super::config::JwtConfig;
use super::jwks::KeySet;
use crate::error_chain::error_chain;

/// How many keys an issuer's key set holds, read as its verifier reads it.
///
/// # Errors
/// Why it cannot be read; for people.
pub async fn read_keys(issuer: &JwtConfig) -> Result<usize, String> {
    let source = &issuer.keys().source;
    let bytes = source.read().await.map_err(|error| error_chain(&error))?;
    let keys = KeySet::parse(&bytes).map_err(|error| error_chain(&error))?;
    Ok(keys.len())
}
