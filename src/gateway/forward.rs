//! From a recorded entry to the upstream's answer: unseal, hygiene, credential, send, relay.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::body::Incoming;
use std::rc::Rc;
use std::time::Instant;

use super::limits::Limits;
use super::{Gateway, Snapshot, answer, still};
use crate::audit::{Arrival, Entry};
use crate::clock::http_date;
use crate::code::Code;
use crate::route::Route;
use crate::transport::links::Face;
use crate::transport::{Answer, BodyLimits, Failure, Outbound, RequestBody, Unanswered};
use crate::upstream::Upstream;

impl Gateway {
    /// Makes the call that the entry records.
    ///
    /// # Errors
    /// [`Failure`], to be told by [`Entry::answer_failure`].
    pub(super) async fn forward(
        &self,
        snapshot: &Snapshot,
        entry: &mut Entry,
        route: &Route,
        (headers, body, arrival): (&HeaderMap, Incoming, &Rc<Arrival>),
    ) -> Result<Response<Answer>, Failure> {
        let upstream = snapshot
            .upstreams
            .get(entry.permit().action().upstream)
            .ok_or_else(|| internal("no upstream"))?;
        let meter = entry.meter();
        let Limits { max_body: most, body_timeout: patience, body_total: total, .. } = snapshot.limits;
        let limits = BodyLimits { most, patience, total };
        let mut body = RequestBody::take(body, limits, &self.spool, meter.clone()).await?;
        if body.was_kept() {
            let current = self.snapshot.load_full();
            still::permitted(entry.permit(), headers, snapshot, (&current, self.clock.now()))?;
        }
        let began = Instant::now();
        let mut now = began;
        let mut attempts = 0;
        let response = loop {
            let again = body.again();
            let unsealed = snapshot
                .custody
                .unseal(entry, &upstream.endpoint.origin)
                .map_err(|error| internal(&error))?;
            let date = http_date(self.clock.now());
            let mut outbound = Outbound::new(entry, &upstream.manners, headers, date, body)
                .map_err(|error| internal(&error))?;
            if upstream.manners.forwarded_for {
                outbound.tell_consumer(arrival.peer.ip());
            }
            let signed = upstream.scheme.apply(outbound, &unsealed).map_err(|error| internal(&error))?;
            let answered = self.transport.send(&upstream.endpoint, signed, &meter, now).await;
            attempts += u32::from(answered.as_ref().map_or_else(|unanswered| unanswered.sent, |_| true));
            entry.note(|progress| progress.attempts = attempts);
            match (answered, again) {
                (Ok(response), _) => break response,
                // Nothing was heard on a connection that had served before: it had been closed.
                (Err(Unanswered { stale: true, .. }), Some(same)) if attempts == 1 && is_safe(entry) => {
                    (body, now) = (same, Instant::now());
                }
                (Err(Unanswered { failure, .. }), _) => return Err(failure),
            }
        };
        let took = began.elapsed();
        let status = response.status();
        entry.note(|progress| {
            progress.upstream = Some(took);
            progress.upstream_status = Some(status.as_u16());
        });
        // HTTP/1.0 may name no host: then it is the address that it came to.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(&arrival.listener);
        let face = Face { tls: arrival.tls, host, prefix: &route.prefix };
        let mut response = relay(upstream, response, face).await?;
        answer::put_request_id(response.headers_mut(), entry.request_id());
        Ok(response)
    }
}

/// Whether the call may be made twice.
fn is_safe(entry: &Entry) -> bool {
    matches!(entry.permit().action().method, Method::GET | Method::HEAD)
}

/// What of an upstream's answer the consumer sees.
async fn relay(
    upstream: &Upstream,
    mut response: Response<Answer>,
    face: Face<'_>,
) -> Result<Response<Answer>, Failure> {
    if response.status() == StatusCode::UNAUTHORIZED {
        return Err(Failure { code: Code::UpstreamAuth, reason: "the upstream answered 401".into() });
    }
    clean(response.headers_mut(), upstream.manners.cookies)?;
    upstream.links.rewrite_headers(response.headers_mut(), face);
    // A part of a body has the length that its `Content-Range` says.
    let whole = response.status() != StatusCode::PARTIAL_CONTENT;
    if whole && upstream.links.concerns(response.headers()) && !response.body().is_read() {
        Box::pin(upstream.links.rewrite_body(response.body_mut(), face)).await?;
        let grown = response.body().grown();
        let length =
            response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = length {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(length.saturating_add_signed(grown)));
        }
    }
    Ok(response)
}

/// What `Connection` mostly says, and is no header that could be taken off.
const KNOWN_OPTIONS: [&[u8]; 2] = [b"keep-alive", b"close"];

/// Takes off what concerns the hop to the upstream, and what only claims to be ours.
fn clean(headers: &mut HeaderMap, cookies: bool) -> Result<(), Failure> {
    let mut doomed: Vec<HeaderName> = Vec::new();
    for (name, value) in &*headers {
        if name == CONNECTION {
            let listed = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let names = listed.filter(|name| !KNOWN_OPTIONS.contains(name));
            let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
            doomed.extend(names.filter(|name| *name != CONTENT_LENGTH));
        } else if stays_behind(name.as_str()) || (!cookies && name == SET_COOKIE) {
            if name == "x-accel-redirect" {
                return Err(Failure { code: Code::UpstreamInvalid, reason: "x-accel-redirect".into() });
            }
            doomed.push(name.clone());
        }
    }
    headers.remove(CONNECTION);
    for name in doomed {
        headers.remove(name);
    }
    Ok(())
}

/// Whether a header of an answer is not for the consumer.
fn stays_behind(name: &str) -> bool {
    matches!(
        name,
        "transfer-encoding" | "keep-alive" | "te" | "trailer" | "upgrade" | "alt-svc" | "claviger-error"
    ) || name.starts_with("proxy-")
        || name.starts_with("x-accel-")
}

fn internal(error: &(impl std::fmt::Display + ?Sized)) -> Failure {
    Failure { code: Code::Internal, reason: error.to_string() }
}
