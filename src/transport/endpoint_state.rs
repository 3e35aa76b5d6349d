//! The state of an endpoint: its circuit (up or down) and its load. All workers share it. It is kept across reloads as
//! long as the upstream has the endpoint.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::origin::Origin;

/// The number of consecutive failures after which an endpoint is down.
const MOST_FAILURES: u32 = 3;
/// The first back-off of an endpoint that is down; it doubles after every failure.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest back-off of an endpoint that is down.
const LONGEST: Duration = Duration::from_secs(30);
/// The minimum interval between two log lines of the same kind.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// The state of one endpoint. The status of a response never counts: only an endpoint that does not respond is down.
#[derive(Debug)]
pub struct EndpointState {
    upstream: String,
    origin: String,
    in_flight: AtomicI64,
    /// Whether the record holds failures. Every call reads this flag, so calls to a healthy endpoint take no lock.
    has_failures: AtomicBool,
    down: AtomicBool,
    /// Whether the endpoint has responded since the last health check was due. Mostly read, rarely written, for
    /// the same reason.
    has_responded: AtomicBool,
    /// Whether the endpoint has ever responded.
    known: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// The number of consecutive calls without a response.
    missed: u32,
    /// The number of consecutive health checks that failed.
    ill: u32,
    /// The time at which an endpoint that is down may be tried again.
    next: Option<Instant>,
    pause: Duration,
    /// The time at which the next health check is due.
    check: Option<Instant>,
    /// The time of the last log line, for each kind of failure.
    logged: Vec<(&'static str, Instant)>,
}

/// One call in flight, counted until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl EndpointState {
    /// Creates the state of a healthy endpoint. `upstream` is the name of its upstream.
    #[must_use]
    pub fn new(upstream: &str, origin: &Origin) -> Self {
        Self {
            upstream: upstream.to_owned(),
            origin: origin.to_string(),
            in_flight: AtomicI64::new(0),
            has_failures: AtomicBool::new(false),
            down: AtomicBool::new(false),
            has_responded: AtomicBool::new(false),
            known: AtomicBool::new(false),
            record: Mutex::default(),
        }
    }

    /// Returns whether calls may use the endpoint: it is not down.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// Returns whether the endpoint responds; `None` while this is unknown. An endpoint that is `alone`, has failed and
    /// has never responded counts as not responding: calls have no alternative, so there is no reason to wait
    /// for more failures.
    #[must_use]
    pub fn answers(&self, alone: bool) -> Option<bool> {
        let known = self.known.load(Ordering::Relaxed) || self.has_responded.load(Ordering::Relaxed);
        match (self.is_up(), known) {
            (false, _) => Some(false),
            (true, true) => Some(true),
            (true, false) => (alone && self.has_failures.load(Ordering::Relaxed)).then_some(false),
        }
    }

    /// Returns the number of calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call until the returned guard is dropped.
    pub(super) fn load(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Records that a call was answered. If the endpoint is `checked`, the result of health checks stays.
    pub(super) fn record_success(&self, checked: bool) {
        if !self.has_responded.load(Ordering::Relaxed) {
            self.has_responded.store(true, Ordering::Relaxed);
        }
        if self.has_failures.load(Ordering::Relaxed) {
            let mut record = self.record();
            record.missed = 0;
            record.ill = if checked { record.ill } else { 0 };
            self.apply(record, "");
        }
    }

    /// Records that a call could not connect, or got no response in time.
    pub(super) fn record_failure(&self, reason: &str) {
        let mut record = self.record();
        record.missed = record.missed.saturating_add(1);
        self.apply(record, reason);
    }

    /// Records a health check; `ill` is the reason if it failed.
    pub fn record_check(&self, ill: Option<&str>) {
        let mut record = self.record();
        match ill {
            None => {
                self.known.store(true, Ordering::Relaxed);
                (record.missed, record.ill) = (0, 0);
            }
            Some(_) => record.ill = record.ill.saturating_add(1),
        }
        self.apply(record, ill.unwrap_or_default());
    }

    /// Logs a failure that only the operator can fix, at most once in ten seconds for each kind. The trail records
    /// all of them.
    pub fn log(&self, code: &'static str, reason: &str) {
        let (mut record, now) = (self.record(), Instant::now());
        record.logged.retain(|(_, at)| now.saturating_duration_since(*at) < LOGGED_EVERY);
        if record.logged.iter().any(|(logged, _)| *logged == code) {
            return;
        }
        record.logged.push((code, now));
        drop(record);
        let upstream = &self.upstream;
        tracing::warn!(upstream, code, reason, "check the upstream and its configuration");
    }

    /// Returns whether an endpoint that is down should be tried now. Returns `true` to one caller only; that
    /// caller tries it.
    #[must_use]
    pub fn try_half_open(&self, now: Instant) -> bool {
        if self.is_up() {
            return false;
        }
        let mut record = self.record();
        let due = record.next.is_some_and(|next| next <= now);
        if due {
            // The attempt may take long or be abandoned, so the next attempt is scheduled now.
            record.next = now.checked_add(record.pause);
        }
        due
    }

    /// Returns whether a health check is due: every `interval`, or at the end of the back-off if the endpoint is down.
    /// An endpoint that is `alone` is not checked while calls are answered: they prove the same, and
    /// have no alternative.
    #[must_use]
    pub fn is_check_due(&self, now: Instant, interval: Duration, alone: bool) -> bool {
        if !self.is_up() {
            return self.try_half_open(now);
        }
        let mut record = self.record();
        let due = record.check.map_or(!alone, |check| check <= now);
        if due || record.check.is_none() {
            record.check = now.checked_add(interval);
        }
        let has_responded = due && self.has_responded.swap(false, Ordering::Relaxed);
        self.known.fetch_or(has_responded, Ordering::Relaxed);
        due && !(alone && has_responded)
    }

    /// Applies the record to the circuit, and logs a change.
    fn apply(&self, mut record: MutexGuard<'_, Record>, reason: &str) {
        let failures = record.missed.max(record.ill);
        let down = failures >= MOST_FAILURES;
        self.has_failures.store(failures > 0, Ordering::Relaxed);
        let was = self.down.swap(down, Ordering::Relaxed);
        if down && !reason.is_empty() {
            record.pause = if was { (record.pause * 2).min(LONGEST) } else { SHORTEST };
            record.next = Instant::now().checked_add(record.pause);
        }
        drop(record);
        let (upstream, endpoint) = (&self.upstream, &self.origin);
        match (was, down) {
            (false, true) => tracing::warn!(upstream, endpoint, reason, "the endpoint is down"),
            (true, false) => tracing::info!(upstream, endpoint, "the endpoint is up again"),
            (false, false) | (true, true) => {}
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn standing() -> EndpointState {
        EndpointState::new("jms", &Origin::split("https://a").unwrap().0)
    }

    fn backoff(standing: &EndpointState) -> Duration {
        standing.record().pause
    }

    #[test]
    fn three_failures_in_a_row_and_no_fewer() {
        let standing = standing();
        for _ in 0..3 {
            standing.record_failure("nobody");
            standing.record_failure("nobody");
            assert!(standing.is_up());
            standing.record_success(false);
        }
        standing.record_failure("nobody");
        standing.record_failure("nobody");
        standing.record_failure("nobody");
        assert!(!standing.is_up());
        standing.record_success(false);
        assert!(standing.is_up());
    }

    #[test]
    fn one_that_is_down_is_tried_by_one_and_ever_less_often() {
        let standing = standing();
        (0..3).for_each(|_| standing.record_failure("nobody"));
        let now = Instant::now();
        assert!(!standing.try_half_open(now));
        let later = now + SHORTEST;
        assert!(standing.try_half_open(later) && !standing.try_half_open(later));
        for seconds in [2, 4, 8, 16, 30, 30] {
            standing.record_failure("nobody");
            assert_eq!(backoff(&standing), Duration::from_secs(seconds));
        }
        standing.record_success(false);
        assert!(standing.is_up() && !standing.try_half_open(now + LONGEST));
        (0..3).for_each(|_| standing.record_failure("nobody"));
        assert_eq!(backoff(&standing), SHORTEST);
    }

    #[test]
    fn an_answer_does_not_undo_what_checks_found() {
        let standing = standing();
        (0..3).for_each(|_| standing.record_check(Some("503")));
        standing.record_success(true);
        assert!(!standing.is_up());
        standing.record_check(None);
        assert!(standing.is_up());
        (0..3).for_each(|_| standing.record_check(Some("503")));
        standing.record_success(false);
        assert!(standing.is_up());
    }

    #[test]
    fn a_check_is_due_once_an_interval() {
        let (standing, now, interval) = (standing(), Instant::now(), Duration::from_secs(5));
        let due = |standing: &EndpointState, now| standing.is_check_due(now, interval, false);
        assert!(due(&standing, now) && !due(&standing, now));
        assert!(due(&standing, now + interval));
        (0..3).for_each(|_| standing.record_failure("nobody"));
        let down = Instant::now();
        assert!(!due(&standing, now));
        assert!(due(&standing, down + SHORTEST));
    }

    #[test]
    fn one_alone_is_looked_at_where_no_call_tells_how_it_stands() {
        let (standing, now, interval) = (standing(), Instant::now(), Duration::from_secs(5));
        let due = |after: u32| standing.is_check_due(now + interval * after, interval, true);
        assert!(!due(0) && due(1) && !due(1) && due(2));
        standing.record_success(false);
        assert!(!due(3), "a call was answered meanwhile");
        assert!(due(4));
    }

    #[test]
    fn what_nobody_knows_is_neither_up_nor_away() {
        let first_answers = standing();
        assert_eq!(first_answers.answers(true), None);
        first_answers.record_success(false);
        assert_eq!(first_answers.answers(true), Some(true));
        first_answers.record_failure("nobody");
        first_answers.record_failure("nobody");
        assert_eq!(first_answers.answers(true), Some(true), "it takes three");
        first_answers.record_failure("nobody");
        assert_eq!(first_answers.answers(true), Some(false));

        let first_fails = standing();
        first_fails.record_failure("nobody");
        assert_eq!((first_fails.answers(true), first_fails.answers(false)), (Some(false), None));
        first_fails.record_check(None);
        assert_eq!(first_fails.answers(true), Some(true));
        // A response to a call stays known after a health check.
        let has_responded = standing();
        has_responded.record_success(false);
        let now = Instant::now();
        assert!(has_responded.is_check_due(now, Duration::from_secs(5), false));
        assert_eq!(has_responded.answers(true), Some(true));
    }

    #[test]
    fn a_call_is_counted_until_it_is_dropped() {
        let standing = Arc::new(standing());
        let loads = [standing.load(), standing.load()];
        assert_eq!(standing.in_flight(), 2);
        drop(loads);
        assert_eq!(standing.in_flight(), 0);
    }
}
