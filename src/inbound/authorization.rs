//! The `Authorization` header: `Bearer t`, `Token t`, `t` as the password of `Basic`, and `Signature …`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::presented::{AuthError, Presented, SentToken, Via};
use crate::secret::Secret;

/// Reads the credential in `Authorization`, if that header is present.
pub(super) fn attempt(headers: &HeaderMap) -> Result<Option<Presented<'_>>, AuthError> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(AuthError::Duplicate);
    }
    let line = line.as_bytes();
    let (scheme, sent) = split(line);
    // The most frequent scheme comes first.
    let token = if scheme.eq_ignore_ascii_case(b"bearer") {
        Some((Via::Bearer, SentToken::Plain(sent)))
    } else if scheme.eq_ignore_ascii_case(b"signature") {
        return Ok(Some(Presented::Signature(Secret::new(sent.to_vec()))));
    } else if scheme.eq_ignore_ascii_case(b"token") {
        Some((Via::Token, SentToken::Plain(sent)))
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        password(sent).map(|password| (Via::Basic, SentToken::Decoded(password)))
    } else {
        None
    };
    Ok(Some(match token {
        Some((via, token)) => Presented::Token(via, token),
        None => Presented::Unreadable(Secret::new(line.to_vec())),
    }))
}

/// The token in `Authorization`, if [`attempt`] has found an unencoded one.
pub(super) fn token(headers: &HeaderMap) -> Option<SentToken<'_>> {
    headers.get(AUTHORIZATION).map(|line| SentToken::Plain(split(line.as_bytes()).1))
}

/// Splits a value into the authentication scheme and the rest.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (scheme, rest) = line.split_at_checked(end).unwrap_or((line, b""));
    (scheme, rest.trim_ascii())
}

/// Whether the value of `Authorization` claims to be a signature.
#[must_use]
pub fn is_signature(headers: &HeaderMap) -> bool {
    let scheme =
        headers.get(AUTHORIZATION).and_then(|line| line.as_bytes().split(|byte| *byte == b' ').next());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"signature"))
}

/// The password of Basic credentials (RFC 7617); the user name before it is ignored.
fn password(sent: &[u8]) -> Option<Secret> {
    let decoded = Secret::new(STANDARD.decode(sent).ok()?);
    let colon = decoded.expose().iter().position(|byte| *byte == b':')?;
    decoded.expose().get(colon + 1..).map(|password| Secret::new(password.to_vec()))
}
