//! Forwards a recorded call: unseal the credential, filter headers, apply the scheme, send, relay the response.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::Response;

use super::body_rules;
use super::exchange::{Exchange, is_safe};
use super::reauthorize::{Delayed, reauthorize};
use super::relay::relay;
use super::snapshot::Snapshot;
use crate::audit::Entry;
use crate::clock::{Clock, http_date};
use crate::code::Failure;
use crate::custody::Unsealed;
use crate::scheme::{LoginContext, Prepared, Rejection, UpstreamToken, get_token};
use crate::transport::{IncomingBody, Outbound, RequestBody, SendError, Signed, Transport, UpstreamBody};

/// A call that waited this long is re-authorised, since its permission may have been revoked meanwhile.
const RECHECK_AFTER: Duration = Duration::from_secs(1);
/// The longest body of a GET or HEAD, in bytes, that is buffered for a retry on another connection; some clients send
/// `{}` with each. A body that a token refresh may have to repeat is buffered whatever its length.
const MAX_BUFFERED_READ: u64 = 4 * 1024;

/// The part of a worker's gateway that forwards recorded calls.
pub struct Forwarder {
    /// The current configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The worker's connections to the upstreams.
    pub transport: Transport,
    /// The folder for request bodies that do not fit into memory.
    pub spool: PathBuf,
}

impl Forwarder {
    /// Forwards the call that the entry records.
    pub(super) async fn forward(
        &self,
        call: &mut Exchange<'_>,
        entry: &mut Entry,
        body: IncomingBody,
    ) -> Result<Response<UpstreamBody>, Failure> {
        let (mut body, meter) = (self.take_body(call, entry, body).await?, entry.meter());
        let (began, streams, mut attempts) = (Instant::now(), body.is_stream(), 0);
        let (mut renewed, mut took_alternative, mut given_up) = (false, false, false);
        let (is_read, may_repeat, mut now) = (is_safe(entry), call.is_repeatable(entry), began);
        let mut sent;
        let response = loop {
            let again = may_repeat.then(|| body.try_clone()).flatten();
            let unsealed = call.unseal(entry)?;
            let (mut signed, token) = match self.prepare(call, entry, &unsealed, body)? {
                Prepared::Signed(signed) => (signed, None),
                Prepared::Deferred(outbound) => {
                    let context = self.login_context(call, entry, &unsealed);
                    // Boxed: this future is rare and large, and every call's future would reserve room for it.
                    let signed = Box::pin(self.sign_deferred(call, &context, outbound)).await?;
                    now = Instant::now();
                    signed
                }
            };
            sent = signed.credential();
            let answered = if streams {
                // Boxed: few calls have a body, and every call's future would reserve room for it.
                Box::pin(self.send_streaming(call, entry, signed, now)).await
            } else {
                self.transport.send(&call.destination.endpoint, signed, &meter, now).await
            };
            attempts += u32::from(answered.as_ref().map_or_else(|unanswered| unanswered.sent, |_| true));
            entry.update(|progress| {
                progress.attempts = attempts;
                progress.logins = call.logins.get();
            });
            match (answered, again) {
                (Ok(mut response), again) => {
                    let Some(token) = token else { break response };
                    given_up = !renewed && again.is_none();
                    let again = again.filter(|_| !renewed);
                    renewed =
                        Box::pin(self.refresh_token(call, entry, (&token, &mut response), again.is_some()))
                            .await?;
                    match again.filter(|_| renewed) {
                        Some(same) => (body, now) = (same, Instant::now()),
                        None => break response,
                    }
                }
                // A reused connection gave no response: the upstream had already closed it.
                (Err(SendError { stale: true, .. }), Some(same)) if is_read && attempts == 1 => {
                    self.recheck_if_slow(call, entry, now)?;
                    (body, now) = (same, Instant::now());
                }
                // Nothing was sent, so any method may be retried once at another endpoint, within the same time-out.
                (Err(SendError { failure, unsent: Some(same), .. }), _) => {
                    let other = call.upstream.alternative(call.destination).filter(|_| !took_alternative);
                    call.destination = other.ok_or(failure)?;
                    self.recheck_if_slow(call, entry, now)?;
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
        let relayed = relay(call, entry, response, sent).await;
        relayed.map_err(|failure| if given_up { call.not_repeated(failure) } else { failure })
    }

    /// Prepares the body for forwarding. Re-authorises the call if the body had to be buffered.
    async fn take_body(
        &self,
        call: &Exchange<'_>,
        entry: &Entry,
        body: IncomingBody,
    ) -> Result<RequestBody, Failure> {
        let (limits, meter) = (body_rules::limits(call.snapshot), entry.meter());
        let by_login = call.upstream.scheme.token_source().is_some() && call.is_repeatable(entry);
        let is_buffered = by_login || (is_safe(entry) && body.is_at_most(MAX_BUFFERED_READ));
        let body = RequestBody::take(body, limits, &self.spool, is_buffered, meter).await?;
        if body.was_buffered() {
            self.reauthorize(call, entry)?;
        }
        Ok(body)
    }

    /// Builds the outbound request and applies the scheme. Defers the signature if the scheme needs a token or
    /// an RSA signature.
    fn prepare<'e>(
        &self,
        call: &Exchange<'_>,
        entry: &'e Entry,
        unsealed: &Unsealed<'e>,
        body: RequestBody,
    ) -> Result<Prepared<'e>, Failure> {
        let (settings, date) = (&call.destination.settings, http_date(self.clock.now()));
        let passed = call.upstream.request_headers.forwarded(call.message.headers, call.dropped);
        let mut outbound = Outbound::new(entry, settings, passed, date, body)?;
        if settings.forwarded_for {
            outbound.set_forwarded_for(call.arrival.peer.ip());
        }
        call.upstream.scheme.apply(outbound, unsealed)
    }

    fn login_context<'e, 's>(
        &'s self,
        call: &'s Exchange<'_>,
        entry: &'e Entry,
        credential: &'s Unsealed<'e>,
    ) -> LoginContext<'e, 's> {
        LoginContext {
            entry,
            credential,
            slot: call.snapshot.token_slots.get(&entry.permit().credential()),
            destination: call.destination,
            alternative: match call.upstream.scheme.token_endpoint() {
                Some(_) => None,
                None => call.upstream.alternative(call.destination),
            },
            clock: &self.clock,
            logins: &call.logins,
        }
    }

    /// Signs a request that [`prepare`](Self::prepare) deferred.
    async fn sign_deferred<'e>(
        &self,
        call: &Exchange<'_>,
        context: &LoginContext<'e, '_>,
        outbound: Outbound<'e>,
    ) -> Result<(Signed<'e>, Option<Arc<UpstreamToken>>), Failure> {
        let began = Instant::now();
        let signed = call.upstream.scheme.sign_deferred(outbound, context).await?;
        self.recheck_if_slow(call, context.entry, began).map(|()| signed)
    }

    /// Re-authorises a call that began to wait at `began`, if it waited longer than [`RECHECK_AFTER`].
    fn recheck_if_slow(&self, call: &Exchange<'_>, entry: &Entry, began: Instant) -> Result<(), Failure> {
        if began.elapsed() < RECHECK_AFTER { Ok(()) } else { self.reauthorize(call, entry) }
    }

    /// Re-authorises a call against the current snapshot.
    fn reauthorize(&self, call: &Exchange<'_>, entry: &Entry) -> Result<(), Failure> {
        let (message, former) = (call.message, call.snapshot);
        let delayed =
            Delayed { message, former, now: self.clock.now(), bodied: entry.meter().bytes.get() > 0 };
        reauthorize(entry.permit(), delayed, &self.snapshot.load_full())
    }

    /// Sends a request whose body streams at the consumer's pace. Re-authorises the call every [`RECHECK_AFTER`] until
    /// the body is complete, and aborts the upstream connection once the call is no longer permitted.
    async fn send_streaming<'e>(
        &self,
        call: &Exchange<'_>,
        entry: &'e Entry,
        signed: Signed<'e>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let meter = entry.meter();
        let mut sending = pin!(self.transport.send(&call.destination.endpoint, signed, &meter, now));
        loop {
            match tokio::time::timeout(RECHECK_AFTER, sending.as_mut()).await {
                Ok(answered) => return answered,
                Err(_) if meter.is_whole.get() => {}
                Err(_) => self.reauthorize(call, entry).map_err(SendError::aborted)?,
            }
        }
    }

    /// Returns whether the response rejects the token and the call should be repeated with a new one. If the call may
    /// not be repeated, the next call obtains the new token. `is_body_left` means that the body can be sent again. A write is
    /// repeated only if the rejection is definite.
    async fn refresh_token(
        &self,
        call: &Exchange<'_>,
        entry: &mut Entry,
        (token, response): (&Arc<UpstreamToken>, &mut Response<UpstreamBody>),
        is_body_left: bool,
    ) -> Result<bool, Failure> {
        let status = response.status().as_u16();
        entry.update(|progress| progress.upstream_status = Some(status));
        let Some(source) = call.upstream.scheme.token_source() else { return Ok(false) };
        let Some(rejection) = source.rejection(response).await? else {
            token.mark_accepted();
            return Ok(false);
        };
        let may_repeat = is_body_left && (rejection == Rejection::Definite || is_safe(entry));
        let slot = call.snapshot.token_slots.get(&entry.permit().credential());
        if !slot.is_some_and(|slot| slot.report_rejection(token, rejection, self.clock.now())) || !may_repeat
        {
            return Ok(false);
        }
        let (unsealed, began) = (call.unseal(entry)?, Instant::now());
        let context = self.login_context(call, entry, &unsealed);
        let renewed = get_token(&context, source).await.map(|renewed| !renewed.is(token));
        match (renewed, rejection) {
            (Ok(renewed), _) => Ok(renewed && self.recheck_if_slow(call, entry, began).is_ok()),
            (Err(failure), Rejection::Definite) => Err(failure),
            // The response may have rejected something other than the token.
            (Err(_), Rejection::Possible) => Ok(false),
        }
    }
}
