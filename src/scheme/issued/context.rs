//! The context in which a call fetches a token, and the request for it.

use std::cell::Cell;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::cache::TokenSlot;
use crate::audit::Entry;
use crate::clock::Clock;
use crate::custody::Unsealed;
use crate::transport::{Destination, Endpoint, Signed};

/// The context in which a call fetches a token.
pub struct LoginContext<'e, 's> {
    /// The recorded call.
    pub entry: &'e Entry,
    /// The call's credential.
    pub credential: &'s Unsealed<'e>,
    /// The token slot of this credential; `None` if its scheme uses no tokens.
    pub slot: Option<&'s Arc<TokenSlot>>,
    /// The upstream's destination.
    pub destination: &'s Destination,
    /// The alternative destination, used if the first cannot be reached.
    pub alternative: Option<&'s Destination>,
    /// The wall clock.
    pub clock: &'s Arc<dyn Clock>,
    /// Counts the logins that were begun.
    pub logins: &'s Cell<u32>,
}

/// A request for a token, ready to be sent.
pub(crate) struct LoginRequest<'e> {
    pub(crate) to: Endpoint,
    pub(crate) signed: Signed<'e>,
    /// The secret that an excerpt of the response must not repeat.
    pub(crate) secret: Zeroizing<Vec<u8>>,
}
