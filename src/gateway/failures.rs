//! What goes wrong again and again: who is told to come later, and how much of it the trail is told one by one.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::limits::network;
use crate::audit::Source;

/// Sources that are remembered at a time.
const MOST_SOURCES: usize = 100_000;
const MINUTE: Duration = Duration::from_mins(1);
/// How often a full table is looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// So many times the refusals of one address are told of a consumer: it is known, and can be stopped.
const CONSUMER: u32 = 10;
/// So many times the refusals of one address are told of all addresses together.
const TOGETHER: u32 = 100;

/// How a failed attempt to authenticate is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// As any.
    Told,
    /// The limit is reached now: refused as too many, and recorded as such, once.
    LockedOut,
    /// The limit was reached before: refused, and counted only.
    Flood,
}

/// Failed attempts and refusals of the minute, by who made them. Kept over reloads.
#[derive(Debug, Default)]
pub struct Failures {
    attempts: Windows,
    refusals: Windows,
    together: Mutex<Option<Window>>,
}

impl Failures {
    /// Notes a failed attempt to authenticate from `address`.
    #[must_use]
    pub fn note(&self, address: IpAddr, most: u32, now: Instant) -> Attempt {
        if most == 0 {
            return Attempt::Told;
        }
        match self.attempts.count(Source::Address(network(address)), now) {
            failed if failed <= most => Attempt::Told,
            failed if failed == most + 1 => Attempt::LockedOut,
            _ => Attempt::Flood,
        }
    }

    /// Notes a refusal; whether the trail is told of it by itself. What is more than so many a minute it
    /// is told in sum: a stranger must not fill the disk that every call needs.
    #[must_use]
    pub fn is_told(&self, source: &Source, per_address: u32, now: Instant) -> bool {
        if per_address == 0 {
            return true;
        }
        let refused = self.refusals.count(source.clone(), now);
        match source {
            Source::Consumer(_) => refused <= per_address.saturating_mul(CONSUMER),
            Source::Address(_) | Source::Others => {
                refused <= per_address && self.together(now) <= per_address.saturating_mul(TOGETHER)
            }
        }
    }

    fn together(&self, now: Instant) -> u32 {
        let mut together = self.together.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        together.get_or_insert(Window { began: now, counted: 0 }).count(now)
    }
}

/// Counts of a minute, by source. Bounded: once full, what is over a minute old is forgotten, and while
/// that does not help, newcomers share one count.
#[derive(Debug, Default)]
struct Windows {
    table: DashMap<Source, Window>,
    /// When the table was last looked through for minutes that are over.
    swept: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    counted: u32,
}

impl Window {
    fn count(&mut self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.began) >= MINUTE {
            *self = Self { began: now, counted: 0 };
        }
        self.counted = self.counted.saturating_add(1);
        self.counted
    }
}

impl Windows {
    fn count(&self, mut source: Source, now: Instant) -> u32 {
        if self.table.len() >= MOST_SOURCES && !self.table.contains_key(&source) {
            self.sweep(now);
            if self.table.len() >= MOST_SOURCES {
                source = Source::Others;
            }
        }
        self.table.entry(source).or_insert(Window { began: now, counted: 0 }).count(now)
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
        let (failures, now) = (Failures::default(), Instant::now());
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let told: Vec<Attempt> = (0..4).map(|_| failures.note(one, 2, now)).collect();
        assert_eq!(told, [Attempt::Told, Attempt::Told, Attempt::LockedOut, Attempt::Flood]);
        assert_eq!(failures.note(other, 2, now), Attempt::Told);
        assert_eq!(failures.note(one, 2, now + MINUTE), Attempt::Told);
        assert_eq!(failures.note(one, 0, now), Attempt::Told);
    }

    #[test]
    fn addresses_beyond_all_room_share_one_count_until_there_is_room() {
        let (failures, now) = (Failures::default(), Instant::now());
        let address = |number: usize| IpAddr::from(u32::try_from(number).unwrap_or(0).to_be_bytes());
        for number in 0..MOST_SOURCES {
            assert_eq!(failures.note(address(number), 1, now), Attempt::Told);
        }
        let newcomers: Vec<Attempt> =
            (0..3).map(|more| failures.note(address(MOST_SOURCES + more), 1, now)).collect();
        assert_eq!(newcomers, [Attempt::Told, Attempt::LockedOut, Attempt::Flood]);
        assert_eq!(failures.note(address(7), 1, now), Attempt::LockedOut, "known ones keep theirs");
        assert_eq!(failures.attempts.table.len(), MOST_SOURCES + 1);
        let began = Instant::now();
        for number in 0..3000 {
            assert_eq!(failures.note(address(MOST_SOURCES + number), 1, now), Attempt::Flood);
        }
        assert!(began.elapsed() < Duration::from_secs(2), "each looks through all: {:?}", began.elapsed());
        assert_eq!(failures.note(address(MOST_SOURCES), 1, now + MINUTE), Attempt::Told);
        assert_eq!(failures.attempts.table.len(), 1);
    }

    #[test]
    fn so_many_refusals_are_told_of_an_address_and_more_of_a_consumer() {
        let (failures, now) = (Failures::default(), Instant::now());
        let told =
            |source: &Source, tried: usize| (0..tried).filter(|_| failures.is_told(source, 3, now)).count();
        let consumer = Source::Consumer(Name::parse("tool").unwrap_or_else(|| unreachable!()));
        assert_eq!(told(&consumer, 100), 30);
        let address = |number: u32| Source::Address(IpAddr::from(number.to_be_bytes()));
        assert_eq!(told(&address(1), 100), 3);
        // What one address had too much does not count against all.
        assert_eq!((2..=100).map(|number| told(&address(number), 4)).sum::<usize>(), 297);
        assert_eq!(told(&address(101), 4), 0, "all addresses together");
        assert!(failures.is_told(&address(1), 3, now + MINUTE), "another minute");
        assert!((0..100).all(|_| failures.is_told(&address(1), 0, now)), "no limit");
    }
}
