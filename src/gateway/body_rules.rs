//! Decisions that depend on the request body. The gateway reads as much of the body as rules may inspect.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};

use super::decide::{Granted, PendingAdmission, Refusal};
use super::limits::Limits;
use super::snapshot::Snapshot;
use crate::audit::Meter;
use crate::audit::RefusalFields;
use crate::headers::{connection_tokens, is_identity, is_strict_json};
use crate::inbound::Identity;
use crate::policy::{BodyMembers, BodyUnreadable};
use crate::transport::{BodyLimits, IncomingBody};

/// Reads the beginning of the body and decides on the call. Returns the body together with the part that was read.
pub(super) async fn decide<'s>(
    snapshot: &'s Snapshot,
    pending: PendingAdmission<'s, Identity>,
    (headers, body, meter): (&HeaderMap, IncomingBody, Meter),
    now: SystemTime,
) -> (IncomingBody, Result<Granted<'s, Identity>, Box<Refusal>>) {
    if body.is_over() {
        return (body, pending.with(BodyMembers::none()).decide(snapshot, now));
    }
    let (body, beginning) = body.begin(snapshot.limits.max_judged_body, limits(snapshot), meter).await;
    let decided = match beginning {
        Err(failure) => {
            let known = RefusalFields { detail: Some(failure.reason), ..pending.known(snapshot) };
            Err(Refusal::new(failure.code, known))
        }
        Ok(beginning) => pending.with(members(headers, beginning.as_deref())).decide(snapshot, now),
    };
    (body, decided)
}

/// Returns the members that rules see in a body with these headers. `body` is `None` if it is
/// longer than `max_judged_body`.
pub(super) fn members(headers: &HeaderMap, body: Option<&[u8]>) -> BodyMembers {
    match (unreadable(headers), body) {
        (_, Some([])) => BodyMembers::none(),
        (Some(why), _) => BodyMembers::unreadable(why),
        (None, None) => BodyMembers::unreadable(BodyUnreadable::Long),
        (None, Some(body)) => BodyMembers::read(body),
    }
}

/// Returns the limits that apply to every request body.
pub(super) fn limits(snapshot: &Snapshot) -> BodyLimits {
    let Limits { max_body: most, body_timeout: patience, body_total_timeout: total, .. } = snapshot.limits;
    BodyLimits { most, patience, total }
}

/// Returns why a body with these headers is not parsed: another parser might interpret it differently.
fn unreadable(headers: &HeaderMap) -> Option<BodyUnreadable> {
    if !is_identity(headers) {
        return Some(BodyUnreadable::Coding);
    }
    // The gateway removes headers that `Connection` lists, so the upstream would have to guess the content type.
    let is_removed = |name: HeaderName| {
        connection_tokens(headers).any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    let is_typed = is_strict_json(headers) && !is_removed(CONTENT_TYPE) && !is_removed(CONTENT_ENCODING);
    (!is_typed).then_some(BodyUnreadable::Type)
}
