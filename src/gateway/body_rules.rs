//! Decisions that depend on the request body. The gateway reads as much of the body as rules may inspect.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};

use super::Snapshot;
use super::admit::{Admitted, admit_with};
use super::decide::{PendingAdmission, Refusal};
use super::limits::Limits;
use crate::audit::{Meter, RefusalFields};
use crate::inbound::Identity;
use crate::policy::{BodyMembers, BodyUnreadable};
use crate::transport::{BodyLimits, IncomingBody};

/// Reads the beginning of the body and decides on the call. Returns the body together with the part that was read.
pub(super) async fn decide<'s>(
    snapshot: &'s Snapshot,
    approach: PendingAdmission<'s, Identity>,
    (headers, inflow, meter): (&HeaderMap, IncomingBody, Meter),
    now: SystemTime,
) -> (IncomingBody, Result<Admitted<'s>, Box<Refusal>>) {
    if inflow.is_over() {
        return (inflow, admit_with(snapshot, approach, BodyMembers::none(), now));
    }
    let (inflow, read) = inflow.begin(snapshot.limits.max_judged_body, limits(snapshot), meter).await;
    match read {
        Err(fault) => {
            let known = RefusalFields { detail: Some(fault.reason), ..approach.known(snapshot) };
            (inflow, Err(Refusal::new(fault.code, known)))
        }
        Ok(body) => {
            let members = members(headers, body.as_deref());
            (inflow, admit_with(snapshot, approach, members, now))
        }
    }
}

/// Returns the members that rules see in a body with these headers. `body` is `None` if it is longer than
/// `max_judged_body`.
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
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Some(BodyUnreadable::Coding);
    }
    // The gateway removes headers that `Connection` lists, so the upstream would have to guess the content type.
    let mut taken =
        headers.get_all(CONNECTION).iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    if taken.any(|name| {
        [CONTENT_TYPE, CONTENT_ENCODING]
            .iter()
            .any(|own| name.trim_ascii().eq_ignore_ascii_case(own.as_str().as_bytes()))
    }) {
        return Some(BodyUnreadable::Type);
    }
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return Some(BodyUnreadable::Type) };
    (!is_json(kind.as_bytes())).then_some(BodyUnreadable::Type)
}

/// Returns whether a content type is `application/json`, with at most the charset parameter `utf-8`. Some servers
/// interpret every other form (`+json`, form encodings, several types in one header) differently.
fn is_json(kind: &[u8]) -> bool {
    let mut parts = kind.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is = |part: Option<&[u8]>, wanted: &[&[u8]]| {
        part.is_some_and(|part| wanted.iter().any(|wanted| part.eq_ignore_ascii_case(wanted)))
    };
    is(parts.next(), &[b"application/json"])
        && parts.next().is_none_or(|charset| is(Some(charset), &[b"charset=utf-8", b"charset=\"utf-8\""]))
        && parts.next().is_none()
}
