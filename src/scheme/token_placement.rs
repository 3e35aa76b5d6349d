//! The places in a request that carry a secret or a token.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use zeroize::Zeroizing;

use crate::code::Failure;
use crate::custody::Unsealed;
use crate::secret::Secret;
use crate::transport::{Outbound, Signed};

/// The place of a secret in a request.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenPlacement {
    /// The header `Authorization: Bearer` (RFC 6750).
    Bearer,
    /// The header `Authorization: Token`, as used by Django REST framework and `JumpServer`'s private tokens.
    Token,
    /// A header that carries only the secret, as in `x-api-key: …`.
    Header(HeaderName),
    /// The cookie of this name, the only one in the request.
    Cookie(String),
}

impl TokenPlacement {
    /// Adds `secret` to a request, and replaces a value that the consumer sent in the same header.
    pub(super) fn attach<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
        secret: &Secret,
    ) -> Result<Signed<'e>, Failure> {
        let (name, prefix) = self.parts();
        Ok(outbound.sign(credential, name, sensitive_header(&prefix, secret)?))
    }

    /// Returns the header, and the text before the secret in its value.
    fn parts(&self) -> (HeaderName, Cow<'static, str>) {
        match self {
            Self::Bearer => (AUTHORIZATION, "Bearer ".into()),
            Self::Token => (AUTHORIZATION, "Token ".into()),
            Self::Header(name) => (name.clone(), "".into()),
            Self::Cookie(name) => (COOKIE, format!("{name}=").into()),
        }
    }

    /// Returns the header that carries the secret.
    pub(super) fn header(&self) -> HeaderName {
        self.parts().0
    }

    /// Describes the header field, with `…` in place of the secret.
    pub(super) fn describe(&self) -> String {
        let (name, prefix) = self.parts();
        format!("{name}: {prefix}…")
    }

    /// Returns the placement's name in the configuration file.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Token => "token",
            Self::Header(_) => "header",
            Self::Cookie(_) => "cookie",
        }
    }
}

/// Builds a header value marked sensitive, so that no header dump shows it. Its bytes are zeroised when the last
/// reference is dropped.
pub(super) fn sensitive_header(prefix: &str, secret: &Secret) -> Result<HeaderValue, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.expose().len()));
    bytes.extend_from_slice(prefix.as_bytes());
    bytes.extend_from_slice(secret.expose());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).map_err(Failure::internal)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_and_never_printed() {
        let value = sensitive_header("Token ", &Secret::new(b"fake-hunter2".to_vec())).unwrap();
        assert_eq!(value.as_bytes(), b"Token fake-hunter2");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("hunter2"));
        assert!(sensitive_header("", &Secret::new(b"a\r\nb".to_vec())).is_err());
    }
}
