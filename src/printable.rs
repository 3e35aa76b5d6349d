//! Escapes text from outside that goes to a terminal, so that it cannot deceive the reader.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes a text of several lines. Characters that move the cursor, change the writing direction or are invisible
/// become `\uNNNN`, except line feeds and tabs. JSON and TOML strings use the same escapes, so their
/// values do not change.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escape_chars(text, |character| !matches!(character, '\n' | '\t') && is_deceptive(character))
}

/// Escapes a value that is part of one line, including its line feeds and tabs.
#[must_use]
pub fn printable_value(text: &str) -> Cow<'_, str> {
    escape_chars(text, is_deceptive)
}

/// Whether a character affects a terminal or misleads its reader, rather than only being displayed.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Invisible: soft hyphen, fillers, zero width, joiners, marks between lines, tags.
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}'
                | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
            // The direction of writing (Unicode Standard Annex 9).
                | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line ends of other alphabets.
                | '\u{2028}' | '\u{2029}'
        )
}

/// Escapes the characters for which `bad` is true as `\uNNNN`, as JSON does.
pub(crate) fn escape_chars(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut units) = (String::with_capacity(text.len() + 16), [0; 2]);
    for character in text.chars() {
        if bad(character) {
            for unit in character.encode_utf16(&mut units) {
                // Writing into a string cannot fail.
                write!(out, "\\u{unit:04x}").unwrap_or_default();
            }
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_moves_turns_or_hides_is_shown_and_the_rest_stays() {
        let odd =
            "\u{0}\u{1b}[2J\r\u{7f}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}\u{200b}\u{feff}\u{2028}\u{e0041}";
        let shown = printable(odd);
        assert!(shown.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{shown}");
        assert_eq!(
            shown,
            "\\u0000\\u001b[2J\\u000d\\u007f\\u009b31m\\u202e\\u2066\\u200f\\u061c\\u200b\\ufeff\\u2028\\udb40\\udc41"
        );
        for plain in ["", "a\tb\nc", "Zürich \u{1F600} 東京 العربية"] {
            assert_eq!(printable(plain), plain);
        }
        assert_eq!(printable_value("a\nb\tc"), "a\\u000ab\\u0009c");
    }

    #[test]
    fn json_and_toml_say_the_same_after_it() {
        let value = "x\u{202e}\u{7f}\u{e0041}\u{2028}y";
        let json = serde_json::json!({ "a": value }).to_string();
        let again: serde_json::Value = serde_json::from_str(&printable(&json)).unwrap();
        assert_eq!(again.get("a").unwrap(), value);
        let value = "x\u{202e}\u{7f}\u{2028}y";
        let toml = format!("a = {}", toml::Value::from(value));
        let again: toml::Value = toml::from_str(&printable(&toml)).unwrap();
        assert_eq!(again.get("a").and_then(toml::Value::as_str).unwrap(), value);
    }
}
