//! `Authorization: Bearer …` (RFC 6750).

use http::header::AUTHORIZATION;

use super::{SignError, secret_header};
use crate::custody::Unsealed;
use crate::transport::{Outbound, Signed};

/// The text before the secret.
pub(super) const BEFORE: &str = "Bearer ";

pub(super) fn apply<'e>(outbound: Outbound<'e>, credential: &Unsealed<'e>) -> Result<Signed<'e>, SignError> {
    Ok(outbound.sign(credential, AUTHORIZATION, secret_header(BEFORE, credential)?))
}
