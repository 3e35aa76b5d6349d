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
const AHEAD: Duration = Duration::from_secs(30);
/// How long a login is waited for while there is a pass that may be good yet.
pub(super) const DOUBT: Duration = Duration::from_secs(5);
/// How long a pass is used that seems to have ended when it comes: its clock is not ours.
const LEAST: Duration = Duration::from_secs(30);
/// How long may pass between reading the clock and using what was read.
const MOMENT: Duration = Duration::from_secs(5);

/// A token or cookie that an upstream gave. Only [`Slot`] makes one.
pub struct Pass {
    token: Secret,
    obtained: SystemTime,
    renewed: SystemTime,
    ends: SystemTime,
    number: u64,
    /// Whether a call was made with it that the upstream did not refuse.
    good: AtomicBool,
}

impl Pass {
    /// Takes note that the upstream took it.
    pub fn was_good(&self) {
        self.good.store(true, Ordering::Relaxed);
    }

    /// The token itself, to be put on a request.
    #[must_use]
    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    /// Whether both are the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// What was read of a login's answer.
pub(super) struct Gained {
    pub(super) token: Secret,
    pub(super) ends: SystemTime,
    /// By what the next may be obtained.
    pub(super) refresh: Option<Secret>,
}

/// Why there is no pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) verdict: Verdict,
}

/// What a failed login says of the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: there was no answer, or the upstream is ill.
    Unheard,
    /// Nothing: the upstream answered, but not about the credential (404, 429).
    Unjudged,
    /// The upstream refuses it.
    Refused,
    /// Nothing but a person can help, with this advice: another try would only count against the account.
    Barred(&'static str),
}

impl Fault {
    /// Whether there was no connection, so that nothing was sent.
    pub(super) fn is_of_connecting(&self) -> bool {
        matches!(self.code, Code::UpstreamUnreachable | Code::UpstreamDns | Code::UpstreamTls)
    }

    /// The upstream has refused the credential.
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self { code: Code::UpstreamAuth, reason: reason.into(), verdict: Verdict::Refused }
    }

    /// The upstream answered something else than what a login gives.
    pub(super) fn unjudged(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unjudged, ..Self::refused(reason) }
    }

    /// Whether it counts against the account.
    pub(super) fn counts(&self) -> bool {
        self.most().is_some()
    }

    /// How many such faults in a row claviger risks; `None` where they do not count against the account.
    fn most(&self) -> Option<u32> {
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

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let reason = format!("the login: {}", failure.reason);
        Self { code: failure.code, reason, verdict: Verdict::Unheard }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { code: fault.code, reason: fault.reason }
    }
}

/// Whether an upstream's answer says that a pass has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It does: a 401.
    Surely,
    /// It may: a refusal can have other reasons.
    Perhaps,
}

/// The pass of one credential.
pub struct Slot {
    known: Known,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    pass: Option<Arc<Pass>>,
    /// Whether the pass may have ended: another is obtained first, unless that takes long.
    doubted: bool,
    refresh: Option<Secret>,
    /// The login that is under way, and since when.
    flight: Option<(Flight, SystemTime)>,
    /// How many logins in a row were refused.
    refused: u32,
    /// When passes were given up by the upstream's word, the latest last, and by which.
    ended: Vec<(SystemTime, Ended)>,
    last: Option<(SystemTime, Fault)>,
    /// Logins in a row that were sent and not answered: each may have counted against the account.
    unheard: u32,
    number: u64,
}

/// What there is to do for a pass.
pub(super) enum Look {
    /// Nothing: use this.
    Good(Arc<Pass>),
    /// Use this, and obtain the next meanwhile.
    Due(Arc<Pass>, Lease),
    /// Obtain it.
    Turn(Lease),
    /// Wait: another obtains it.
    Wait(Flight),
    /// There is none now, and it is too early to try again.
    Held(Fault),
}

/// A login that is under way, as those see it who wait for it.
#[derive(Clone)]
pub(super) struct Flight(watch::Receiver<Option<Result<Arc<Pass>, Fault>>>);

impl Flight {
    /// How it ended; `None` where it was cut off.
    pub(super) async fn landed(mut self) -> Option<Result<Arc<Pass>, Fault>> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone())
    }
}

/// The right to obtain a slot's pass, which one has at a time. Dropped, it is another's turn.
pub(super) struct Lease {
    slot: Arc<Slot>,
    tell: watch::Sender<Option<Result<Arc<Pass>, Fault>>>,
    refresh: Option<Secret>,
    /// The mark of the secret that was refused.
    mark: Option<Mark>,
}

impl Slot {
    /// An empty one, for the login by which it is known.
    #[must_use]
    pub fn new(known: Known) -> Self {
        Self { known, kept: Mutex::default() }
    }

    /// Recalls what was refused before a restart; whether anything was. `is_marked` says whether a mark is that of
    /// the credential's secret.
    pub fn recall(&self, is_marked: impl FnOnce(&Mark) -> bool) -> bool {
        let Some(Refusals { count, at, fault }) = self.known.find(is_marked) else {
            return false;
        };
        let mut kept = self.kept();
        (kept.refused, kept.last) = (count, Some((at, fault)));
        true
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to do for a pass.
    pub(super) fn look(self: &Arc<Self>, now: SystemTime) -> Look {
        let mut kept = self.kept();
        let free = kept.flight.is_none() && kept.held(now).is_none();
        let pass = kept.pass.clone().filter(|pass| now < pass.ends);
        match (pass, kept.doubted, kept.flight.clone()) {
            (Some(_), true, _) if free => Look::Turn(self.lease(&mut kept, now)),
            (Some(_), true, Some((flight, since))) if within(since, DOUBT, now) => Look::Wait(flight),
            (None, _, Some((flight, _))) => Look::Wait(flight),
            (Some(pass), false, _) if free && now >= pass.renewed => {
                Look::Due(pass, self.lease(&mut kept, now))
            }
            (Some(pass), _, _) => Look::Good(pass),
            (None, _, None) => match kept.held(now) {
                Some(fault) => Look::Held(fault),
                None => Look::Turn(self.lease(&mut kept, now)),
            },
        }
    }

    fn lease(self: &Arc<Self>, kept: &mut Kept, now: SystemTime) -> Lease {
        let (tell, flight) = watch::channel(None);
        kept.flight = Some((Flight(flight), now));
        Lease { slot: Arc::clone(self), tell, refresh: kept.refresh.take(), mark: None }
    }

    /// The pass that is left where no other could be obtained.
    pub(super) fn left(&self, now: SystemTime) -> Option<Arc<Pass>> {
        self.kept().pass.clone().filter(|pass| now < pass.ends)
    }

    /// The upstream's name, and the credential's.
    #[must_use]
    pub fn names(&self) -> (Name, Name) {
        self.known.names
    }

    /// Why no login is tried for an hour, where the upstream refused it.
    #[must_use]
    pub fn refusal(&self, now: SystemTime) -> Option<String> {
        self.kept().held(now).filter(|fault| fault.most().is_some()).map(|fault| fault.reason)
    }

    /// Takes note that `pass` may have ended; whether another is worth asking for. It is not where the
    /// pass came just now and was never good, nor again and again.
    pub fn note(&self, pass: &Pass, ended: Ended, now: SystemTime) -> bool {
        let mut kept = self.kept();
        if !kept.pass.as_ref().is_some_and(|held| held.is(pass)) {
            return true;
        }
        let fresh = within(pass.obtained, FRESH, now);
        let most = match ended {
            Ended::Surely => MOST_ENDED,
            Ended::Perhaps => MOST_DOUBTED,
        };
        kept.ended.retain(|(at, _)| within(*at, MINUTE, now));
        // Each kind by itself: what one consumer is refused must not hide from all that the pass has ended.
        let lately = kept.ended.iter().filter(|(_, kind)| *kind == ended).count();
        if (fresh && !pass.good.load(Ordering::Relaxed)) || lately >= most {
            return false;
        }
        if !kept.doubted {
            kept.ended.push((now, ended));
        }
        match ended {
            Ended::Surely => kept.pass = None,
            Ended::Perhaps => kept.doubted = true,
        }
        true
    }
}

/// Whether `now` is less than `span` after `at`. What is to come in a moment was noted by another worker,
/// who read the clock later and was here sooner; what is to come later is of a clock that was set back,
/// and counts for nothing.
fn within(at: SystemTime, span: Duration, now: SystemTime) -> bool {
    now.duration_since(at).map_or_else(|ahead| ahead.duration() < MOMENT, |passed| passed < span)
}

impl Kept {
    /// Why nothing may be tried now.
    fn held(&self, now: SystemTime) -> Option<Fault> {
        let (at, last) = self.last.as_ref()?;
        let Some(most) = last.most() else {
            let longer = 1 << self.unheard.saturating_sub(1).min(5);
            return within(*at, (PAUSE * longer).min(LONGEST_PAUSE), now).then(|| last.clone());
        };
        (self.refused >= most && within(*at, HELD, now)).then(|| {
            let until = at.checked_add(HELD).and_then(|until| Timestamp::try_from(until).ok());
            let until = until.map(|until| format!("after {until:.0} or ")).unwrap_or_default();
            let (advice, reason) = (last.advice(), &last.reason);
            let reason = format!("no login now, but {until}once the credential changes ({advice}): {reason}");
            Fault { reason, ..last.clone() }
        })
    }
}

impl Lease {
    /// What those wait for who come meanwhile.
    pub(super) fn flight(&self) -> Flight {
        Flight(self.tell.subscribe())
    }

    /// By what the next pass may be obtained without the password.
    pub(super) fn refresh(&self) -> Option<&Secret> {
        self.refresh.as_ref()
    }

    /// What was refused is not tried again.
    pub(super) fn forget_refresh(&mut self) {
        self.refresh = None;
    }

    /// Takes note of the secret that was refused, where it must be recognised after a restart.
    pub(super) async fn mark(&mut self, secret: Zeroizing<Vec<u8>>) {
        if self.slot.known.needs_mark() {
            let marked = tokio::task::spawn_blocking(move || Mark::of(&secret)).await;
            self.mark = marked.ok().flatten();
        }
    }

    /// Tells everybody how it ended.
    pub(super) fn land(mut self, landed: Result<Gained, Fault>, now: SystemTime) {
        let (upstream, credential) = self.slot.names();
        let mut kept = self.slot.kept();
        let landed = match landed {
            Ok(gained) => {
                tracing::info!(%upstream, %credential, "logged in");
                Ok(kept.take(gained, now))
            }
            Err(fault) => {
                kept.fail(&fault, now);
                if let Some(held) = kept.held(now).filter(|_| fault.most().is_some()) {
                    tracing::error!(%upstream, %credential, reason = %held.reason, "the upstream refuses the login");
                } else {
                    tracing::warn!(%upstream, %credential, reason = %fault.reason, "no login");
                }
                // It is as good as it was; the upstream will say so again if not.
                kept.doubted = false;
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
                self.slot.known.note(&refusals, self.mark.as_ref());
            }
            Err(_) => {}
        }
        self.tell.send_replace(Some(landed));
    }
}

impl Kept {
    fn fail(&mut self, fault: &Fault, now: SystemTime) {
        let counts = fault.counts();
        self.refused = self.refused.saturating_add(u32::from(counts));
        let sent = !counts && !fault.is_of_connecting();
        self.unheard = if sent { self.unheard.saturating_add(1) } else { 0 };
        self.last = Some((now, fault.clone()));
    }

    fn take(&mut self, gained: Gained, now: SystemTime) -> Arc<Pass> {
        let life = gained.ends.duration_since(now).ok().filter(|life| !life.is_zero()).unwrap_or(LEAST);
        let ends = now.checked_add(life).unwrap_or(now);
        self.number += 1;
        let pass = Arc::new(Pass {
            token: gained.token,
            obtained: now,
            renewed: ends.checked_sub(AHEAD.min(life / 10)).unwrap_or(ends),
            ends,
            number: self.number,
            good: AtomicBool::new(false),
        });
        (self.pass, self.doubted, self.last) = (Some(Arc::clone(&pass)), false, None);
        self.refresh = gained.refresh;
        self.refused = 0;
        self.unheard = 0;
        pass
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut kept = self.slot.kept();
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
