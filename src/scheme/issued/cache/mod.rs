//! Cache of the access tokens that upstreams issue, shared by all workers and kept across reloads. Refreshes are
//! single-flight: one caller at a time fetches the next token of a slot. A rejected login is not repeated, since
//! upstreams count rejected logins and lock the account (JumpServer after seven).
//!
//! Times are wall-clock times, since upstreams announce the end of a token in that form. If the clock is changed, a
//! token seems older or younger than it is; the upstream's rejection corrects this.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::refused::{Known, Refusals};
use crate::code::Code;
use crate::custody::Mark;
use crate::name::Name;
use crate::secret::Secret;
use crate::transport::Failure;

/// The number of consecutive rejected logins after which claviger waits for [`HELD`].
const MOST_REFUSED: u32 = 2;
/// The time without a login after that, unless the credential changes. A changed credential has a new slot.
const HELD: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// The first back-off after a login without a response. It doubles after each login that was sent, since some upstreams
/// check a password and then fail to respond.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The age below which a token that was never accepted is not given up after a rejection.
const FRESH: Duration = Duration::from_secs(30);
/// The maximum number of tokens given up within a minute after definite rejections.
const MOST_ENDED: usize = 60;
/// The maximum number of tokens given up within a minute after possible rejections, which may concern only the
/// consumer's permissions.
const MOST_DOUBTED: usize = 12;
/// The longest time before its end at which a token is refreshed.
const REFRESH_AHEAD: Duration = Duration::from_secs(30);
/// The longest wait for a login while a token exists that may still be valid.
pub(in crate::scheme) const SUSPECT_WAIT: Duration = Duration::from_secs(5);
/// How long a token is used that has already ended when it arrives, because the upstream's clock differs.
const MIN_LIFETIME: Duration = Duration::from_secs(30);
/// The longest time between reading the clock and using the value.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A token or cookie that an upstream issued. Only [`TokenSlot`] creates one.
pub struct UpstreamToken {
    token: Secret,
    obtained: SystemTime,
    renewed: SystemTime,
    ends: SystemTime,
    number: u64,
    /// Whether the upstream has accepted the token in a call.
    good: AtomicBool,
}

impl UpstreamToken {
    /// Records that the upstream accepted the token.
    pub fn mark_accepted(&self) {
        self.good.store(true, Ordering::Relaxed);
    }

    /// Returns the secret token.
    #[must_use]
    pub(in crate::scheme) fn token(&self) -> &Secret {
        &self.token
    }

    /// Returns whether both are the same token.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// The parsed response to a login.
pub(in crate::scheme) struct TokenResponse {
    pub(in crate::scheme) token: Secret,
    pub(in crate::scheme) ends: SystemTime,
    /// The refresh token for the next refresh.
    pub(in crate::scheme) refresh: Option<Secret>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::scheme) struct LoginError {
    pub(in crate::scheme) code: Code,
    pub(in crate::scheme) reason: String,
    pub(in crate::scheme) verdict: Verdict,
}

/// What a failed login proves about the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scheme) enum Verdict {
    /// Nothing: there was no response, or the upstream is unhealthy.
    Unheard,
    /// Nothing: the response was not about the credential (404, 429).
    Unjudged,
    /// The upstream rejects the credential.
    Refused,
    /// Only a person can help, with this advice. Another attempt would only count against the account.
    Barred(&'static str),
}

impl LoginError {
    /// Returns whether no connection could be made, so that nothing was sent.
    pub(in crate::scheme) fn is_of_connecting(&self) -> bool {
        matches!(self.code, Code::UpstreamUnreachable | Code::UpstreamDns | Code::UpstreamTls)
    }

    /// Creates the error of a rejected credential.
    pub(in crate::scheme) fn refused(reason: impl Into<String>) -> Self {
        Self { code: Code::UpstreamAuth, reason: reason.into(), verdict: Verdict::Refused }
    }

    /// Creates the error of an unexpected response to a login.
    pub(in crate::scheme) fn possible(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unjudged, ..Self::refused(reason) }
    }

    /// Returns whether the failure counts against the account.
    pub(in crate::scheme) fn counts(&self) -> bool {
        self.max_failures().is_some()
    }

    /// Returns the number of such failures in a row that claviger risks. Returns `None` if they do not count against
    /// the account.
    fn max_failures(&self) -> Option<u32> {
        match self.verdict {
            Verdict::Unheard | Verdict::Unjudged => None,
            Verdict::Refused => Some(MOST_REFUSED),
            Verdict::Barred(_) => Some(1),
        }
    }

    /// Returns what a person can do about the failure.
    fn advice(&self) -> &'static str {
        match self.verdict {
            Verdict::Barred(advice) => advice,
            Verdict::Unheard | Verdict::Unjudged | Verdict::Refused => "correct the name or the secret",
        }
    }
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        let reason = format!("the login: {}", failure.reason);
        Self { code: failure.code, reason, verdict: Verdict::Unheard }
    }
}

impl From<LoginError> for Failure {
    fn from(fault: LoginError) -> Self {
        Self { code: fault.code, reason: fault.reason }
    }
}

/// How certainly a response rejects a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The token is rejected: a 401.
    Definite,
    /// The token may be rejected; the response can have other reasons.
    Possible,
}

/// The cached token of one credential.
pub struct TokenSlot {
    known: Known,
    kept: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    pass: Option<Arc<UpstreamToken>>,
    /// Whether the token may have been rejected. A new one is fetched first, unless that takes too long.
    suspect: bool,
    refresh: Option<Secret>,
    /// The pending login, and when it began.
    flight: Option<(PendingLogin, SystemTime)>,
    /// The number of consecutive rejected logins.
    refused: u32,
    /// The times at which tokens were given up, the latest last, each with the kind of rejection.
    ended: Vec<(SystemTime, Rejection)>,
    last: Option<(SystemTime, LoginError)>,
    /// The number of consecutive logins that were sent and got no response. Each may have counted against the account.
    unanswered: u32,
    number: u64,
}

/// The result of a lookup in the cache.
pub(in crate::scheme) enum Lookup {
    /// A valid token.
    Fresh(Arc<UpstreamToken>),
    /// A valid token, and the lease to fetch the next one in the background.
    RefreshAhead(Arc<UpstreamToken>, LoginLease),
    /// The lease to fetch a token; the caller must do it.
    Leader(LoginLease),
    /// The login of another caller, to wait for.
    Follower(PendingLogin),
    /// No token is available, and it is too early to retry.
    Backoff(LoginError),
}

/// A pending login, as seen by the callers that wait for it.
#[derive(Clone)]
pub(in crate::scheme) struct PendingLogin(watch::Receiver<Option<Result<Arc<UpstreamToken>, LoginError>>>);

impl PendingLogin {
    /// Waits for the result; `None` if the login was aborted.
    pub(in crate::scheme) async fn wait(mut self) -> Option<Result<Arc<UpstreamToken>, LoginError>> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|result| result.clone())
    }
}

/// The exclusive right to fetch a slot's token. Dropping it gives the right to the next caller.
pub(in crate::scheme) struct LoginLease {
    slot: Arc<TokenSlot>,
    sender: watch::Sender<Option<Result<Arc<UpstreamToken>, LoginError>>>,
    refresh: Option<Secret>,
    /// The mark of the rejected secret.
    mark: Option<Mark>,
}

impl TokenSlot {
    /// Creates an empty slot for a login.
    #[must_use]
    pub fn new(known: Known) -> Self {
        Self { known, kept: Mutex::default() }
    }

    /// Restores the rejected logins recorded before a restart. Returns whether there were any. `is_marked` returns
    /// whether a mark belongs to the credential's secret.
    pub fn restore(&self, is_marked: impl FnOnce(&Mark) -> bool) -> bool {
        let Some(Refusals { count, at, fault }) = self.known.find(is_marked) else {
            return false;
        };
        let mut kept = self.lock_state();
        (kept.refused, kept.last) = (count, Some((at, fault)));
        true
    }

    fn lock_state(&self) -> MutexGuard<'_, SlotState> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a token, or what the caller has to do to get one.
    pub(in crate::scheme) fn lookup(self: &Arc<Self>, now: SystemTime) -> Lookup {
        let mut kept = self.lock_state();
        let free = kept.flight.is_none() && kept.backoff_reason(now).is_none();
        let pass = kept.pass.clone().filter(|pass| now < pass.ends);
        match (pass, kept.suspect, kept.flight.clone()) {
            (Some(_), true, _) if free => Lookup::Leader(self.lease(&mut kept, now)),
            (Some(_), true, Some((flight, since))) if with_deadline(since, SUSPECT_WAIT, now) => {
                Lookup::Follower(flight)
            }
            (None, _, Some((flight, _))) => Lookup::Follower(flight),
            (Some(pass), false, _) if free && now >= pass.renewed => {
                Lookup::RefreshAhead(pass, self.lease(&mut kept, now))
            }
            (Some(pass), _, _) => Lookup::Fresh(pass),
            (None, _, None) => match kept.backoff_reason(now) {
                Some(fault) => Lookup::Backoff(fault),
                None => Lookup::Leader(self.lease(&mut kept, now)),
            },
        }
    }

    fn lease(self: &Arc<Self>, kept: &mut SlotState, now: SystemTime) -> LoginLease {
        let (sender, flight) = watch::channel(None);
        kept.flight = Some((PendingLogin(flight), now));
        LoginLease { slot: Arc::clone(self), sender, refresh: kept.refresh.take(), mark: None }
    }

    /// Returns the cached token if it has not ended; used if no new one could be fetched.
    pub(in crate::scheme) fn still_valid(&self, now: SystemTime) -> Option<Arc<UpstreamToken>> {
        self.lock_state().pass.clone().filter(|pass| now < pass.ends)
    }

    /// Returns the names of the upstream and of the credential.
    #[must_use]
    pub fn names(&self) -> (Name, Name) {
        self.known.names
    }

    /// Returns why logins are suspended, if the upstream rejected them.
    #[must_use]
    pub fn refusal(&self, now: SystemTime) -> Option<String> {
        self.lock_state()
            .backoff_reason(now)
            .filter(|fault| fault.max_failures().is_some())
            .map(|fault| fault.reason)
    }

    /// Reports that an upstream rejected `pass`. Returns whether a new token is worth fetching. It is not if the token
    /// is fresh and was never accepted, or if tokens were given up too often.
    pub fn report_rejection(&self, pass: &UpstreamToken, ended: Rejection, now: SystemTime) -> bool {
        let mut kept = self.lock_state();
        if !kept.pass.as_ref().is_some_and(|held| held.is(pass)) {
            return true;
        }
        let fresh = with_deadline(pass.obtained, FRESH, now);
        let most = match ended {
            Rejection::Definite => MOST_ENDED,
            Rejection::Possible => MOST_DOUBTED,
        };
        kept.ended.retain(|(at, _)| with_deadline(*at, MINUTE, now));
        // Each kind is counted separately: rejections of one consumer's calls must not hide that the token has ended.
        let lately = kept.ended.iter().filter(|(_, kind)| *kind == ended).count();
        if (fresh && !pass.good.load(Ordering::Relaxed)) || lately >= most {
            return false;
        }
        if !kept.suspect {
            kept.ended.push((now, ended));
        }
        match ended {
            Rejection::Definite => kept.pass = None,
            Rejection::Possible => kept.suspect = true,
        }
        true
    }
}

/// Returns whether `now` is less than `span` after `at`. An `at` slightly in the future was recorded by another worker
/// that read the clock later. An `at` further in the future stems from a clock that was set back, and is ignored.
fn with_deadline(at: SystemTime, span: Duration, now: SystemTime) -> bool {
    now.duration_since(at).map_or_else(|ahead| ahead.duration() < CLOCK_SKEW, |passed| passed < span)
}

impl SlotState {
    /// Returns why no login may be tried now.
    fn backoff_reason(&self, now: SystemTime) -> Option<LoginError> {
        let (at, last) = self.last.as_ref()?;
        let Some(most) = last.max_failures() else {
            let longer = 1 << self.unanswered.saturating_sub(1).min(5);
            return with_deadline(*at, (PAUSE * longer).min(LONGEST_PAUSE), now).then(|| last.clone());
        };
        (self.refused >= most && with_deadline(*at, HELD, now)).then(|| {
            let until = at.checked_add(HELD).and_then(|until| Timestamp::try_from(until).ok());
            let until = until.map(|until| format!("after {until:.0} or ")).unwrap_or_default();
            let (advice, reason) = (last.advice(), &last.reason);
            let reason = format!("no login now, but {until}once the credential changes ({advice}): {reason}");
            LoginError { reason, ..last.clone() }
        })
    }
}

impl LoginLease {
    /// Returns a handle for the callers that wait for this login.
    pub(in crate::scheme) fn flight(&self) -> PendingLogin {
        PendingLogin(self.sender.subscribe())
    }

    /// Returns the refresh token, which replaces the password.
    pub(in crate::scheme) fn refresh(&self) -> Option<&Secret> {
        self.refresh.as_ref()
    }

    /// Discards a rejected refresh token.
    pub(in crate::scheme) fn forget_refresh(&mut self) {
        self.refresh = None;
    }

    /// Stores the mark of a rejected secret, if it is needed to recognise the secret after a restart.
    pub(in crate::scheme) async fn mark(&mut self, secret: Zeroizing<Vec<u8>>) {
        if self.slot.known.needs_mark() {
            let marked = tokio::task::spawn_blocking(move || Mark::new(&secret)).await;
            self.mark = marked.ok().flatten();
        }
    }

    /// Stores the result, and notifies all waiting callers.
    pub(in crate::scheme) fn complete(mut self, result: Result<TokenResponse, LoginError>, now: SystemTime) {
        let (upstream, credential) = self.slot.names();
        let mut kept = self.slot.lock_state();
        let result = match result {
            Ok(gained) => {
                tracing::info!(%upstream, %credential, "logged in");
                Ok(kept.take(gained, now))
            }
            Err(fault) => {
                kept.fail(&fault, now);
                if let Some(held) = kept.backoff_reason(now).filter(|_| fault.max_failures().is_some()) {
                    tracing::error!(%upstream, %credential, reason = %held.reason, "the upstream refuses the login");
                } else {
                    tracing::warn!(%upstream, %credential, reason = %fault.reason, "no login");
                }
                // The old token is as valid as before; the upstream will reject it again if it is not.
                kept.suspect = false;
                Err(fault)
            }
        };
        if kept.refresh.is_none() {
            kept.refresh = self.refresh.take();
        }
        kept.flight = None;
        let count = kept.refused;
        drop(kept);
        match &result {
            Ok(_) => self.slot.known.forget(),
            Err(fault) if fault.counts() => {
                let refusals = Refusals { count, at: now, fault: fault.clone() };
                self.slot.known.record(&refusals, self.mark.as_ref());
            }
            Err(_) => {}
        }
        self.sender.send_replace(Some(result));
    }
}

impl SlotState {
    fn fail(&mut self, fault: &LoginError, now: SystemTime) {
        let counts = fault.counts();
        self.refused = self.refused.saturating_add(u32::from(counts));
        let sent = !counts && !fault.is_of_connecting();
        self.unanswered = if sent { self.unanswered.saturating_add(1) } else { 0 };
        self.last = Some((now, fault.clone()));
    }

    fn take(&mut self, gained: TokenResponse, now: SystemTime) -> Arc<UpstreamToken> {
        let life =
            gained.ends.duration_since(now).ok().filter(|life| !life.is_zero()).unwrap_or(MIN_LIFETIME);
        let ends = now.checked_add(life).unwrap_or(now);
        self.number += 1;
        let pass = Arc::new(UpstreamToken {
            token: gained.token,
            obtained: now,
            renewed: ends.checked_sub(REFRESH_AHEAD.min(life / 10)).unwrap_or(ends),
            ends,
            number: self.number,
            good: AtomicBool::new(false),
        });
        (self.pass, self.suspect, self.last) = (Some(Arc::clone(&pass)), false, None);
        self.refresh = gained.refresh;
        self.refused = 0;
        self.unanswered = 0;
        pass
    }
}

impl Drop for LoginLease {
    fn drop(&mut self) {
        let mut kept = self.slot.lock_state();
        // A completed login has already cleared the slot, which may hold the next login.
        if kept.flight.as_ref().is_some_and(|(flight, _)| flight.0.same_channel(&self.sender.subscribe())) {
            kept.flight = None;
            if kept.refresh.is_none() {
                kept.refresh = self.refresh.take();
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
