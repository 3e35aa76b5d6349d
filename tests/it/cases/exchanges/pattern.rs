//! Expected text: literal, except for `…` (any text), `{number}` (digits) and `{uuid}`.

/// Whether the whole of `text` matches.
pub fn matches(mut expected: &str, mut text: &str) -> bool {
    loop {
        if let Some(rest) = expected.strip_prefix('…') {
            return (0..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .any(|at| matches(rest, &text[at..]));
        }
        if let Some(rest) = expected.strip_prefix("{number}") {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            return digits > 0 && matches(rest, &text[digits..]);
        }
        if let Some(rest) = expected.strip_prefix("{uuid}") {
            let id = text.get(..36).filter(|id| uuid::Uuid::try_parse(id).is_ok());
            return id.is_some() && matches(rest, &text[36..]);
        }
        let Some(wanted) = expected.chars().next() else { return text.is_empty() };
        let Some(rest) = text.strip_prefix(wanted) else { return false };
        (expected, text) = (&expected[wanted.len_utf8()..], rest);
    }
}

#[test]
fn patterns_match_the_whole_text() {
    let id = "01a4d0cc-ad1d-7a5f-9a1f-0123456789ab";
    for (expected, text, wanted) in [
        ("", "", true),
        ("a", "ab", false),
        ("…", "", true),
        ("a…c", "abbc", true),
        ("a…c", "abb", false),
        ("{number} s", "12 s", true),
        ("{number}", "", false),
        ("{number}", "1x", false),
        ("<{uuid}>", &format!("<{id}>"), true),
        ("{uuid}", "01a4", false),
        ("é…", "éa", true),
    ] {
        assert_eq!(matches(expected, text), wanted, "{expected} {text}");
    }
}
