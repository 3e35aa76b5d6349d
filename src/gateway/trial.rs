//! What would happen to a call, found out by the same code that decides on real ones.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method};

use super::Snapshot;
use super::admit::locate;
use crate::audit::Known;
use crate::code::Code;
use crate::scheme::Scheme;
use crate::target::Target;
use crate::transport::outgoing_headers;

/// What would happen.
#[derive(Debug, Default)]
pub struct Trial {
    /// The rule that decides.
    pub rule: Option<String>,
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
        /// Its key id.
        key_id: String,
        /// Signing this.
        signing_string: String,
    },
    /// It would be refused.
    Denied {
        /// With this code.
        code: Code,
        /// More for the custodian.
        reason: Option<&'static str>,
    },
}

/// Tries a call of `consumer`; `None` where there is no such consumer. `headers` are what the call
/// would carry beside its credential, and `date` what would be signed.
#[must_use]
pub fn attempt(
    snapshot: &Snapshot,
    consumer: &str,
    (method, host, target): (&Method, &str, &str),
    headers: &HeaderMap,
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
    let mut known = Known::default();
    let located = locate(snapshot, (method, host, &target), headers, &mut known);
    trial.upstream = known.upstream.as_ref().map(ToString::to_string);
    trial.target = known.target.as_ref().map(ToString::to_string);
    let action = match located {
        Ok((_, action)) => {
            trial.target = Some(action.target.to_string());
            action
        }
        Err(code) => return Some((trial, Verdict::Denied { code, reason: known.reason })),
    };
    let ruling = match snapshot.policy.ruling(place, &action, now) {
        Ok(ruling) => ruling,
        Err(forbidden) => {
            trial.rule = forbidden.rule.as_ref().map(ToString::to_string);
            trial.org = forbidden.org;
            return Some((trial, Verdict::Denied { code: forbidden.code, reason: None }));
        }
    };
    let upstream = snapshot.upstreams.get(action.upstream)?;
    let credential = snapshot.custody.credential(ruling.credential)?;
    trial.rule = Some(ruling.rule.to_string());
    trial.org = ruling.org.as_ref().map(ToString::to_string);
    let stopped = snapshot.freezes.stops((place, action.upstream, ruling.credential));
    if let Some((code, reason)) = stopped {
        return Some((trial, Verdict::Denied { code, reason: Some(reason) }));
    }
    let outgoing = outgoing_headers(&upstream.manners, headers, ruling.org.as_deref(), date.clone()).ok()?;
    let Scheme::AccessKey(scheme) = &upstream.scheme;
    let signed =
        scheme.signing_string(method.as_str(), &upstream.manners.signed_target(&action.target), &outgoing);
    let verdict = match signed {
        Ok(string) => Verdict::Allowed {
            credential: credential.name.to_string(),
            key_id: credential.key_id().to_owned(),
            signing_string: String::from_utf8_lossy(&string).into_owned(),
        },
        Err(_) => {
            Verdict::Denied { code: Code::Internal, reason: Some("a header to be signed is not there once") }
        }
    };
    Some((trial, verdict))
}
