//! Forwards a recorded call: unseal the credential, filter headers, apply the scheme, send, relay the response.

use http::header::{
    ACCEPT_RANGES, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Gateway, RawHead, Snapshot, body_rules, error_response, reauthorize};
use crate::audit::{Entry, Meter, Peer};
use crate::clock::http_date;
use crate::code::{Code, Failure};
use crate::custody::Unsealed;
use crate::inbound::Own;
use crate::route::Route;
use crate::scheme::{LoginContext, Prepared, Rejection, UpstreamToken};
use crate::signature::Message;
use crate::transport::link_rewrite::{PublicUrl, Round};
use crate::transport::{
    Destination, Dropped, Endpoint, IncomingBody, Outbound, RequestBody, SendError, Signed, UpstreamBody,
    excerpt, remove_descriptions, scrub,
};
use crate::upstream::Upstream;

/// A call that waited this long is re-authorised, since its permission may have been revoked meanwhile.
const RECHECK_AFTER: Duration = Duration::from_secs(1);
/// The longest body of a GET or HEAD, in bytes, that is buffered for a retry on another connection; some clients send
/// `{}` with each. A body that a token refresh may have to repeat is buffered whatever its length.
const KEPT_OF_READS: u64 = 4 * 1024;

/// The context of one call, besides its entry and its body.
struct Exchange<'s> {
    snapshot: &'s Snapshot,
    upstream: &'s Upstream,
    destination: &'s Destination,
    message: Message<'s>,
    dropped: &'s Dropped,
    arrival: &'s Peer,
}

impl Gateway {
    /// Forwards the call that the entry records.
    pub(super) async fn forward(
        &self,
        snapshot: &Snapshot,
        entry: &mut Entry,
        route: &Route,
        ((head, received, dropped), inflow, arrival): ((&Parts, &RawHead, &Dropped), IncomingBody, &Rc<Peer>),
    ) -> Result<Response<UpstreamBody>, Failure> {
        let mut call = Exchange::new(snapshot, entry, (received.message(head), dropped, arrival))?;
        let (mut body, meter) = (self.take_body(&call, entry, inflow).await?, entry.meter());
        let (began, streams, mut attempts) = (Instant::now(), body.is_stream(), 0);
        let (mut renewed, mut took_alternative, mut given_up) = (false, false, false);
        let (is_read, may_repeat, mut now) = (is_safe(entry), is_repeatable(&call, entry), began);
        let mut shown;
        let response = loop {
            let (mut logins, again) = (0, may_repeat.then(|| body.try_clone()).flatten());
            let unsealed = call.unseal(entry)?;
            let (mut signed, pass) = match self.prepare(&call, entry, &unsealed, body)? {
                Prepared::Signed(signed) => (signed, None),
                Prepared::Deferred(outbound) => {
                    // Boxed: this future is rare and large, and every call's future would reserve room for it.
                    let parts = (&*entry, &unsealed);
                    let finished = Box::pin(self.sign_deferred(&call, parts, outbound, &mut logins)).await;
                    now = Instant::now();
                    match finished {
                        Ok(finished) => finished,
                        Err(failure) => {
                            entry.update(|progress| progress.logins += logins);
                            return Err(failure);
                        }
                    }
                }
            };
            shown = signed.credential();
            let answered = if streams {
                // Boxed: few calls have a body, and every call's future would reserve room for it.
                Box::pin(self.send_streaming(&call, entry, (signed, &meter, now))).await
            } else {
                self.transport.send(&call.destination.endpoint, signed, &meter, now).await
            };
            attempts += u32::from(answered.as_ref().map_or_else(|unanswered| unanswered.sent, |_| true));
            entry.update(|progress| {
                progress.attempts = attempts;
                progress.logins += logins;
            });
            match (answered, again) {
                (Ok(mut response), again) => {
                    let Some(pass) = pass else { break response };
                    given_up = !renewed && again.is_none();
                    let again = again.filter(|_| !renewed);
                    renewed =
                        Box::pin(self.refresh_token(&call, entry, (&pass, &mut response), again.is_some()))
                            .await?;
                    match again.filter(|_| renewed) {
                        Some(same) => (body, now) = (same, Instant::now()),
                        None => break response,
                    }
                }
                // A reused connection gave no response: the upstream had already closed it.
                (Err(SendError { stale: true, .. }), Some(same)) if is_read && attempts == 1 => {
                    self.recheck_if_slow(&call, entry, now)?;
                    (body, now) = (same, Instant::now());
                }
                // Nothing was sent, so any method may be retried once at another endpoint, within the same time-out.
                (Err(SendError { failure, unsent: Some(same), .. }), _) => {
                    let other = call.upstream.alternative(call.destination).filter(|_| !took_alternative);
                    call.destination = other.ok_or(failure)?;
                    self.recheck_if_slow(&call, entry, now)?;
                    (body, took_alternative) = (*same, true);
                }
                (Err(SendError { failure, .. }), _) => return Err(failure),
            }
        };
        let took = began.elapsed();
        entry.update(|progress| {
            progress.upstream = Some(took);
            progress.upstream_status = Some(response.status().as_u16());
        });
        let relayed = relay(&call, entry, route, (response, shown)).await;
        relayed.map_err(|failure| if given_up { call.not_repeated(failure) } else { failure })
    }

    /// Prepares the body for forwarding. Re-authorises the call if the body had to be buffered.
    async fn take_body(
        &self,
        call: &Exchange<'_>,
        entry: &Entry,
        inflow: IncomingBody,
    ) -> Result<RequestBody, Failure> {
        let (limits, meter) = (body_rules::limits(call.snapshot), entry.meter());
        let by_login = call.upstream.scheme.uses_tokens() && is_repeatable(call, entry);
        let keep = by_login || (is_safe(entry) && inflow.is_at_most(KEPT_OF_READS));
        let body = RequestBody::take(inflow, limits, (&self.spool, keep), meter).await?;
        if body.was_buffered() {
            self.reauthorize(call, entry)?;
        }
        Ok(body)
    }

    /// Builds the outbound request and applies the scheme. Defers the signature if the scheme needs a token or an RSA
    /// signature.
    fn prepare<'e>(
        &self,
        call: &Exchange<'_>,
        entry: &'e Entry,
        unsealed: &Unsealed<'e>,
        body: RequestBody,
    ) -> Result<Prepared<'e>, Failure> {
        let (settings, date) = (&call.destination.settings, http_date(self.clock.now()));
        let passed = call.upstream.request_headers.passed(call.message.headers, call.dropped);
        let mut outbound = Outbound::new(entry, settings, passed, date, body)?;
        if settings.forwarded_for {
            outbound.set_forwarded_for(call.arrival.peer.ip());
        }
        call.upstream.scheme.apply(outbound, unsealed)
    }

    fn login_context<'e, 's>(
        &'s self,
        call: &Exchange<'s>,
        entry: &'e Entry,
        credential: &'s Unsealed<'e>,
    ) -> LoginContext<'e, 's> {
        LoginContext {
            entry,
            credential,
            slot: call.snapshot.passes.get(&entry.permit().credential()),
            destination: call.destination,
            alternative: match call.upstream.scheme.token_endpoint() {
                Some(_) => None,
                None => call.upstream.alternative(call.destination),
            },
            clock: &self.clock,
            logins: Cell::new(0),
        }
    }

    /// Signs a request that [`prepare`](Self::prepare) deferred. Adds the logins begun for it to `logins`.
    async fn sign_deferred<'e>(
        &self,
        call: &Exchange<'_>,
        (entry, unsealed): (&'e Entry, &Unsealed<'e>),
        outbound: Outbound<'e>,
        logins: &mut u32,
    ) -> Result<(Signed<'e>, Option<Arc<UpstreamToken>>), Failure> {
        let (context, began) = (self.login_context(call, entry, unsealed), Instant::now());
        let finished = call.upstream.scheme.sign_deferred(outbound, &context).await;
        *logins += context.logins.get();
        finished.and_then(|finished| self.recheck_if_slow(call, entry, began).map(|()| finished))
    }

    /// Re-authorises a call that began to wait at `began`, if it waited longer than [`RECHECK_AFTER`].
    fn recheck_if_slow(&self, call: &Exchange<'_>, entry: &Entry, began: Instant) -> Result<(), Failure> {
        if began.elapsed() < RECHECK_AFTER { Ok(()) } else { self.reauthorize(call, entry) }
    }

    /// Re-authorises a call against the current snapshot.
    fn reauthorize(&self, call: &Exchange<'_>, entry: &Entry) -> Result<(), Failure> {
        let current = self.snapshot.load_full();
        let bodied = entry.meter().bytes.get() > 0;
        reauthorize::reauthorize(
            entry.permit(),
            call.message,
            call.snapshot,
            (&current, self.clock.now(), bodied),
        )
    }

    /// Sends a request whose body streams at the consumer's pace. Re-authorises the call every [`RECHECK_AFTER`] until
    /// the body is complete, and aborts the upstream connection once the call is no longer permitted.
    async fn send_streaming<'e>(
        &self,
        call: &Exchange<'_>,
        entry: &'e Entry,
        (signed, meter, now): (Signed<'e>, &Meter, Instant),
    ) -> Result<Response<UpstreamBody>, SendError> {
        let mut sending = pin!(self.transport.send(&call.destination.endpoint, signed, meter, now));
        loop {
            match tokio::time::timeout(RECHECK_AFTER, sending.as_mut()).await {
                Ok(answered) => return answered,
                Err(_) if meter.is_whole.get() => {}
                Err(_) => self.reauthorize(call, entry).map_err(SendError::aborted)?,
            }
        }
    }

    /// Returns whether the response rejects the token and the call should be repeated with a new one. If the call may
    /// not be repeated, the next call obtains the new token. `kept` means that the body can be sent again. A write is
    /// repeated only if the rejection is definite.
    async fn refresh_token(
        &self,
        call: &Exchange<'_>,
        entry: &mut Entry,
        (pass, response): (&Arc<UpstreamToken>, &mut Response<UpstreamBody>),
        kept: bool,
    ) -> Result<bool, Failure> {
        let status = response.status().as_u16();
        entry.update(|progress| progress.upstream_status = Some(status));
        let Some(ended) = call.upstream.scheme.rejection(response).await? else {
            pass.mark_accepted();
            return Ok(false);
        };
        let may_repeat = kept && (ended == Rejection::Definite || is_safe(entry));
        let slot = call.snapshot.passes.get(&entry.permit().credential());
        if !slot.is_some_and(|slot| slot.report_rejection(pass, ended, self.clock.now())) || !may_repeat {
            return Ok(false);
        }
        let (unsealed, began) = (call.unseal(entry)?, Instant::now());
        let context = self.login_context(call, entry, &unsealed);
        let renewed = call.upstream.scheme.refresh(pass, &context).await;
        let logins = context.logins.get();
        entry.update(|progress| progress.logins += logins);
        match (renewed, ended) {
            (Ok(renewed), _) => Ok(renewed && self.recheck_if_slow(call, entry, began).is_ok()),
            (Err(failure), Rejection::Definite) => Err(failure),
            // The response may have rejected something other than the token.
            (Err(_), Rejection::Possible) => Ok(false),
        }
    }
}

impl<'s> Exchange<'s> {
    fn new(
        snapshot: &'s Snapshot,
        entry: &Entry,
        (message, dropped, arrival): (Message<'s>, &'s Dropped, &'s Peer),
    ) -> Result<Self, Failure> {
        let upstream = snapshot.upstreams.get(entry.permit().action().upstream);
        let upstream = upstream.ok_or_else(|| Failure::internal("no upstream"))?;
        Ok(Self { snapshot, upstream, destination: upstream.pick(), message, dropped, arrival })
    }

    /// Adds to the failure why the call is not repeated after its token was rejected.
    fn not_repeated(&self, failure: Failure) -> Failure {
        if failure.code != Code::UpstreamAuth {
            return failure;
        }
        let why = if self.upstream.repeat_after_401 {
            "its body cannot be read again"
        } else {
            "some of it may have been done"
        };
        let reason = format!("{}; the login has ended, and the call is not repeated: {why}", failure.reason);
        Failure { reason, ..failure }
    }

    fn unseal<'e>(&self, entry: &'e Entry) -> Result<Unsealed<'e>, Failure>
    where
        's: 'e,
    {
        let origin = &self.upstream.scheme.token_endpoint().unwrap_or(&self.destination.endpoint).origin;
        self.snapshot.custody.unseal(entry, origin).map_err(Failure::internal)
    }
}

/// Returns whether the call may be sent twice, at least after a token refresh.
fn is_repeatable(call: &Exchange<'_>, entry: &Entry) -> bool {
    is_safe(entry) || (call.upstream.repeat_after_401 && call.upstream.scheme.uses_tokens())
}

/// Returns whether the method is safe, so that the call may be sent twice.
fn is_safe(entry: &Entry) -> bool {
    matches!(entry.permit().action().method, Method::GET | Method::HEAD)
}

/// Refuses a redirect that only adds a slash, if following it would lose the method and the body.
fn refuse_slash(
    upstream: &Upstream,
    entry: &Entry,
    response: &Response<UpstreamBody>,
) -> Result<(), Failure> {
    if !response.status().is_redirection() || is_safe(entry) {
        return Ok(());
    }
    let sent = entry.permit().action().target.with_base(&upstream.first.settings.base);
    match response.headers().get(LOCATION) {
        Some(location) if upstream.links.only_adds_slash(location, sent.as_str()) => {
            Err(Failure::new(Code::MissingSlash, "the upstream redirects to the same path with a slash"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses a redirect loop: after its rewrite to the gateway, the location is the same request again.
fn refuse_round(
    (upstream, endpoint): (&Upstream, &Endpoint),
    entry: &Entry,
    response: &Response<UpstreamBody>,
) -> Result<(), Failure> {
    if !response.status().is_redirection() {
        return Ok(());
    }
    let Some(location) = response.headers().get(LOCATION) else { return Ok(()) };
    let action = entry.permit().action();
    let sent = action.target.with_base(&upstream.first.settings.base);
    let (here, host) = (&endpoint.origin, &endpoint.origin.host);
    let reason = match upstream.links.round(location, sent.as_str(), here) {
        Some(Round::Https) => format!(
            "the upstream redirects to https at the same place: it is served there alone; write https://{host} \
             in this upstream's endpoint"
        ),
        Some(Round::Http) => format!(
            "the upstream redirects from https to http at the same place; see why {host} takes what comes by \
             https for http"
        ),
        // A cookie may change the next response, and many forms redirect to their own page.
        Some(Round::Itself)
            if upstream.request_headers.cookies || !asks_to_repeat(&action.method, response.status()) =>
        {
            return Ok(());
        }
        Some(Round::Itself) => "the upstream redirects to the same target again".into(),
        None => return Ok(()),
    };
    Err(Failure::new(Code::UpstreamInvalid, reason))
}

/// Returns whether following a redirect with this status repeats the request unchanged (RFC 9110 §15.4).
fn asks_to_repeat(method: &Method, status: StatusCode) -> bool {
    let kept = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&status);
    kept || matches!(*method, Method::GET | Method::HEAD)
}

/// Builds the failure for an upstream's 401, which rejects the gateway's credential. The upstream's explanation goes to
/// the operator only, never to the consumer.
async fn refused_by_upstream(
    response: &mut Response<UpstreamBody>,
    (shown, own): (Option<&HeaderValue>, Option<&Own<'_>>),
) -> Failure {
    // The upstream may reject every request on this connection.
    response.body().retire();
    let why = excerpt(response, (shown, own)).await.map(|why| format!(": {why}")).unwrap_or_default();
    Failure::new(Code::UpstreamAuth, format!("the upstream answered 401{why}"))
}

/// Turns the upstream's response into what the consumer receives.
async fn relay(
    Exchange { snapshot, upstream, destination, message, arrival, .. }: &Exchange<'_>,
    entry: &mut Entry,
    route: &Route,
    (mut response, shown): (Response<UpstreamBody>, Option<HeaderValue>),
) -> Result<Response<UpstreamBody>, Failure> {
    if response.status() == StatusCode::UNAUTHORIZED {
        // The upstream may echo the consumer's credential, if that was forwarded or is known to it from elsewhere.
        let own = Own::of(entry.permit().identity(), message.headers, &snapshot.directory);
        // Boxed, since it is rare and large.
        return Err(Box::pin(refused_by_upstream(&mut response, (shown.as_ref(), own.as_ref()))).await);
    }
    refuse_slash(upstream, entry, &response)?;
    refuse_round((upstream, &destination.endpoint), entry, &response)?;
    // A request in HTTP/1.0 may lack `Host`; the listener's address replaces it.
    let host = message.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(&arrival.listener);
    let face = PublicUrl { tls: arrival.tls, host, prefix: &route.prefix };
    strip_response_headers(response.headers_mut(), upstream.request_headers.cookies)?;
    upstream.request_headers.withhold_cookies(response.headers_mut());
    if !upstream.request_headers.lets_parts(entry.permit().action().target.path()) {
        // The gateway drops `Range` on this path, so the response must not offer ranges.
        response.headers_mut().remove(ACCEPT_RANGES);
    }
    if let Some(sent) = shown {
        let found = scrub::scrub(&mut response, &sent, upstream.scheme.is_reusable())?;
        if found > 0 {
            entry.meter().scrubbed.update(|times| times.saturating_add(found));
        }
    }
    if let Some(why) = lead_back(upstream, &mut response, face).await? {
        entry.update(|progress| progress.link_kept = Some(why));
        upstream.first.endpoint.standing.log("link_kept", why);
    }
    error_response::put_request_id(response.headers_mut(), entry.request_id());
    Ok(response)
}

/// Rewrites the links of the response to the gateway. Returns why a link that may bypass the gateway was kept.
async fn lead_back(
    upstream: &Upstream,
    response: &mut Response<UpstreamBody>,
    face: PublicUrl<'_>,
) -> Result<Option<&'static str>, Failure> {
    let kept = upstream.links.rewrite_headers(response.headers_mut(), face);
    if !upstream.links.applies_to(response.headers()) || response.body().is_exhausted() {
        return Ok(kept);
    }
    let page = Box::pin(upstream.links.rewrite_body(response, face)).await?;
    if page.changed {
        remove_descriptions(response.headers_mut());
        let grown = response.body().length_delta();
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = length {
            let length = HeaderValue::from(length.saturating_add_signed(grown));
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
    }
    Ok(kept.or(page.kept))
}

/// Usual options of `Connection` that name no header field.
const KNOWN_OPTIONS: [&[u8]; 2] = [b"keep-alive", b"close"];

/// Removes hop-by-hop headers, and headers that only the gateway may set.
fn strip_response_headers(headers: &mut HeaderMap, cookies: bool) -> Result<(), Failure> {
    let mut doomed: Vec<HeaderName> = Vec::new();
    for (name, value) in &*headers {
        if name == CONNECTION {
            let listed = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let names = listed.filter(|name| !KNOWN_OPTIONS.contains(name));
            let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
            doomed.extend(names.filter(|name| *name != CONTENT_LENGTH));
        } else if is_stripped(name.as_str()) || (!cookies && name == SET_COOKIE) {
            if name == "x-accel-redirect" {
                return Err(Failure::new(Code::UpstreamInvalid, "x-accel-redirect"));
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

/// Returns whether this response header is withheld from the consumer.
fn is_stripped(name: &str) -> bool {
    matches!(
        name,
        "transfer-encoding" | "keep-alive" | "te" | "trailer" | "upgrade" | "alt-svc" | "claviger-error"
    ) || name.starts_with("proxy-")
        || name.starts_with("x-accel-")
}
