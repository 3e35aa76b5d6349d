//! What would happen to a call, found out by the same code that decides on real ones.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method};

use super::Snapshot;
use super::admit::locate;
use crate::code::Code;
use crate::policy::{Action, Members};
use crate::scheme::Shown;
use crate::target::Target;
use crate::transport::outgoing_headers;

/// What would happen.
#[derive(Debug, Default)]
pub struct Trial {
    /// The rule that decides.
    pub rule: Option<String>,
    /// The rule that would decide otherwise, were it no shadow.
    pub shadow: Option<String>,
    /// The upstream it would go to.
    pub upstream: Option<String>,
    /// The organisation.
    pub org: Option<String>,
    /// The canonical target, as the upstream knows it.
    pub target: Option<String>,
}

/// The decision.
#[derive(Debug)]
pub enum Verdict {
    /// It would be forwarded.
    Allowed {
        /// With this credential.
        credential: String,
        /// Its key id, where it has one.
        key_id: Option<String>,
        /// What is put on.
        shown: Shown,
    },
    /// It would be refused.
    Denied {
        /// With this code.
        code: Code,
        /// More for the custodian.
        reason: Option<&'static str>,
    },
}

/// The call in question.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// What `Host` would say.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// What it would carry beside its credential.
    pub headers: HeaderMap,
    /// What rules would see of its body.
    pub body: Members,
}

/// Tries a call of `consumer`; `None` where there is no such consumer. `date` is what would be signed.
#[must_use]
pub fn attempt(
    snapshot: &Snapshot,
    consumer: &str,
    Call { method, host, target, headers, body }: &Call,
    (now, date): (SystemTime, &HeaderValue),
) -> Option<(Trial, Verdict)> {
    let place = snapshot.directory.place(consumer)?;
    let mut trial = Trial::default();
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Some((trial, Verdict::Denied { code: Code::MethodNotAllowed, reason: None }));
    }
    let target = match Target::canonical(target.as_bytes()) {
        Ok(target) => target,
        Err(reason) => {
            return Some((
                trial,
                Verdict::Denied { code: Code::NonCanonical, reason: Some(reason.as_str()) },
            ));
        }
    };
    if snapshot.directory.consumer(place)?.disabled {
        let (code, reason) = (Code::Unauthenticated, Some("disabled consumer"));
        return Some((trial, Verdict::Denied { code, reason }));
    }
    let action = match locate(snapshot, (method, host, &target), headers) {
        Ok((_, action)) => Action { body: body.clone(), ..action },
        Err((code, known)) => {
            trial.upstream = known.upstream.as_ref().map(ToString::to_string);
            trial.target = known.target.as_ref().map(ToString::to_string);
            return Some((trial, Verdict::Denied { code, reason: known.reason }));
        }
    };
    let upstream = snapshot.upstreams.get(action.upstream)?;
    trial.upstream = Some(upstream.name.to_string());
    trial.target = Some(action.target.to_string());
    let ruling = match snapshot.policy.ruling(place, &action, now) {
        Ok(ruling) => ruling,
        Err(forbidden) => {
            trial.rule = forbidden.rule.as_ref().map(ToString::to_string);
            trial.shadow = forbidden.shadow.as_ref().map(ToString::to_string);
            trial.org = forbidden.org;
            return Some((trial, Verdict::Denied { code: forbidden.code, reason: None }));
        }
    };
    let credential = snapshot.custody.credential(ruling.credential)?;
    trial.rule = Some(ruling.rule.to_string());
    trial.shadow = ruling.shadow.as_ref().map(ToString::to_string);
    trial.org = ruling.org.as_ref().map(ToString::to_string);
    let stopped = snapshot.freezes.stops((place, action.upstream, ruling.credential));
    if let Some((code, reason)) = stopped {
        return Some((trial, Verdict::Denied { code, reason: Some(reason) }));
    }
    let outgoing = outgoing_headers(&upstream.manners, headers, ruling.org.as_deref(), date.clone()).ok()?;
    let signed_target = upstream.manners.signed_target(&action.target);
    let verdict = match upstream.scheme.shown(method.as_str(), &signed_target, &outgoing) {
        Ok(shown) => Verdict::Allowed {
            credential: credential.name.to_string(),
            key_id: credential.key_id().map(String::from),
            shown,
        },
        Err(_) => {
            Verdict::Denied { code: Code::Internal, reason: Some("a header to be signed is not there once") }
        }
    };
    Some((trial, verdict))
}
