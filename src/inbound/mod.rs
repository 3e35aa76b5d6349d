//! Authenticates the caller: one credential of the request → a proven [`Identity`].
//!
//! A credential that is tried and fails ends the search: no other kind of credential is tried. Two credentials at once
//! are refused, even if one of them is valid.

mod access_key;
mod api_key;
mod authorization;
mod caller_credential;
mod credential_error;
mod directory;
mod presented;
mod replay;
pub mod token;

pub use access_key::{AccessKey, Proven};
pub use authorization::is_signature;
pub use caller_credential::CallerCredential;
pub use credential_error::{CredentialError, Ended};
pub use directory::{Consumer, Directory, TokenRecord};
pub use presented::{AuthError, Via};
pub use replay::{Nonce, ReplayCache, ReplayError};

use std::time::SystemTime;

use crate::ids::ConsumerId;
use crate::name::Name;
use crate::signature::Message;
use presented::Presented;

/// An authenticated consumer. Only [`identify`] makes one.
///
/// ```compile_fail,E0451
/// use claviger::inbound::{Identity, Via};
/// fn forge(name: claviger::name::Name) -> Identity {
///     Identity { consumer: claviger::ids::ConsumerId::new(0), name, via: Via::Bearer, stored: false, proven: None }
/// }
/// ```
/// ```
/// use claviger::inbound::{Identity, Via};
/// fn read(identity: &Identity) -> (claviger::ids::ConsumerId, Via) {
///     (identity.consumer(), identity.via())
/// }
/// ```
#[derive(Debug)]
pub struct Identity {
    consumer: ConsumerId,
    name: Name,
    via: Via,
    stored: bool,
    /// Boxed, because few identities have it, and an identity is moved several times.
    proven: Option<Box<Proven>>,
}

impl Identity {
    /// The consumer's id in the directory.
    #[must_use]
    pub fn consumer(&self) -> ConsumerId {
        self.consumer
    }

    /// The name of the consumer.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether the consumer, or the token that it used, comes from the store.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// The kind of credential that the consumer used.
    #[must_use]
    pub fn via(&self) -> Via {
        self.via
    }

    /// The details of the signature, if the consumer signed the request.
    #[must_use]
    pub fn proven(&self) -> Option<&Proven> {
        self.proven.as_deref()
    }
}

/// Authenticates the caller of a request.
///
/// # Errors
/// [`AuthError`]. It never reveals how close a wrong token was to a valid one.
pub fn identify(message: Message<'_>, directory: &Directory, now: SystemTime) -> Result<Identity, AuthError> {
    let attempt = match (authorization::attempt(message.headers)?, api_key::attempt(message.headers)?) {
        (None, None) => return Err(AuthError::Missing),
        (Some(_), Some(_)) => return Err(AuthError::Duplicate),
        (Some(attempt), None) | (None, Some(attempt)) => attempt,
    };
    let (via, token) = match attempt {
        Presented::Token(via, token) => (via, token),
        Presented::Unreadable(sent) => return Err(AuthError::Rejected(CredentialError::Unknown, sent)),
        Presented::Signature(sent) => {
            return match directory.prove(&sent, message, now) {
                Ok((consumer, Consumer { name, .. }, proven)) => {
                    let (name, via, proven) = (*name, Via::AccessKey, Some(Box::new(proven)));
                    Ok(Identity { consumer, name, via, stored: true, proven })
                }
                Err(error) => Err(AuthError::Rejected(error, sent)),
            };
        }
    };
    match directory.find(token.expose(), now) {
        Ok((consumer, name, stored)) => Ok(Identity { consumer, name: *name, via, stored, proven: None }),
        Err(error) => Err(AuthError::Rejected(error, token.into())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue};

    const TOKEN: &str = "clv_not_a_real_token";

    fn directory() -> Directory {
        let consumer = Consumer::new(Name::parse("tool").unwrap());
        let end = |token: &str, expires, dead| TokenRecord {
            digest: Directory::digest(token.as_bytes()),
            id: None,
            expires,
            dead,
        };
        let tokens = vec![
            Directory::digest(TOKEN.as_bytes()).into(),
            end("clv_ended", Some(SystemTime::UNIX_EPOCH), None),
            end("clv_revoked", Some(SystemTime::UNIX_EPOCH), Some(Ended::Revoked)),
            end("clv_disabled", None, Some(Ended::Disabled)),
        ];
        Directory::new(vec![(consumer, tokens)]).unwrap()
    }

    fn outcome(lines: &[(&str, &str)]) -> &'static str {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let message = Message { method: "GET", target: b"/", headers: &headers };
        match identify(message, &directory(), SystemTime::UNIX_EPOCH) {
            Ok(identity) => identity.via().as_str(),
            Err(AuthError::Missing) => "missing",
            Err(AuthError::Duplicate) => "duplicate",
            Err(AuthError::Rejected(CredentialError::Unknown, _)) => "unknown",
            Err(AuthError::Rejected(CredentialError::Ended(Ended::Expired), _)) => "expired",
            Err(AuthError::Rejected(CredentialError::Ended(Ended::Revoked), _)) => "revoked",
            Err(AuthError::Rejected(CredentialError::Ended(Ended::Disabled), _)) => "disabled",
            Err(AuthError::Rejected(CredentialError::BadSignature(reason, _), _)) => reason,
        }
    }

    #[test]
    fn one_token_in_each_spelling() {
        assert_eq!(outcome(&[("authorization", "Bearer clv_not_a_real_token")]), "bearer");
        assert_eq!(outcome(&[("authorization", "bEARER   clv_not_a_real_token ")]), "bearer");
        assert_eq!(outcome(&[("authorization", "TOKEN clv_not_a_real_token")]), "token");
        assert_eq!(outcome(&[("x-api-key", TOKEN)]), "x-api-key");
        // any:clv_not_a_real_token
        assert_eq!(outcome(&[("authorization", "Basic YW55OmNsdl9ub3RfYV9yZWFsX3Rva2Vu")]), "basic");
    }

    #[test]
    fn a_failed_attempt_never_falls_through() {
        assert_eq!(outcome(&[]), "missing");
        assert_eq!(outcome(&[("x-api-key", "")]), "missing");
        for wrong in [
            "Bearer nope",
            "Bearer",
            "Digest x",
            "clv_not_a_real_token",
            "Basic !!!",
            "",
            "Bearer clv_not_a_real_tokeN",
            "Bearer clv_not_a_real_token, Bearer x",
            "Basic bm9jb2xvbg==",
        ] {
            assert_eq!(outcome(&[("authorization", wrong)]), "unknown", "{wrong}");
            assert_eq!(outcome(&[("authorization", wrong), ("x-api-key", TOKEN)]), "duplicate", "{wrong}");
        }
        assert_eq!(outcome(&[("x-api-key", "nope")]), "unknown");
    }

    #[test]
    fn a_token_that_was_ours_says_why_it_is_not_good_any_more() {
        for (token, why) in [("ended", "expired"), ("revoked", "revoked"), ("disabled", "disabled")] {
            assert_eq!(outcome(&[("x-api-key", &format!("clv_{token}"))]), why);
        }
    }

    #[test]
    fn two_at_once_are_refused_even_when_equal() {
        let good = "Bearer clv_not_a_real_token";
        assert_eq!(outcome(&[("authorization", good), ("authorization", good)]), "duplicate");
        assert_eq!(outcome(&[("authorization", good), ("x-api-key", TOKEN)]), "duplicate");
        assert_eq!(outcome(&[("x-api-key", TOKEN), ("x-api-key", TOKEN)]), "duplicate");
        assert_eq!(outcome(&[("authorization", good), ("x-api-key", "")]), "bearer");
    }
}
