//! Finds the byte ranges of links in header values.

use std::ops::Range;

/// Returns the range of a whole `Location` value.
pub(super) fn all_of(text: &str) -> Vec<Range<usize>> {
    std::iter::once(0..text.len()).collect()
}

/// Returns the ranges of the targets in `Link`, between angle brackets.
pub(super) fn in_angles(text: &str) -> Vec<Range<usize>> {
    let (mut spans, mut at) = (Vec::new(), 0);
    while let Some(open) = text.get(at..).and_then(|rest| rest.find('<')).map(|found| at + found + 1) {
        let Some(close) = text.get(open..).and_then(|rest| rest.find('>')).map(|found| open + found) else {
            break;
        };
        spans.push(open..close);
        at = close;
    }
    spans
}

/// Returns the range of the URL in `Refresh`: `5; url=/x`, perhaps quoted, or `5; /x` (WHATWG HTML, shared
/// declarative refresh steps).
pub(super) fn after_url(text: &str) -> Vec<Range<usize>> {
    let time = text.trim_start().trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let rest = time.trim_start();
    let rest = match rest.strip_prefix([';', ',']) {
        Some(rest) => rest.trim_start(),
        // A value that does not begin with a time is ignored, as some clients do.
        None if time.len() == rest.len() => {
            rest.split_once([';', ',']).map_or(rest, |(_, rest)| rest.trim_start())
        }
        None => rest,
    };
    let value = after_name(rest).unwrap_or(rest);
    if value.is_empty() {
        return Vec::new();
    }
    let start = text.len() - value.len();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''));
    let span = match quote {
        Some(quote) => {
            let end = value.get(1..).and_then(|rest| rest.find(quote));
            start + 1..end.map_or(text.len(), |end| start + 1 + end)
        }
        None => start..text.trim_end().len(),
    };
    std::iter::once(span).collect()
}

/// Returns the text after `url =`.
fn after_name(text: &str) -> Option<&str> {
    let (name, rest) = text.split_at_checked(3)?;
    let value = rest.trim_start().strip_prefix('=')?;
    name.eq_ignore_ascii_case("url").then(|| value.trim_start())
}
