//! An incremental scanner for the top-level members of a JSON object. It works on an incomplete text.

use std::ops::Range;

/// The byte ranges of the wanted members' values that may contain links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) found: Vec<Range<usize>>,
    /// No more text is needed: all members were found, the object has ended, or the text is no object.
    pub(super) done: bool,
    /// The body continues, and the rest is not scanned.
    pub(super) unseen: bool,
}

const MARK: &[u8] = b"\xef\xbb\xbf";

/// Scans the text of a JSON object as far as it goes.
pub(super) fn scan(text: &[u8], members: &[String]) -> Scan {
    let mut scan = Scan::default();
    let mut seen: u64 = 0;
    // Some servers write a byte order mark, and most parsers ignore it (RFC 8259 §8.1).
    let mut cursor = Cursor { text, at: if text.starts_with(MARK) { MARK.len() } else { 0 } };
    match cursor.next_token() {
        Some(b'{') => cursor.at += 1,
        Some(_) => {
            scan.done = true;
            return scan;
        }
        None => return scan,
    }
    loop {
        match cursor.next_token() {
            Some(b',') => cursor.at += 1,
            Some(b'"') => {
                let Some(name) = cursor.string() else { return scan };
                if cursor.next_token() != Some(b':') {
                    return scan;
                }
                cursor.at += 1;
                let Some(start) = cursor.next_token() else { return scan };
                let Some(value) = cursor.value() else { return scan };
                let name = text.get(name).and_then(|json| serde_json::from_slice::<String>(json).ok());
                let place = name.and_then(|name| members.iter().position(|member| *member == name));
                if let Some(place) = place {
                    // Each member counts once. Parsers use the last of several equal names.
                    seen |= 1 << (place % 64);
                    if matches!(start, b'"' | b'{' | b'[') {
                        scan.found.push(value);
                    }
                    // The scan continues to the end of the text, since a member may occur again.
                    scan.done |= usize::try_from(seen.count_ones()) == Ok(members.len());
                }
            }
            Some(_) => {
                scan.done = true;
                return scan;
            }
            None => return scan,
        }
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn next_token(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Returns the byte range of the string that begins here, with its quotes. Returns `None` if the text ends first.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..)?;
            let stop = memchr::memchr2(b'"', b'\\', rest)?;
            let quote = rest.get(stop) == Some(&b'"');
            self.at += stop + if quote { 1 } else { 2 };
            if quote {
                return Some(start..self.at);
            }
        }
    }

    /// Returns the byte range of the value that begins here. Returns `None` if the text ends first.
    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0_u32;
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.string()?;
                    if depth == 0 {
                        return Some(start..self.at);
                    }
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b',' | b'}' | b']' if depth == 0 => return Some(start..self.at),
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Some(start..self.at);
                    }
                }
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn finds_members_of_the_top_level_alone() {
        let members = ["next".to_owned(), "previous".to_owned()];
        let found = |text: &str| {
            let scan = scan(text.as_bytes(), &members);
            (
                scan.found.into_iter().map(|range| text.get(range).unwrap().to_owned()).collect::<Vec<_>>(),
                scan.done,
            )
        };
        assert_eq!(
            found(r#" {"count": 2, "next": "a\"b", "previous":null, "results":[{"next":"x"}]}"#),
            (vec![r#""a\"b""#.into()], true)
        );
        assert_eq!(found(r#"{"results":[{"next":"x"}],"n\u0065xt":"y"}"#), (vec![r#""y""#.into()], true));
        assert_eq!(found(r#"[{"next":"x"}]"#), (vec![], true));
        assert_eq!(found("\u{feff}{\"next\":\"x\""), (vec![r#""x""#.into()], false));
        assert_eq!(
            found(r#"{"next":"x","next":{"a":1},"previous":"y","count":1}"#),
            (vec![r#""x""#.into(), r#"{"a":1}"#.into(), r#""y""#.into()], true)
        );
        assert_eq!(
            found(r#"{"next":null,"previous":null,"results":[],"next":"x"}"#),
            (vec![r#""x""#.into()], true)
        );
        assert_eq!(found(r#"{"next":null,"previous":"y","next":"x"#), (vec![r#""y""#.into()], true));
        assert_eq!(found(r#"{"next":"x","prev"#), (vec![r#""x""#.into()], false));
        assert_eq!(found(""), (vec![], false));
        assert_eq!(found(r#"{"a":"\"#), (vec![], false));
    }
}
