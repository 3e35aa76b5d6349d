//! A credential as the request carries it.

use super::credential_error::CredentialError;
use crate::secret::Secret;

/// The kind of credential by which a consumer was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A token in `Authorization: Bearer`.
    Bearer,
    /// A token in `Authorization: Token`.
    Token,
    /// A token as the password of `Authorization: Basic`.
    Basic,
    /// A token in `x-api-key`.
    ApiKey,
    /// `Authorization: Signature` with an access key that claviger issued.
    AccessKey,
}

impl Via {
    /// The name of the kind, as the trail records it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Token => "token",
            Self::Basic => "basic",
            Self::ApiKey => "x-api-key",
            Self::AccessKey => "access-key",
        }
    }
}

/// The reason why authentication failed.
#[derive(Debug)]
pub enum AuthError {
    /// No credential was sent.
    Missing,
    /// More than one credential was sent.
    Duplicate,
    /// The credential proves no consumer. Holds what was sent, for its fingerprint.
    Rejected(CredentialError, Secret),
}

/// A credential as the request carries it.
pub(super) enum Presented<'h> {
    /// A token, in a form that claviger reads.
    Token(Via, SentToken<'h>),
    /// The parameters after `Signature`.
    Signature(Secret),
    /// Any other form, which is refused whatever it contains.
    Unreadable(Secret),
}

/// A token as the request carries it.
pub(super) enum SentToken<'h> {
    /// The bytes as they stand in the header.
    Plain(&'h [u8]),
    Decoded(Secret),
}

impl SentToken<'_> {
    pub(super) fn expose(&self) -> &[u8] {
        match self {
            Self::Plain(token) => token,
            Self::Decoded(token) => token.expose(),
        }
    }
}

impl From<SentToken<'_>> for Secret {
    fn from(sent: SentToken<'_>) -> Self {
        match sent {
            SentToken::Plain(token) => Self::new(token.to_vec()),
            SentToken::Decoded(token) => token,
        }
    }
}
