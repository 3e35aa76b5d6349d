//! Refusals that the trail records as one count per source, instead of one event each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::clock::rfc3339;
use crate::name::Name;

/// The source of a refused call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RefusalSource {
    /// An IPv4 address, or a /64 network of IPv6.
    Address(IpAddr),
    /// A consumer with this name.
    Consumer(Name),
    /// All sources beyond the largest number of sources.
    Others,
}

/// How long counts are gathered until they are recorded.
const REPORT_AFTER: Duration = Duration::from_mins(1);
/// The largest number of sources that are counted separately.
const MOST_SOURCES: usize = 10_000;

/// Counts of suppressed refusals that are not recorded on the trail yet.
#[derive(Debug, Default)]
pub(super) struct SuppressedCounts {
    by: HashMap<RefusalSource, Flood>,
    /// The time of the first suppressed refusal.
    began: Option<Instant>,
}

#[derive(Debug)]
struct Flood {
    since: SystemTime,
    began: Instant,
    refusals: u64,
}

impl SuppressedCounts {
    /// Counts one refusal at this time. Returns whether it is the first since counts were last taken.
    pub(super) fn count(&mut self, mut source: RefusalSource, (time, now): (SystemTime, Instant)) -> bool {
        if self.by.len() >= MOST_SOURCES && !self.by.contains_key(&source) {
            source = RefusalSource::Others;
        }
        let first = self.began.is_none();
        self.began.get_or_insert(now);
        let flood = self.by.entry(source).or_insert(Flood { since: time, began: now, refusals: 0 });
        flood.refusals += 1;
        first
    }

    /// Returns the time until the counts are due; `None` if there are none.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        Some((self.began? + REPORT_AFTER).saturating_duration_since(now))
    }

    /// Takes the counts if they are due, or in any case with `all`. Returns the details of one event for each source.
    pub(super) fn take_due(&mut self, now: Instant, all: bool) -> Vec<Vec<(&'static str, Value)>> {
        if !all && self.wait(now).is_none_or(|wait| !wait.is_zero()) {
            return Vec::new();
        }
        let due = |flood: &Flood| all || now.saturating_duration_since(flood.began) >= REPORT_AFTER;
        let reports = self.by.extract_if(|_, flood| due(flood)).map(|(source, flood)| flood.details(&source));
        let reports = reports.collect();
        self.began = self.by.values().map(|flood| flood.began).min();
        reports
    }
}

impl Flood {
    fn details(&self, source: &RefusalSource) -> Vec<(&'static str, Value)> {
        let source = match source {
            RefusalSource::Address(IpAddr::V4(address)) => Some(("peer", address.to_string())),
            RefusalSource::Address(IpAddr::V6(network)) => Some(("peer", format!("{network}/64"))),
            RefusalSource::Consumer(name) => Some(("consumer", name.to_string())),
            RefusalSource::Others => None,
        };
        let source = source.map(|(member, name)| (member, name.into()));
        let counted = [("refusals", self.refusals.into()), ("since", rfc3339(self.since).into())];
        source.into_iter().chain(counted).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn sums_are_reported_once_and_when_their_minute_is_over() {
        let (mut floods, began) = (SuppressedCounts::default(), Instant::now());
        assert_eq!(floods.wait(began), None);
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]));
        for _flood in 0..3 {
            floods.count(RefusalSource::Address(v4), (UNIX_EPOCH, began));
        }
        let later = began + Duration::from_secs(10);
        floods.count(RefusalSource::Address(v6), (UNIX_EPOCH + Duration::from_secs(10), later));
        assert_eq!(floods.take_due(later, false), Vec::<Vec<_>>::new());
        assert_eq!(floods.wait(later), Some(Duration::from_secs(50)));
        let reports = floods.take_due(began + REPORT_AFTER, false);
        let details = |peer: &str, refusals: u64, since: &str| -> Vec<(&'static str, Value)> {
            vec![("peer", peer.into()), ("refusals", refusals.into()), ("since", since.into())]
        };
        assert_eq!(reports, [details("192.0.2.1", 3, "1970-01-01T00:00:00.000000Z")]);
        let v6 = details("2001:db8::/64", 1, "1970-01-01T00:00:10.000000Z");
        assert_eq!(floods.take_due(later, true), [v6]);
        assert_eq!(floods.wait(later), None);
    }

    #[test]
    fn there_is_room_for_so_many_sources_and_none_is_left_out() {
        let (mut floods, now) = (SuppressedCounts::default(), (UNIX_EPOCH, Instant::now()));
        for number in 0..u32::try_from(MOST_SOURCES).unwrap_or(0) + 7 {
            floods.count(RefusalSource::Address(IpAddr::from(number.to_be_bytes())), now);
        }
        let reports = floods.take_due(now.1, true);
        assert_eq!(reports.len(), MOST_SOURCES + 1);
        assert!(
            reports
                .iter()
                .any(|members| matches!(members.as_slice(), [("refusals", refusals), ..] if *refusals == 7))
        );
    }
}
