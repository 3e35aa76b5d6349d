//! What an upstream gives for a login, kept for all workers and over reloads; and whose turn it is to
//! obtain the next: one at a time. A login that the upstream refuses is not repeated: upstreams count
//! refused logins, and lock the account (JumpServer after seven).
//!
//! Times are of the day, since that is how upstreams tell when a pass ends. A clock that is set makes a
//! pass seem older or younger than it is: the upstream's word corrects it.

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

/// How many logins in a row may be refused before claviger waits for [`HELD`].
const MOST_REFUSED: u32 = 2;
/// How long no login is tried after that, unless the credential changes: a changed one has a slot of its own.
const HELD: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// How long until a login is tried again that got no answer; twice as long after each that was sent, since some
/// upstreams judge a password and then fail to say so.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A pass so young that was never good is not what an upstream's refusal is about.
const FRESH: Duration = Duration::from_secs(30);
/// How many passes may be given up within a minute by an upstream's word that they have ended.
const MOST_ENDED: usize = 60;
/// The same where that word may mean something else, as what a consumer may not do.
const MOST_DOUBTED: usize = 12;
/// How long before its end a pass is renewed, at most.
const REFRESH_AHEAD: Duration = Duration::from_secs(30);
/// How long a login is waited for while there is a pass that may be good yet.
pub(in crate::scheme) const SUSPECT_WAIT: Duration = Duration::from_secs(5);
/// How long a pass is used that seems to have ended when it comes: its clock is not ours.
const MIN_LIFETIME: Duration = Duration::from_secs(30);
/// How long may pass between reading the clock and using what was read.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A token or cookie that an upstream gave. Only [`TokenSlot`] makes one.
pub struct UpstreamToken {
    token: Secret,
    obtained: SystemTime,
    renewed: SystemTime,
    ends: SystemTime,
    number: u64,
    /// Whether a call was made with it that the upstream did not refuse.
    good: AtomicBool,
}

impl UpstreamToken {
    /// Takes note that the upstream took it.
    pub fn mark_accepted(&self) {
        self.good.store(true, Ordering::Relaxed);
    }

    /// The token itself, to be put on a request.
    #[must_use]
    pub(in crate::scheme) fn token(&self) -> &Secret {
        &self.token
    }

    /// Whether both are the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// What was read of a login's answer.
pub(in crate::scheme) struct TokenResponse {
    pub(in crate::scheme) token: Secret,
    pub(in crate::scheme) ends: SystemTime,
    /// By what the next may be obtained.
    pub(in crate::scheme) refresh: Option<Secret>,
}

/// Why there is no pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::scheme) struct LoginError {
    pub(in crate::scheme) code: Code,
    pub(in crate::scheme) reason: String,
    pub(in crate::scheme) verdict: Verdict,
}

/// What a failed login says of the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scheme) enum Verdict {
    /// Nothing: there was no answer, or the upstream is ill.
    Unheard,
    /// Nothing: the upstream answered, but not about the credential (404, 429).
    Unjudged,
    /// The upstream refuses it.
    Refused,
    /// Nothing but a person can help, with this advice: another try would only count against the account.
    Barred(&'static str),
}

impl LoginError {
    /// Whether there was no connection, so that nothing was sent.
    pub(in crate::scheme) fn is_of_connecting(&self) -> bool {
        matches!(self.code, Code::UpstreamUnreachable | Code::UpstreamDns | Code::UpstreamTls)
    }

    /// The upstream has refused the credential.
    pub(in crate::scheme) fn refused(reason: impl Into<String>) -> Self {
        Self { code: Code::UpstreamAuth, reason: reason.into(), verdict: Verdict::Refused }
    }

    /// The upstream answered something else than what a login gives.
    pub(in crate::scheme) fn possible(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unjudged, ..Self::refused(reason) }
    }

    /// Whether it counts against the account.
    pub(in crate::scheme) fn counts(&self) -> bool {
        self.max_failures().is_some()
    }

    /// How many such faults in a row claviger risks; `None` where they do not count against the account.
    fn max_failures(&self) -> Option<u32> {
        match self.verdict {
            Verdict::Unheard | Verdict::Unjudged => None,
            Verdict::Refused => Some(MOST_REFUSED),
            Verdict::Barred(_) => Some(1),
        }
    }

    /// What a person can do about it.
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

/// Whether an upstream's answer says that a pass has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It does: a 401.
    Definite,
    /// It may: a refusal can have other reasons.
    Possible,
}

/// The pass of one credential.
pub struct TokenSlot {
    known: Known,
    kept: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    pass: Option<Arc<UpstreamToken>>,
    /// Whether the pass may have ended: another is obtained first, unless that takes long.
    suspect: bool,
    refresh: Option<Secret>,
    /// The login that is under way, and since when.
    flight: Option<(PendingLogin, SystemTime)>,
    /// How many logins in a row were refused.
    refused: u32,
    /// When passes were given up by the upstream's word, the latest last, and by which.
    ended: Vec<(SystemTime, Rejection)>,
    last: Option<(SystemTime, LoginError)>,
    /// Logins in a row that were sent and not answered: each may have counted against the account.
    unanswered: u32,
    number: u64,
}

/// What there is to do for a pass.
pub(in crate::scheme) enum Lookup {
    /// Nothing: use this.
    Fresh(Arc<UpstreamToken>),
    /// Use this, and obtain the next meanwhile.
    RefreshAhead(Arc<UpstreamToken>, LoginLease),
    /// Obtain it.
    Leader(LoginLease),
    /// Wait: another obtains it.
    Follower(PendingLogin),
    /// There is none now, and it is too early to try again.
    Backoff(LoginError),
}

/// A login that is under way, as those see it who wait for it.
#[derive(Clone)]
pub(in crate::scheme) struct PendingLogin(watch::Receiver<Option<Result<Arc<UpstreamToken>, LoginError>>>);

impl PendingLogin {
    /// How it ended; `None` where it was cut off.
    pub(in crate::scheme) async fn wait(mut self) -> Option<Result<Arc<UpstreamToken>, LoginError>> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone())
    }
}

/// The right to obtain a slot's pass, which one has at a time. Dropped, it is another's turn.
pub(in crate::scheme) struct LoginLease {
    slot: Arc<TokenSlot>,
    tell: watch::Sender<Option<Result<Arc<UpstreamToken>, LoginError>>>,
    refresh: Option<Secret>,
    /// The mark of the secret that was refused.
    mark: Option<Mark>,
}

impl TokenSlot {
    /// An empty one, for the login by which it is known.
    #[must_use]
    pub fn new(known: Known) -> Self {
        Self { known, kept: Mutex::default() }
    }

    /// Recalls what was refused before a restart; whether anything was. `is_marked` says whether a mark is that of
    /// the credential's secret.
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

    /// What there is to do for a pass.
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
        let (tell, flight) = watch::channel(None);
        kept.flight = Some((PendingLogin(flight), now));
        LoginLease { slot: Arc::clone(self), tell, refresh: kept.refresh.take(), mark: None }
    }

    /// The pass that is left where no other could be obtained.
    pub(in crate::scheme) fn still_valid(&self, now: SystemTime) -> Option<Arc<UpstreamToken>> {
        self.lock_state().pass.clone().filter(|pass| now < pass.ends)
    }

    /// The upstream's name, and the credential's.
    #[must_use]
    pub fn names(&self) -> (Name, Name) {
        self.known.names
    }

    /// Why no login is tried for an hour, where the upstream refused it.
    #[must_use]
    pub fn refusal(&self, now: SystemTime) -> Option<String> {
        self.lock_state()
            .backoff_reason(now)
            .filter(|fault| fault.max_failures().is_some())
            .map(|fault| fault.reason)
    }

    /// Takes note that `pass` may have ended; whether another is worth asking for. It is not where the
    /// pass came just now and was never good, nor again and again.
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
        // Each kind by itself: what one consumer is refused must not hide from all that the pass has ended.
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

/// Whether `now` is less than `span` after `at`. What is to come in a moment was noted by another worker,
/// who read the clock later and was here sooner; what is to come later is of a clock that was set back,
/// and counts for nothing.
fn with_deadline(at: SystemTime, span: Duration, now: SystemTime) -> bool {
    now.duration_since(at).map_or_else(|ahead| ahead.duration() < CLOCK_SKEW, |passed| passed < span)
}

impl SlotState {
    /// Why nothing may be tried now.
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
    /// What those wait for who come meanwhile.
    pub(in crate::scheme) fn flight(&self) -> PendingLogin {
        PendingLogin(self.tell.subscribe())
    }

    /// By what the next pass may be obtained without the password.
    pub(in crate::scheme) fn refresh(&self) -> Option<&Secret> {
        self.refresh.as_ref()
    }

    /// What was refused is not tried again.
    pub(in crate::scheme) fn forget_refresh(&mut self) {
        self.refresh = None;
    }

    /// Takes note of the secret that was refused, where it must be recognised after a restart.
    pub(in crate::scheme) async fn mark(&mut self, secret: Zeroizing<Vec<u8>>) {
        if self.slot.known.needs_mark() {
            let marked = tokio::task::spawn_blocking(move || Mark::new(&secret)).await;
            self.mark = marked.ok().flatten();
        }
    }

    /// Tells everybody how it ended.
    pub(in crate::scheme) fn complete(mut self, landed: Result<TokenResponse, LoginError>, now: SystemTime) {
        let (upstream, credential) = self.slot.names();
        let mut kept = self.slot.lock_state();
        let landed = match landed {
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
                // It is as good as it was; the upstream will say so again if not.
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
        match &landed {
            Ok(_) => self.slot.known.forget(),
            Err(fault) if fault.counts() => {
                let refusals = Refusals { count, at: now, fault: fault.clone() };
                self.slot.known.record(&refusals, self.mark.as_ref());
            }
            Err(_) => {}
        }
        self.tell.send_replace(Some(landed));
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
        // One that has landed has said so, and it may be another's turn already.
        if kept.flight.as_ref().is_some_and(|(flight, _)| flight.0.same_channel(&self.tell.subscribe())) {
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
