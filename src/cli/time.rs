//! Parses and formats times for the command line.

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use crate::storage::{Seconds, format_time};
use crate::units::parse_duration;

/// Formats a time, or `-` if there is none.
pub(crate) fn time_or_dash(at: Option<Seconds>) -> String {
    at.map_or_else(|| "-".into(), format_time)
}

/// Parses a future time: RFC 3339, or a number with `m`, `h` or `d`, counted from `now`.
pub(crate) fn parse_time(text: &str, now: Seconds) -> anyhow::Result<Seconds> {
    let at = match parse_seconds(text) {
        Some(span) => {
            let is_valid = |at: &Seconds| Timestamp::from_second(*at).is_ok();
            now.checked_add(span).filter(is_valid).context("too far away")?
        }
        None => text.parse::<Timestamp>().map(Timestamp::as_second).ok().with_context(|| {
            format!("`{text}` is neither a time as 2027-01-01T00:00:00Z nor a duration as 90d")
        })?,
    };
    if at <= now {
        bail!("`{text}` is in the past");
    }
    Ok(at)
}

/// Parses a duration into whole seconds.
pub(in crate::cli) fn parse_seconds(text: &str) -> Option<Seconds> {
    parse_duration(text).and_then(|duration| Seconds::try_from(duration.as_secs()).ok())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn takes_moments_to_come_in_both_forms() {
        assert_eq!(parse_time("90d", 100).unwrap(), 100 + 90 * 86_400);
        assert_eq!(parse_time("1970-01-01T01:00:00Z", 100).unwrap(), 3600);
        for bad in ["", "d", "0d", "-1d", "1w", "1970-01-01T00:00:01Z", "tomorrow", "99999999999999d", "é"] {
            assert!(parse_time(bad, 100).is_err(), "{bad}");
        }
        assert_eq!(format_time(3600), "1970-01-01T01:00:00Z");
    }
}
