//! A call that is decided on by its body, of which as much is read as rules may look at.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};

use super::Snapshot;
use super::admit::{Admitted, admit_with};
use super::decide::{Approach, Refusal};
use super::limits::Limits;
use crate::audit::{Known, Meter};
use crate::inbound::Identity;
use crate::policy::{Members, Unread};
use crate::transport::{BodyLimits, Inflow};

/// Reads the beginning of the body, and decides. The body is handed on with what was read of it.
pub(super) async fn decide<'s>(
    snapshot: &'s Snapshot,
    approach: Approach<'s, Identity>,
    (headers, inflow, meter): (&HeaderMap, Inflow, Meter),
    now: SystemTime,
) -> (Inflow, Result<Admitted<'s>, Box<Refusal>>) {
    if inflow.is_over() {
        return (inflow, admit_with(snapshot, approach, Members::none(), now));
    }
    let (inflow, read) = inflow.begin(snapshot.limits.max_judged_body, limits(snapshot), meter).await;
    match read {
        Err(fault) => {
            let known = Known { detail: Some(fault.reason), ..approach.known(snapshot) };
            (inflow, Err(Refusal::new(fault.code, known)))
        }
        Ok(body) => {
            let members = members(headers, body.as_deref());
            (inflow, admit_with(snapshot, approach, members, now))
        }
    }
}

/// What rules see of a body with such headers; `None` where it is too long to be judged.
pub(super) fn members(headers: &HeaderMap, body: Option<&[u8]>) -> Members {
    match (unreadable(headers), body) {
        (Some(why), _) => Members::unread(why),
        (None, None) => Members::unread(Unread::Long),
        (None, Some([])) => Members::none(),
        (None, Some(body)) => Members::read(body),
    }
}

/// The limits of every body.
pub(super) fn limits(snapshot: &Snapshot) -> BodyLimits {
    let Limits { max_body: most, body_timeout: patience, body_total: total, .. } = snapshot.limits;
    BodyLimits { most, patience, total }
}

/// Why a body with such headers is not looked into: another reader might see something else in it.
fn unreadable(headers: &HeaderMap) -> Option<Unread> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Some(Unread::Coding);
    }
    // What `Connection` names is taken off, and the next reader would have to guess.
    let mut taken =
        headers.get_all(CONNECTION).iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    if taken.any(|name| {
        [CONTENT_TYPE, CONTENT_ENCODING]
            .iter()
            .any(|own| name.trim_ascii().eq_ignore_ascii_case(own.as_str().as_bytes()))
    }) {
        return Some(Unread::Type);
    }
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next().and_then(|kind| kind.to_str().ok()), kinds.next()) else {
        return Some(Unread::Type);
    };
    let (kind, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let kind = kind.trim().to_ascii_lowercase();
    // Some readers cut it at a comma or a blank.
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    let sort = kind.strip_prefix("application/").filter(|sort| sort.bytes().all(sound)).unwrap_or_default();
    let json = sort == "json" || sort.ends_with("+json");
    let charset = parameters.trim().to_ascii_lowercase();
    let plain = charset.is_empty() || charset.replace(['"', ' '], "") == "charset=utf-8";
    (!json || !plain).then_some(Unread::Type)
}
