//! Counters for repeated failures. They decide which callers are throttled, and which refusals the
//! trail records individually.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::limits::network;
use crate::audit::RefusalSource;

/// The maximum number of sources in a table.
const MOST_SOURCES: usize = 100_000;
const MINUTE: Duration = Duration::from_mins(1);
/// The shortest interval between two sweeps of a full table.
const SWEEP: Duration = Duration::from_secs(1);
/// The limit for a known consumer, as a multiple of the limit for one address: the operator can stop a consumer.
const CONSUMER: u32 = 10;
/// The limit for all addresses together, as a multiple of the limit for one address.
const TOGETHER: u32 = 100;
/// The average size of a recorded refusal, in bytes. A source whose events are longer has fewer of them recorded.
const REFUSAL: u64 = 1024;
/// The maximum number of wrong signatures that are explained per minute, over all addresses. Each explanation
/// costs a millisecond.
const EXPLAINED: u32 = 600;

/// How the gateway treats a failed attempt to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// Below the limit: the attempt is refused and recorded as usual.
    Counted,
    /// This attempt exceeds the limit: refused with `TooManyFailures` and recorded once.
    LockedOut,
    /// The limit was exceeded before: refused and only counted.
    AlreadyLocked,
}

/// Failed attempts and refusals of the current minute, by source. Kept across reloads.
#[derive(Debug, Default)]
pub struct FailureLimiter {
    attempts: KeyedCounters,
    refusals: KeyedCounters,
    together: Mutex<Option<Window>>,
    explained: Mutex<Option<Window>>,
}

impl FailureLimiter {
    /// Counts a failed attempt to authenticate from `address`. `most` is the limit per minute; 0 means no limit.
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

    /// Counts a refusal and returns whether the trail records it individually. Refusals over the limit per minute are
    /// recorded as one sum, so that an unauthenticated caller cannot fill the disk.
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

    /// Adds the size in bytes of a refusal that was recorded individually.
    pub fn add_written(&self, source: &RefusalSource, bytes: usize, now: Instant) {
        self.refusals.add_for(source, bytes);
        if !matches!(source, RefusalSource::Consumer(_)) {
            with(&self.together, now, |together| together.add_bytes(bytes));
        }
    }

    /// Returns whether the budget allows to explain one more wrong signature. Call this only for an address below
    /// its failure limit.
    #[must_use]
    pub fn may_explain(&self, now: Instant) -> bool {
        count(&self.explained, now).counted <= EXPLAINED
    }
}

/// Counts one more event in the current minute.
fn count(window: &Mutex<Option<Window>>, now: Instant) -> Window {
    with(window, now, |window| window.count(now))
}

fn with<T>(window: &Mutex<Option<Window>>, now: Instant, then: impl FnOnce(&mut Window) -> T) -> T {
    let mut window = window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    then(window.get_or_insert(Window::new(now)))
}

/// Counts of the current minute by source, with a bounded table. A full table is swept of windows older than a minute.
/// If it stays full, new sources share one counter.
#[derive(Debug, Default)]
struct KeyedCounters {
    table: DashMap<RefusalSource, Window>,
    /// The time of the last sweep.
    swept: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    counted: u32,
    /// The bytes that were written to the trail in this window.
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

    /// Returns whether the count is at most `most`, and the bytes written so far are at most the average size of
    /// that many refusals.
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

    /// Adds written bytes to the window of a source.
    fn add_for(&self, source: &RefusalSource, bytes: usize) {
        let known = self.table.get_mut(source).or_else(|| self.table.get_mut(&RefusalSource::Others));
        if let Some(mut window) = known {
            window.add_bytes(bytes);
        }
    }

    /// Removes expired windows, at most once per [`SWEEP`]: a full table already means a flood.
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
        let recorded: Vec<AuthFailure> = (0..4).map(|_| failures.record(one, 2, now)).collect();
        assert_eq!(
            recorded,
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
        let recorded = |source: &RefusalSource, bytes: usize| {
            let tried = (0..1000).filter(|_| {
                let recorded = failures.is_recorded(source, 10, now);
                if recorded {
                    failures.add_written(source, bytes, now);
                }
                recorded
            });
            tried.count()
        };
        let address = |number: u32| RefusalSource::Address(IpAddr::from(number.to_be_bytes()));
        assert_eq!((recorded(&address(1), 700), recorded(&address(2), 2048)), (10, 5));
        let consumer = RefusalSource::Consumer(Name::parse("tool").unwrap_or_else(|| unreachable!()));
        assert_eq!(recorded(&consumer, 10 * 1024), 10);
        // All addresses together may write a hundred times as much as one address.
        let written = (3..1000).map(|number| recorded(&address(number), 2048) * 2048).sum::<usize>();
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
        let recorded = |source: &RefusalSource, tried: usize| {
            (0..tried).filter(|_| failures.is_recorded(source, 3, now)).count()
        };
        let consumer = RefusalSource::Consumer(Name::parse("tool").unwrap_or_else(|| unreachable!()));
        assert_eq!(recorded(&consumer, 100), 30);
        let address = |number: u32| RefusalSource::Address(IpAddr::from(number.to_be_bytes()));
        assert_eq!(recorded(&address(1), 100), 3);
        // Refusals over the limit of one address do not count against the limit of all addresses.
        assert_eq!((2..=100).map(|number| recorded(&address(number), 4)).sum::<usize>(), 297);
        assert_eq!(recorded(&address(101), 4), 0, "all addresses together");
        assert!(failures.is_recorded(&address(1), 3, now + MINUTE), "another minute");
        assert!((0..100).all(|_| failures.is_recorded(&address(1), 0, now)), "no limit");
    }
}
