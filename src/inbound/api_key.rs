//! The `x-api-key` header, as JumpCloud's generated clients send it.

use http::HeaderMap;

use super::{Attempt, Unidentified, Via};
use crate::secret::Secret;

/// The token in `x-api-key`. An empty one counts as absent.
pub(super) fn attempt(headers: &HeaderMap) -> Result<Option<Attempt>, Unidentified> {
    let mut lines = headers.get_all("x-api-key").iter().filter(|line| !line.is_empty());
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Unidentified::Duplicate);
    }
    Ok(Some(Attempt::Token(Via::ApiKey, Secret::new(line.as_bytes().to_vec()))))
}
