//! The wall clock, as a trait, so that a test can set the time.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use jiff::Timestamp;

use crate::units::parse_duration;

/// Gives the time of day. Durations are measured with `Instant`, never with this trait.
pub trait Clock: Send + Sync {
    /// The present time.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The time in seconds since 1970.
#[must_use]
pub fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Appends the RFC 3339 text of `time` in UTC with microseconds: `2026-11-22T03:04:05.678901Z`. Each thread formats the
/// text of a second only once.
pub fn push_rfc3339(out: &mut Vec<u8>, time: SystemTime) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            let whole =
                Timestamp::from_second(i64::try_from(since.as_secs()).unwrap_or(0)).unwrap_or_default();
            *text = whole.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
            *second = since.as_secs();
        }
        out.extend_from_slice(text.as_bytes());
    });
    // Seven digits, of which the first only keeps the leading zeros.
    let mut digits = itoa::Buffer::new();
    let micros = digits.format(1_000_000 + since.subsec_micros());
    out.extend_from_slice(micros.get(1..).unwrap_or_default().as_bytes());
    out.push(b'Z');
}

/// The RFC 3339 text of `time`; see [`push_rfc3339`].
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let mut out = Vec::new();
    push_rfc3339(&mut out, time);
    String::from_utf8(out).unwrap_or_default()
}

/// The `Date` header of `time` (RFC 9110 §5.6.7); each thread formats it once per second.
#[must_use]
pub fn http_date(time: SystemTime) -> HeaderValue {
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((u64::MAX, HeaderValue::from_static("-"))) };
    }
    let second = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    LAST.with_borrow_mut(|(at, value)| {
        if *at != second {
            let text = httpdate::fmt_http_date(time);
            *value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("-"));
            *at = second;
        }
        value.clone()
    })
}

/// Parses a time, or a duration before the present time.
///
/// # Errors
/// What is wrong, if the text is neither.
pub fn parse_past_time(text: &str) -> Result<Timestamp, String> {
    let then = || Timestamp::try_from(SystemClock.now().checked_sub(parse_duration(text)?)?).ok();
    let wrong =
        || format!("`{text}` is neither a time such as 2027-01-01T00:00:00Z nor a duration such as 30d");
    text.parse().ok().or_else(then).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_the_rfcs_ask() {
        let time = UNIX_EPOCH + Duration::from_micros(1_392_617_465_000_042);
        assert_eq!(rfc3339(time), "2014-02-17T06:11:05.000042Z");
        assert_eq!(http_date(time), "Mon, 17 Feb 2014 06:11:05 GMT");
        assert_eq!(http_date(time + Duration::from_secs(1)), "Mon, 17 Feb 2014 06:11:06 GMT");
    }
}
