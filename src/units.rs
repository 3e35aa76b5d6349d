//! Sizes (`16MiB`) and durations (`1.5s`) as people write them.

use std::time::Duration;

/// The nanoseconds of one second.
const NANOS: u128 = 1_000_000_000;

/// The units of a size, each with its power of two.
const UNITS: [(&str, u32); 5] = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// Parses a size in bytes: a whole number with `B`, `KiB`, `MiB`, `GiB` or `TiB`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text, |letter| letter.is_ascii_digit())?;
    let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Formats a size in the greatest unit of which it is a whole number.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let (unit, shift) = UNITS
        .into_iter()
        .rev()
        .find(|(_, shift)| bytes >= (1 << shift) && bytes.is_multiple_of(1 << shift))
        .unwrap_or(("B", 0));
    format!("{}{unit}", bytes >> shift)
}

/// Parses a duration: a number, which may have a fraction, with `ms`, `s`, `m`, `h` or `d` (24 hours).
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text, |letter| letter.is_ascii_digit() || letter == '.')?;
    let unit: u128 = match unit {
        "ms" => NANOS / 1000,
        "s" => NANOS,
        "m" => NANOS * 60,
        "h" => NANOS * 3600,
        "d" => NANOS * 86_400,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let places = u32::try_from(fraction.len()).ok().filter(|places| (1..=9).contains(places))?;
    let whole = u128::from(whole.parse::<u64>().ok()?) * unit;
    let fraction = u128::from(fraction.parse::<u64>().ok()?) * unit / 10_u128.pow(places);
    let nanos = whole + fraction;
    let part = u32::try_from(nanos % NANOS).ok()?;
    u64::try_from(nanos / NANOS).ok().map(|seconds| Duration::new(seconds, part))
}

/// Formats a duration in the greatest unit up to hours of which it is a whole number.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let milliseconds = duration.as_millis();
    match units.into_iter().find(|(_, unit)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None => "0s".to_owned(),
    }
}

fn split_unit(text: &str, numeric: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let unit = text.find(|letter| !numeric(letter))?;
    text.split_at_checked(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512B", Some(512)),
            ("32KiB", Some(32 << 10)),
            ("16MiB", Some(16 << 20)),
            ("1TiB", Some(1 << 40)),
            ("16", None),
            ("16MB", None),
            ("16 MiB", None),
            ("1.5MiB", None),
            ("-1B", None),
            ("MiB", None),
            ("", None),
            ("99999999999999999999B", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        for (bytes, text) in
            [(0, "0B"), (1000, "1000B"), (1024, "1KiB"), (16 << 20, "16MiB"), (3 << 30, "3GiB")]
        {
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn durations() {
        for (milliseconds, text) in
            [(0, "0s"), (1, "1ms"), (1_500, "1500ms"), (90_000, "90s"), (86_400_000, "24h")]
        {
            assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
        }
        for (text, milliseconds) in [
            ("10s", Some(10_000)),
            ("1.5s", Some(1_500)),
            ("250ms", Some(250)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("0.25h", Some(900_000)),
            ("0s", Some(0)),
            ("10", None),
            ("s", None),
            (".5s", None),
            ("1.s", None),
            ("1.2.3s", None),
            ("1.0000000001s", None),
            ("1.5d", Some(129_600_000)),
            ("1w", None),
            ("-1s", None),
            ("1 s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse_duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
