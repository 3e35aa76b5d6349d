//! Cookie parsing. Servers differ in parsing cookies more than in any other header, so this parser is conservative.

use http::HeaderValue;

/// Iterates over the pairs of a `Cookie` header value, each with its surrounding spaces.
pub(super) fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';')
}

/// Removes the pairs that `goes` selects from a `Cookie` header value. Returns `None` if no pair is left.
pub(super) fn remove_pairs(line: &HeaderValue, goes: impl Fn(&[u8]) -> bool) -> Option<HeaderValue> {
    let retained: Vec<&[u8]> =
        pairs(line.as_bytes()).filter(|pair| !goes(pair)).map(<[u8]>::trim_ascii).collect();
    let retained = retained.join(b"; ".as_slice());
    HeaderValue::from_bytes(&retained).ok().filter(|retained| !retained.is_empty())
}

/// Returns whether a `Set-Cookie` value, or a pair of a `Cookie` value, may set the named cookie in some parser.
///
/// Some parsers end a pair at a comma, a space or `&`. Some decode names, ignore case, quotes and invalid characters,
/// or treat `_`, `.` and `-` as equal.
pub(super) fn may_set(pair: &[u8], name: &str) -> bool {
    let expected = letters(name.as_bytes());
    if expected.is_empty() {
        return pair.split(|byte| *byte == b'=').any(|word| word.trim_ascii() == name.as_bytes());
    }
    let ends = |byte: &u8| matches!(byte, b',' | b'&' | b'=' | b';') || byte.is_ascii_whitespace();
    let mut end = pair.len();
    loop {
        let before = pair.get(..end).unwrap_or_default().trim_ascii_end();
        let word = before.rsplit(ends).next().unwrap_or_default();
        if letters(word) == expected {
            return true;
        }
        match before.iter().rposition(|byte| *byte == b'=') {
            Some(at) => end = at,
            // The part before the first `=`, with the spaces that a parser may take for a part of the name.
            None => return letters(before) == expected,
        }
    }
}

/// Reduces a name to what every parser agrees on: its letters and digits, decoded, in lower case.
fn letters(name: &[u8]) -> Vec<u8> {
    let decoded = percent_encoding::percent_decode(name);
    decoded.filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase()).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_known_in_every_spelling() {
        for pair in [
            "X-JMS-ORG=1",
            " x-jms-org = 1",
            "X_JMS_ORG=1",
            "\"X-JMS-ORG\"=1",
            "X-JMS%2DORG=1",
            "X-JMS-ORG",
            "a=b,X-JMS-ORG=1",
            "a=b X-JMS-ORG=1",
            "a=b\tX-JMS-ORG =1",
            "x.jms.org[]=1",
            "$X-JMS-ORG=1",
        ] {
            assert!(may_set(pair.as_bytes(), "X-JMS-ORG"), "{pair}");
        }
        assert!(may_set(b"\xa0X-JMS-ORG=1", "x-jms-org") && may_set(b"X-JMS-ORG=a; Path=/", "x-jms-org"));
        for other in ["a=1", "X-JMS-ORGS=1", "sessionid=X-JMS-ORG-1", "", "="] {
            assert!(!may_set(other.as_bytes(), "X-JMS-ORG"), "{other}");
        }
    }

    #[test]
    fn the_others_stay() {
        let line = HeaderValue::from_static("a=1; X-JMS-ORG=2;b=3 ; x-jms-org=4");
        let left = |name: &str| remove_pairs(&line, |pair| may_set(pair, name));
        assert_eq!(left("X-JMS-ORG").unwrap(), "a=1; b=3");
        assert_eq!(
            remove_pairs(&HeaderValue::from_static(" x-jms-org=4"), |pair| may_set(pair, "x-jms-org")),
            None
        );
    }
}
