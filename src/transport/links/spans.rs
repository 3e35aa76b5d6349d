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

/// Where the URL of `Refresh` stands: `5; url=/x`, perhaps in quotes.
pub(super) fn after_url(text: &str) -> Vec<Range<usize>> {
    let Some(at) = text.to_ascii_lowercase().find("url") else { return Vec::new() };
    let rest = text.get(at + 3..).unwrap_or_default();
    let Some(value) = rest.trim_start().strip_prefix('=') else { return Vec::new() };
    let value = value.trim_start();
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
