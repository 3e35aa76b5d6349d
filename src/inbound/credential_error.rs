//! Why a credential proves no consumer.

use crate::signature::Unreadable;

/// The reason why a token that claviger once accepted is invalid. It is for the trail alone: the caller gets the same
/// answer as for any wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The token has expired.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The consumer is disabled.
    Disabled,
}

impl Ended {
    /// The reason as the trail records it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired credential",
            Self::Revoked => "revoked credential",
            Self::Disabled => "disabled consumer",
        }
    }
}

/// The reason why a credential does not authenticate a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialError {
    /// The credential is not known to claviger.
    Unknown,
    /// The credential was issued by claviger and is not valid any more.
    Ended(Ended),
    /// A signature does not prove a consumer. Holds the reason (one of a few fixed texts), and whether
    /// [`Directory::explain`](super::Directory::explain) may find more.
    BadSignature(&'static str, bool),
}

impl CredentialError {
    /// The reason as the trail records it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown credential",
            Self::Ended(ended) => ended.as_str(),
            Self::BadSignature(reason, _) => reason,
        }
    }
}

impl From<Unreadable> for CredentialError {
    fn from(why: Unreadable) -> Self {
        Self::BadSignature(why.as_str(), false)
    }
}
