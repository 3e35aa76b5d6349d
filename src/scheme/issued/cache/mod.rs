//! Cache of the access tokens that upstreams issue, shared by all workers and state across reloads. Refreshes are
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

use super::error::{LoginError, Rejection};
use super::refused::{LoginIdentity, Refusals};
use crate::code::Failure;
use crate::custody::Mark;
use crate::name::Name;
use crate::secret::Secret;

/// The time without a login after too many rejected ones, unless the credential changes. A changed credential has
/// a new slot.
const SUSPENSION: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// The first back-off after a login without a response. It doubles after each login that was sent, since some upstreams
/// check a password and then fail to respond.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The age below which a token that was never accepted is not given up after a rejection.
const FRESH: Duration = Duration::from_secs(30);
/// The maximum number of tokens given up within a minute after definite rejections.
const MOST_ENDED: usize = 60;
/// The maximum number of tokens given up within a minute after possible rejections, which may concern only
/// the consumer's permissions.
const MOST_DOUBTED: usize = 12;
/// The longest time before its end at which a token is refreshed.
const REFRESH_AHEAD: Duration = Duration::from_secs(30);
/// The longest wait for a login while a token exists that may still be valid.
pub(crate) const SUSPECT_WAIT: Duration = Duration::from_secs(5);
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
    accepted: AtomicBool,
}

impl UpstreamToken {
    /// Records that the upstream accepted the token.
    pub fn mark_accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    /// Returns the secret token.
    #[must_use]
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// Returns whether both are the same token.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// The parsed response to a login.
pub(crate) struct TokenResponse {
    pub(crate) token: Secret,
    pub(crate) ends: SystemTime,
    /// The refresh token for the next refresh.
    pub(crate) refresh: Option<Secret>,
}

/// The cached token of one credential.
pub struct TokenSlot {
    login: LoginIdentity,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    token: Option<Arc<UpstreamToken>>,
    /// Whether the token may have been rejected. A new one is fetched first, unless that takes too long.
    suspect: bool,
    refresh: Option<Secret>,
    /// The pending login, and when it began.
    pending: Option<(PendingLogin, SystemTime)>,
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
pub(crate) enum Lookup {
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
pub(crate) struct PendingLogin(watch::Receiver<Option<Result<Arc<UpstreamToken>, LoginError>>>);

impl PendingLogin {
    /// Waits for the result; `None` if the login was aborted.
    pub(crate) async fn wait(mut self) -> Option<Result<Arc<UpstreamToken>, LoginError>> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|result| result.clone())
    }
}

/// The exclusive right to fetch a slot's token. Dropping it gives the right to the next caller.
pub(crate) struct LoginLease {
    slot: Arc<TokenSlot>,
    sender: watch::Sender<Option<Result<Arc<UpstreamToken>, LoginError>>>,
    refresh: Option<Secret>,
    /// The mark of the rejected secret.
    mark: Option<Mark>,
}

impl TokenSlot {
    /// Creates an empty slot for a login.
    #[must_use]
    pub fn new(login: LoginIdentity) -> Self {
        Self { login, state: Mutex::default() }
    }

    /// Restores the rejected logins recorded before a restart. Returns whether there were any. `is_marked` returns
    /// whether a mark belongs to the credential's secret.
    pub fn restore(&self, is_marked: impl FnOnce(&Mark) -> bool) -> bool {
        let Some(Refusals { count, at, error }) = self.login.find(is_marked) else { return false };
        let mut state = self.lock_state();
        (state.refused, state.last) = (count, Some((at, error)));
        true
    }

    fn lock_state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a token, or what the caller has to do to get one.
    pub(crate) fn lookup(self: &Arc<Self>, now: SystemTime) -> Lookup {
        let mut state = self.lock_state();
        let free = state.pending.is_none() && state.backoff_reason(now).is_none();
        let token = state.token.clone().filter(|token| now < token.ends);
        match (token, state.suspect, state.pending.clone()) {
            (Some(_), true, _) if free => Lookup::Leader(self.lease(&mut state, now)),
            (Some(_), true, Some((pending, since))) if is_within(since, SUSPECT_WAIT, now) => {
                Lookup::Follower(pending)
            }
            (None, _, Some((pending, _))) => Lookup::Follower(pending),
            (Some(token), false, _) if free && now >= token.renewed => {
                Lookup::RefreshAhead(token, self.lease(&mut state, now))
            }
            (Some(token), _, _) => Lookup::Fresh(token),
            (None, _, None) => match state.backoff_reason(now) {
                Some(error) => Lookup::Backoff(error),
                None => Lookup::Leader(self.lease(&mut state, now)),
            },
        }
    }

    fn lease(self: &Arc<Self>, state: &mut SlotState, now: SystemTime) -> LoginLease {
        let (sender, pending) = watch::channel(None);
        state.pending = Some((PendingLogin(pending), now));
        LoginLease { slot: Arc::clone(self), sender, refresh: state.refresh.take(), mark: None }
    }

    /// Returns the cached token if it has not ended; used if no new one could be fetched.
    pub(crate) fn cached(&self, now: SystemTime) -> Option<Arc<UpstreamToken>> {
        self.lock_state().token.clone().filter(|token| now < token.ends)
    }

    /// Returns the names of the upstream and of the credential.
    #[must_use]
    pub fn names(&self) -> (Name, Name) {
        self.login.names
    }

    /// Returns why logins are suspended, if the upstream rejected them.
    #[must_use]
    pub fn refusal(&self, now: SystemTime) -> Option<String> {
        let backoff = self.lock_state().backoff_reason(now).filter(LoginError::counts);
        backoff.map(|error| error.failure.reason)
    }

    /// Reports that an upstream rejected `token`. Returns whether a new token is worth fetching. It is not if the token
    /// is fresh and was never accepted, or if tokens were given up too often.
    pub fn report_rejection(&self, token: &UpstreamToken, ended: Rejection, now: SystemTime) -> bool {
        let mut state = self.lock_state();
        if !state.token.as_ref().is_some_and(|cached| cached.is(token)) {
            return true;
        }
        let fresh = is_within(token.obtained, FRESH, now);
        let most = match ended {
            Rejection::Definite => MOST_ENDED,
            Rejection::Possible => MOST_DOUBTED,
        };
        state.ended.retain(|(at, _)| is_within(*at, MINUTE, now));
        // Each kind is counted separately: rejections of one consumer's calls must not hide that the token has ended.
        let lately = state.ended.iter().filter(|(_, kind)| *kind == ended).count();
        if (fresh && !token.accepted.load(Ordering::Relaxed)) || lately >= most {
            return false;
        }
        if !state.suspect {
            state.ended.push((now, ended));
        }
        match ended {
            Rejection::Definite => state.token = None,
            Rejection::Possible => state.suspect = true,
        }
        true
    }
}

/// Returns whether `now` is less than `span` after `at`. An `at` slightly in the future was recorded by another worker
/// that read the clock later. An `at` further in the future stems from a clock that was set back, and is ignored.
fn is_within(at: SystemTime, span: Duration, now: SystemTime) -> bool {
    now.duration_since(at).map_or_else(|ahead| ahead.duration() < CLOCK_SKEW, |passed| passed < span)
}

impl SlotState {
    /// Returns why no login may be tried now.
    fn backoff_reason(&self, now: SystemTime) -> Option<LoginError> {
        let (at, last) = self.last.as_ref()?;
        let Some(most) = last.max_failures() else {
            let longer = 1 << self.unanswered.saturating_sub(1).min(5);
            return is_within(*at, (PAUSE * longer).min(LONGEST_PAUSE), now).then(|| last.clone());
        };
        (self.refused >= most && is_within(*at, SUSPENSION, now)).then(|| {
            let until = at.checked_add(SUSPENSION).and_then(|until| Timestamp::try_from(until).ok());
            let until = until.map(|until| format!("after {until:.0} or ")).unwrap_or_default();
            let (advice, failure) = (last.advice(), &last.failure);
            let reason =
                format!("no login now, but {until}once the credential changes ({advice}): {failure}");
            LoginError { failure: Failure::new(failure.code, reason), verdict: last.verdict }
        })
    }
}

impl LoginLease {
    /// Returns a handle for the callers that wait for this login.
    pub(crate) fn pending(&self) -> PendingLogin {
        PendingLogin(self.sender.subscribe())
    }

    /// Returns the refresh token, which replaces the password.
    pub(crate) fn refresh(&self) -> Option<&Secret> {
        self.refresh.as_ref()
    }

    /// Discards a rejected refresh token.
    pub(crate) fn forget_refresh(&mut self) {
        self.refresh = None;
    }

    /// Stores the mark of a rejected secret, if it is needed to recognise the secret after a restart.
    pub(crate) async fn mark(&mut self, secret: Zeroizing<Vec<u8>>) {
        if self.slot.login.needs_mark() {
            let marked = tokio::task::spawn_blocking(move || Mark::new(&secret)).await;
            self.mark = marked.ok().flatten();
        }
    }

    /// Stores the result, and notifies all waiting callers.
    pub(crate) fn complete(mut self, result: Result<TokenResponse, LoginError>, now: SystemTime) {
        let (upstream, credential) = self.slot.names();
        let mut state = self.slot.lock_state();
        let result = match result {
            Ok(response) => {
                tracing::info!(%upstream, %credential, "logged in");
                Ok(state.store(response, now))
            }
            Err(error) => {
                state.fail(&error, now);
                if let Some(backoff) = state.backoff_reason(now).filter(|_| error.counts()) {
                    tracing::error!(%upstream, %credential, reason = %backoff.failure, "the upstream refuses the login");
                } else {
                    tracing::warn!(%upstream, %credential, reason = %error.failure, "no login");
                }
                // The old token is as valid as before; the upstream will reject it again if it is not.
                state.suspect = false;
                Err(error)
            }
        };
        if state.refresh.is_none() {
            state.refresh = self.refresh.take();
        }
        state.pending = None;
        let count = state.refused;
        drop(state);
        match &result {
            Ok(_) => self.slot.login.forget(),
            Err(error) if error.counts() => {
                let refusals = Refusals { count, at: now, error: error.clone() };
                self.slot.login.record(&refusals, self.mark.as_ref());
            }
            Err(_) => {}
        }
        self.sender.send_replace(Some(result));
    }
}

impl SlotState {
    fn fail(&mut self, error: &LoginError, now: SystemTime) {
        let counts = error.counts();
        self.refused = self.refused.saturating_add(u32::from(counts));
        let sent = !counts && !error.is_of_connecting();
        self.unanswered = if sent { self.unanswered.saturating_add(1) } else { 0 };
        self.last = Some((now, error.clone()));
    }

    fn store(&mut self, response: TokenResponse, now: SystemTime) -> Arc<UpstreamToken> {
        let life =
            response.ends.duration_since(now).ok().filter(|life| !life.is_zero()).unwrap_or(MIN_LIFETIME);
        let ends = now.checked_add(life).unwrap_or(now);
        self.number += 1;
        let token = Arc::new(UpstreamToken {
            token: response.token,
            obtained: now,
            renewed: ends.checked_sub(REFRESH_AHEAD.min(life / 10)).unwrap_or(ends),
            ends,
            number: self.number,
            accepted: AtomicBool::new(false),
        });
        (self.token, self.suspect, self.last) = (Some(Arc::clone(&token)), false, None);
        self.refresh = response.refresh;
        self.refused = 0;
        self.unanswered = 0;
        token
    }
}

impl Drop for LoginLease {
    fn drop(&mut self) {
        let mut state = self.slot.lock_state();
        // A completed login has already cleared the slot, which may hold the next login.
        if state.pending.as_ref().is_some_and(|(pending, _)| pending.0.same_channel(&self.sender.subscribe()))
        {
            state.pending = None;
            if state.refresh.is_none() {
                state.refresh = self.refresh.take();
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
