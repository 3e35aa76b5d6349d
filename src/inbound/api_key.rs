//! The `x-api-key` header, as JumpCloud's generated clients send it.

use http::{HeaderMap, HeaderName};

use super::presented::{AuthError, Presented, SentToken, Via};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Reads the token in `x-api-key`. An empty header counts as absent.
pub(super) fn attempt(headers: &HeaderMap) -> Result<Option<Presented<'_>>, AuthError> {
    let mut lines = headers.get_all(X_API_KEY).iter().filter(|line| !line.is_empty());
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(AuthError::Duplicate);
    }
    Ok(Some(Presented::Token(Via::ApiKey, SentToken::Plain(line.as_bytes()))))
}
