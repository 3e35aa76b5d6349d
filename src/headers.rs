//! Judgements on header fields, each made in one place.

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
};

/// Iterates over the items of a comma-separated value, without surrounding blanks. An item may be empty.
pub fn items(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Iterates over the items of a comma-separated field, on all its lines.
pub fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().flat_map(items)
}

/// Iterates over the options of `Connection`: the names of fields that concern only this hop, and `close` and such.
pub fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    list(headers, CONNECTION)
}

/// Returns the content coding of a body; `None` if it has none.
#[must_use]
pub fn content_coding(headers: &HeaderMap) -> Option<&HeaderValue> {
    let is_coded = |coding: &[u8]| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
    headers.get_all(CONTENT_ENCODING).iter().find(|line| items(line).any(is_coded))
}

/// Returns whether a body has no content coding.
#[must_use]
pub fn is_identity(headers: &HeaderMap) -> bool {
    content_coding(headers).is_none()
}

/// Returns whether a body is JSON: `application/json`, or a type that ends in `+json`.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    })
}

/// Returns whether every server reads a body as JSON: its one content type is `application/json`, with at most the
/// charset parameter `utf-8`. Some servers interpret every other form (`+json`, form encodings, several types in
/// one header) differently.
#[must_use]
pub fn is_strict_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let mut parts = kind.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_utf8 = |charset: &[u8]| {
        charset.eq_ignore_ascii_case(b"charset=utf-8") || charset.eq_ignore_ascii_case(b"charset=\"utf-8\"")
    };
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"))
        && parts.next().is_none_or(is_utf8)
        && parts.next().is_none()
}

/// Returns the length that a body declares.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns the value of `Host`, if it is text.
#[must_use]
pub fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_any_but_identity() {
        for (lines, coded) in [
            (vec!["identity"], false),
            (vec!["Identity, "], false),
            (vec!["gzip"], true),
            (vec!["identity, br"], true),
            (vec!["identity", "x-own"], true),
            (vec![""], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            assert_eq!(content_coding(&headers).is_some(), coded, "{lines:?}");
        }
    }
}
