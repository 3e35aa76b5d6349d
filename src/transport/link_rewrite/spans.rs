//! Where links stand in the values of headers.

use std::ops::Range;

/// All of `Location`.
pub(super) fn all_of(text: &str) -> Vec<Range<usize>> {
    std::iter::once(0..text.len()).collect()
}

/// Where the targets of `Link` stand: between angles.
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

/// Where the URL of `Refresh` stands: `5; url=/x`, perhaps in quotes, or `5; /x` (WHATWG HTML, shared declarative
/// refresh steps).
pub(super) fn after_url(text: &str) -> Vec<Range<usize>> {
    let time = text.trim_start().trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let rest = time.trim_start();
    let rest = match rest.strip_prefix([';', ',']) {
        Some(rest) => rest.trim_start(),
        // What is no time is passed over, since some clients do.
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

/// What stands after `url =`.
fn after_name(text: &str) -> Option<&str> {
    let (name, rest) = text.split_at_checked(3)?;
    let value = rest.trim_start().strip_prefix('=')?;
    name.eq_ignore_ascii_case("url").then(|| value.trim_start())
}
