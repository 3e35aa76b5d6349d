//! The context of one call that is forwarded.

use std::cell::Cell;

use http::Method;

use super::snapshot::Snapshot;
use crate::audit::{Entry, Peer};
use crate::code::{Code, Failure};
use crate::custody::Unsealed;
use crate::route::Route;
use crate::signature::Message;
use crate::transport::{Destination, Dropped};
use crate::upstream::Upstream;

/// The context of one call, besides its entry and its body.
pub(super) struct Exchange<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) upstream: &'s Upstream,
    pub(super) destination: &'s Destination,
    pub(super) route: &'s Route,
    pub(super) message: Message<'s>,
    pub(super) dropped: &'s Dropped,
    pub(super) arrival: &'s Peer,
    /// Counts the logins that were begun for the call.
    pub(super) logins: Cell<u32>,
}

impl<'s> Exchange<'s> {
    /// Adds to the failure why the call is not repeated after its token was rejected.
    pub(super) fn not_repeated(&self, failure: Failure) -> Failure {
        if failure.code != Code::UpstreamAuth {
            return failure;
        }
        let why = if self.upstream.repeat_after_401 {
            "its body cannot be read again"
        } else {
            "some of it may have been done"
        };
        let reason = format!("{failure}; the login has ended, and the call is not repeated: {why}");
        Failure { reason, ..failure }
    }

    /// Unseals the call's credential for the endpoint that receives it.
    pub(super) fn unseal<'e>(&self, entry: &'e Entry) -> Result<Unsealed<'e>, Failure>
    where
        's: 'e,
    {
        let origin = &self.upstream.scheme.token_endpoint().unwrap_or(&self.destination.endpoint).origin;
        self.snapshot.custody.unseal(entry, origin).map_err(Failure::internal)
    }

    /// Returns whether the call may be sent twice, at least after a token refresh.
    pub(super) fn is_repeatable(&self, entry: &Entry) -> bool {
        is_safe(entry) || (self.upstream.repeat_after_401 && self.upstream.scheme.token_source().is_some())
    }
}

/// Returns whether the method is safe, so that the call may be sent twice.
pub(super) fn is_safe(entry: &Entry) -> bool {
    matches!(entry.permit().action().method, Method::GET | Method::HEAD)
}
