//! Text of the trail, which is all printable ASCII: no character of a line can deceive its reader.

use std::borrow::Cow;

use crate::printable::escape_chars;

/// Whether every byte may appear in a JSON string unescaped. Tests all bytes without an early exit, so that the
/// compiler can vectorise it.
pub(in crate::audit) fn is_plain(bytes: &[u8]) -> bool {
    let plain = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    bytes.iter().fold(true, |all, byte| all & plain(*byte))
}

/// Converts bytes from outside to text. Printable ASCII stays; other bytes and `\` become `\xNN`.
pub(in crate::audit) fn escape(bytes: &[u8]) -> Cow<'_, str> {
    use std::fmt::Write as _;
    if is_plain(bytes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'[' | b']'..=b'~' => text.push(char::from(*byte)),
            // Writing into a string cannot fail.
            _ => write!(text, "\\x{byte:02x}").unwrap_or_default(),
        }
    }
    Cow::Owned(text)
}

/// Formats a text as a JSON string in ASCII.
pub(in crate::audit) fn ascii_json(text: &str) -> String {
    escape_non_ascii(&serde_json::Value::from(text).to_string())
}

/// Escapes all characters beyond ASCII in JSON.
pub(in crate::audit) fn escape_non_ascii(json: &str) -> String {
    escape_chars(json, |character| !character.is_ascii() || character == '\x7f').into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_shows_nothing_but_what_it_is() {
        assert_eq!(escape(b"a\x1b[31m\\\xff"), r"a\x1b[31m\x5c\xff");
        assert_eq!(ascii_json("a\"\u{2028}\u{7f}\u{1F600}\n"), r#""a\"\u2028\u007f\ud83d\ude00\n""#);
    }
}
