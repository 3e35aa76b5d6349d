//! What goes wrong again and again: who is told to come later, and how much of it the trail is told one by one.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::limits::network;
use crate::audit::RefusalSource;

/// Sources that are remembered at a time.
const MOST_SOURCES: usize = 100_000;
const MINUTE: Duration = Duration::from_mins(1);
/// How often a full table is looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// So many times the refusals of one address are told of a consumer: it is known, and can be stopped.
const CONSUMER: u32 = 10;
/// So many times the refusals of one address are told of all addresses together.
const TOGETHER: u32 = 100;
/// What a refusal may take of the trail, on the average, in bytes: who writes longer ones is told of less often.
const REFUSAL: u64 = 1024;
/// Wrong signatures that are explained in a minute, of all addresses together: each costs a millisecond.
const EXPLAINED: u32 = 600;

/// How a failed attempt to authenticate is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// As any.
    Counted,
    /// The limit is reached now: refused as too many, and recorded as such, once.
    LockedOut,
    /// The limit was reached before: refused, and counted only.
    AlreadyLocked,
}

/// Failed attempts and refusals of the minute, by who made them. Kept over reloads.
#[derive(Debug, Default)]
pub struct FailureLimiter {
    attempts: KeyedCounters,
    refusals: KeyedCounters,
    together: Mutex<Option<Window>>,
    explained: Mutex<Option<Window>>,
}

impl FailureLimiter {
    /// Notes a failed attempt to authenticate from `address`.
    #[must_use]
    pub fn record(&self, address: IpAddr, most: u32, now: Instant) -> AuthFailure {
        if most == 0 {
            return AuthFailure::Counted;
        }
        match self.attempts.count(RefusalSource::Address(network(address)), now).counted {
            failed if failed <= most => AuthFailure::Counted,
            failed if failed == most + 1 => AuthFailure::LockedOut,
            _ => AuthFailure::AlreadyLocked,
        }
    }

    /// Notes a refusal; whether the trail is told of it by itself. What is more than so many a minute it
    /// is told in sum: a stranger must not fill the disk that every call needs.
    #[must_use]
    pub fn is_recorded(&self, source: &RefusalSource, per_address: u32, now: Instant) -> bool {
        if per_address == 0 {
            return true;
        }
        let refused = self.refusals.count(source.clone(), now);
        match source {
            RefusalSource::Consumer(_) => refused.is_within(per_address.saturating_mul(CONSUMER)),
            RefusalSource::Address(_) | RefusalSource::Others => {
                refused.is_within(per_address)
                    && count(&self.together, now).is_within(per_address.saturating_mul(TOGETHER))
            }
        }
    }

    /// Notes how many bytes of the trail a refusal took that it was told by itself.
    pub fn add_written(&self, source: &RefusalSource, bytes: usize, now: Instant) {
        self.refusals.add_for(source, bytes);
        if !matches!(source, RefusalSource::Consumer(_)) {
            with(&self.together, now, |together| together.add_bytes(bytes));
        }
    }

    /// Whether there is time to find out why one more signature does not verify. To be asked only of an address
    /// whose failures are below the limit.
    #[must_use]
    pub fn may_explain(&self, now: Instant) -> bool {
        count(&self.explained, now).counted <= EXPLAINED
    }
}

/// Counts one more of this minute.
fn count(window: &Mutex<Option<Window>>, now: Instant) -> Window {
    with(window, now, |window| window.count(now))
}

fn with<T>(window: &Mutex<Option<Window>>, now: Instant, then: impl FnOnce(&mut Window) -> T) -> T {
    let mut window = window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    then(window.get_or_insert(Window::new(now)))
}

/// Counts of a minute, by source. Bounded: once full, what is over a minute old is forgotten, and while
/// that does not help, newcomers share one count.
#[derive(Debug, Default)]
struct KeyedCounters {
    table: DashMap<RefusalSource, Window>,
    /// When the table was last looked through for minutes that are over.
    swept: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    counted: u32,
    /// What of it was written to the trail, in bytes.
    written: u64,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, counted: 0, written: 0 }
    }

    fn count(&mut self, now: Instant) -> Self {
        if now.saturating_duration_since(self.began) >= MINUTE {
            *self = Self::new(now);
        }
        self.counted = self.counted.saturating_add(1);
        *self
    }

    fn add_bytes(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Whether it is no more than so many, and what was written of them before no more than so many usual ones are.
    fn is_within(self, most: u32) -> bool {
        self.counted <= most && self.written < u64::from(most) * REFUSAL
    }
}

impl KeyedCounters {
    fn count(&self, mut source: RefusalSource, now: Instant) -> Window {
        if self.table.len() >= MOST_SOURCES && !self.table.contains_key(&source) {
            self.sweep(now);
            if self.table.len() >= MOST_SOURCES {
                source = RefusalSource::Others;
            }
        }
        self.table.entry(source).or_insert(Window::new(now)).count(now)
    }

    /// Notes what was written of what was counted last.
    fn add_for(&self, source: &RefusalSource, bytes: usize) {
        let known = self.table.get_mut(source).or_else(|| self.table.get_mut(&RefusalSource::Others));
        if let Some(mut window) = known {
            window.add_bytes(bytes);
        }
    }

    /// Forgets minutes that are over. Not for every newcomer: a full table is a flood already.
    fn sweep(&self, now: Instant) {
        let Ok(mut swept) = self.swept.try_lock() else { return };
        if swept.is_none_or(|before| now.saturating_duration_since(before) >= SWEEP) {
            *swept = Some(now);
            self.table.retain(|_, window| now.saturating_duration_since(window.began) < MINUTE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    #[test]
    fn an_address_is_locked_out_once_and_only_for_its_failures() {
        let (failures, now) = (FailureLimiter::default(), Instant::now());
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let told: Vec<AuthFailure> = (0..4).map(|_| failures.record(one, 2, now)).collect();
        assert_eq!(
            told,
            [AuthFailure::Counted, AuthFailure::Counted, AuthFailure::LockedOut, AuthFailure::AlreadyLocked]
        );
        assert_eq!(failures.record(other, 2, now), AuthFailure::Counted);
        assert_eq!(failures.record(one, 2, now + MINUTE), AuthFailure::Counted);
        assert_eq!(failures.record(one, 0, now), AuthFailure::Counted);
    }

    #[test]
    fn addresses_beyond_all_room_share_one_count_until_there_is_room() {
        let (failures, now) = (FailureLimiter::default(), Instant::now());
        let address = |number: usize| IpAddr::from(u32::try_from(number).unwrap_or(0).to_be_bytes());
        for number in 0..MOST_SOURCES {
            assert_eq!(failures.record(address(number), 1, now), AuthFailure::Counted);
        }
        let newcomers: Vec<AuthFailure> =
            (0..3).map(|more| failures.record(address(MOST_SOURCES + more), 1, now)).collect();
        assert_eq!(newcomers, [AuthFailure::Counted, AuthFailure::LockedOut, AuthFailure::AlreadyLocked]);
        assert_eq!(failures.record(address(7), 1, now), AuthFailure::LockedOut, "known ones keep theirs");
        assert_eq!(failures.attempts.table.len(), MOST_SOURCES + 1);
        let began = Instant::now();
        for number in 0..3000 {
            assert_eq!(failures.record(address(MOST_SOURCES + number), 1, now), AuthFailure::AlreadyLocked);
        }
        assert!(began.elapsed() < Duration::from_secs(2), "each looks through all: {:?}", began.elapsed());
        assert_eq!(failures.record(address(MOST_SOURCES), 1, now + MINUTE), AuthFailure::Counted);
        assert_eq!(failures.attempts.table.len(), 1);
    }

    #[test]
    fn long_refusals_are_told_less_often() {
        let (failures, now) = (FailureLimiter::default(), Instant::now());
        let told = |source: &RefusalSource, bytes: usize| {
            let tried = (0..1000).filter(|_| {
                let told = failures.is_recorded(source, 10, now);
                if told {
                    failures.add_written(source, bytes, now);
                }
                told
            });
            tried.count()
        };
        let address = |number: u32| RefusalSource::Address(IpAddr::from(number.to_be_bytes()));
        assert_eq!((told(&address(1), 700), told(&address(2), 2048)), (10, 5));
        let consumer = RefusalSource::Consumer(Name::parse("tool").unwrap_or_else(|| unreachable!()));
        assert_eq!(told(&consumer, 10 * 1024), 10);
        // All addresses together write a hundred times what one may.
        let written = (3..1000).map(|number| told(&address(number), 2048) * 2048).sum::<usize>();
        assert!((900 * 1024..1000 * 1024).contains(&written), "{written}");
        assert!(failures.is_recorded(&address(2), 10, now + MINUTE), "another minute");
    }

    #[test]
    fn so_many_signatures_are_explained_in_a_minute() {
        let (failures, now) = (FailureLimiter::default(), Instant::now());
        let explained = (0..EXPLAINED + 100).filter(|_| failures.may_explain(now)).count();
        assert_eq!(u32::try_from(explained), Ok(EXPLAINED));
        assert!(failures.may_explain(now + MINUTE), "another minute");
    }

    #[test]
    fn so_many_refusals_are_told_of_an_address_and_more_of_a_consumer() {
        let (failures, now) = (FailureLimiter::default(), Instant::now());
        let told = |source: &RefusalSource, tried: usize| {
            (0..tried).filter(|_| failures.is_recorded(source, 3, now)).count()
        };
        let consumer = RefusalSource::Consumer(Name::parse("tool").unwrap_or_else(|| unreachable!()));
        assert_eq!(told(&consumer, 100), 30);
        let address = |number: u32| RefusalSource::Address(IpAddr::from(number.to_be_bytes()));
        assert_eq!(told(&address(1), 100), 3);
        // What one address had too much does not count against all.
        assert_eq!((2..=100).map(|number| told(&address(number), 4)).sum::<usize>(), 297);
        assert_eq!(told(&address(101), 4), 0, "all addresses together");
        assert!(failures.is_recorded(&address(1), 3, now + MINUTE), "another minute");
        assert!((0..100).all(|_| failures.is_recorded(&address(1), 0, now)), "no limit");
    }
}
