//! The failures of logins, and what each proves about the credential.

use crate::code::{Code, Failure};

/// The number of consecutive rejected logins that claviger risks before it waits.
const MAX_REJECTIONS: u32 = 2;

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoginError {
    pub(crate) failure: Failure,
    pub(crate) verdict: Verdict,
}

/// What a failed login proves about the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: there was no response, or the upstream is unhealthy.
    Unheard,
    /// Nothing: the response was not about the credential (404, 429).
    Unjudged,
    /// The upstream rejects the credential.
    Refused,
    /// Only a person can help, with this advice. Another attempt would only count against the account.
    Barred(&'static str),
}

impl LoginError {
    /// Returns whether no connection could be made, so that nothing was sent.
    pub(crate) fn is_of_connecting(&self) -> bool {
        matches!(self.failure.code, Code::UpstreamUnreachable | Code::UpstreamDns | Code::UpstreamTls)
    }

    /// Creates the error of a rejected credential.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { failure: Failure::new(Code::UpstreamAuth, reason), verdict: Verdict::Refused }
    }

    /// Creates the error of an unexpected response to a login.
    pub(crate) fn possible(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unjudged, ..Self::refused(reason) }
    }

    /// Returns whether the failure counts against the account.
    pub(crate) fn counts(&self) -> bool {
        self.max_failures().is_some()
    }

    /// Returns the number of such failures in a row that claviger risks. Returns `None` if they do not count
    /// against the account.
    pub(crate) fn max_failures(&self) -> Option<u32> {
        match self.verdict {
            Verdict::Unheard | Verdict::Unjudged => None,
            Verdict::Refused => Some(MAX_REJECTIONS),
            Verdict::Barred(_) => Some(1),
        }
    }

    /// Returns what a person can do about the failure.
    pub(crate) fn advice(&self) -> &'static str {
        match self.verdict {
            Verdict::Barred(advice) => advice,
            Verdict::Unheard | Verdict::Unjudged | Verdict::Refused => "correct the name or the secret",
        }
    }
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        let failure = Failure::new(failure.code, format!("the login: {}", failure.reason));
        Self { failure, verdict: Verdict::Unheard }
    }
}

/// How certainly a response rejects a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The token is rejected: a 401.
    Definite,
    /// The token may be rejected; the response can have other reasons.
    Possible,
}
