//! `Authorization: Bearer …` (RFC 6750).

use http::header::AUTHORIZATION;

use super::{Unsigned, carrying};
use crate::custody::Unsealed;
use crate::transport::{Outbound, Signed};

/// What stands before the secret.
pub(super) const BEFORE: &str = "Bearer ";

pub(super) fn apply<'e>(outbound: Outbound<'e>, credential: &Unsealed<'e>) -> Result<Signed<'e>, Unsigned> {
    Ok(outbound.sign(credential, AUTHORIZATION, carrying(BEFORE, credential)?))
}
