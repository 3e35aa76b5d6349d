#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const SECRET: &str = "ab+c/d=efgh0123456789%x";
/// For two matches in base64: the bytes that are passed on at the end of a line, with the line break.
const AT_LINE_ENDS: usize = 2 * (ANCHOR - 1 + 2);

fn scanner(secret: &str) -> Scanner {
    Scanner::new(&[Cow::Borrowed(secret.as_bytes())])
}

fn replaced(secret: &str, text: &str) -> (String, u32) {
    let mut text = text.as_bytes().to_vec();
    let count = scanner(secret).replace(&mut text);
    (String::from_utf8(text).unwrap(), count)
}

/// Spellings of the secret within a text.
fn spellings() -> Vec<String> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    let mut all: Vec<String> = [
        SECRET,
        "ab%2Bc%2Fd%3Defgh0123456789%25x",
        "ab%2bc%2fd%3defgh0123456789%25x",
        "ab%2Bc/d%3Defgh0123456789%x",
        "ab%252Bc%252fd%253Defgh0123456789%2525x",
        "ab+c\\/d=efgh0123456789%x",
        "ab+c/d\\u003defgh0123456789%x",
        "ab\\u002Bc/d\\x3Defgh0123456789%x",
        "ab+c&#x2F;d&#61;efgh0123456789%x",
        "ab&plus;c&sol;d&equals;efgh0123456789&percnt;x",
        "%61b+c/d=efg&#104;0123456789%x",
        "&#97;%62+c/d=efgh012345678\\u0039%x",
        "ab+c\\\\\\/d=efgh0123456789%x",
        "ab\\\\u002bc\\\\/d=efgh0123456789%x",
        "ab\\u0026#43;c/d\\\\u0026equals;efgh0123456789%x",
        "ab&amp;#43;c/d&#38;#x3d;efgh0123456789%x",
    ]
    .map(String::from)
    .into();
    let hex = SECRET.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    let hex: String = hex.map(char::from).collect();
    all.extend([hex.to_uppercase(), hex]);
    for before in ["", "u", "us", "key-id:", "user@x.io:"] {
        let text = format!("{before}{SECRET}");
        all.extend([STANDARD.encode(&text), URL_SAFE.encode(&text), URL_SAFE_NO_PAD.encode(&text)]);
        let coded = STANDARD.encode(format!("{text} and more"));
        all.push(coded.replace('+', "%2B").replace('/', "\\/"));
        for cut in [1, 2, 3, 4, 9, 18] {
            let (first, second) = coded.split_at(cut);
            all.extend([format!("{first}\r\n{second}"), format!("{first}\\r\\n{second}")]);
            all.push(format!("{first}\\\\n{second}"));
        }
    }
    all
}

#[test]
fn every_spelling_is_replaced_at_its_length() {
    for shown in spellings() {
        let text = format!("<{shown}> {shown}");
        let (clean, count) = replaced(SECRET, &text);
        assert_eq!((count, clean.len()), (2, text.len()), "{shown}: {clean}");
        assert!(clean.matches('*').count() >= 2 * SECRET.len(), "{shown}: {clean}");
        assert_eq!(replaced(SECRET, &clean), (clean.clone(), 0), "{shown}");
    }
}

/// The base64 characters at the ends may stay, because a neighbour is a part of them: a few bits of one byte each.
#[test]
fn no_byte_of_it_can_be_decoded() {
    use base64::engine::general_purpose::STANDARD;
    for before in 0..6 {
        let coded = STANDARD.encode(format!("{}{SECRET}{}", "<".repeat(before), ">".repeat(5)));
        let (clean, count) = replaced(SECRET, &coded);
        let kept: String = clean.replace('*', "A");
        let decoded = STANDARD.decode(kept).unwrap();
        let same = decoded.iter().skip(before).zip(SECRET.bytes()).filter(|(one, other)| **one == *other);
        assert_eq!((count, same.count()), (1, 0), "{clean}");
    }
}

#[test]
fn what_is_only_like_it_is_left() {
    for near in [
        "ab+c/d=efgh0123456789%",
        "ab%2c/d=efgh0123456789%xi",
        "ab\\u00",
        "ab&#x2Bc/d=efgh0123456789%xij",
        "%%%%%%%%%%%%%%%%%%%%%%%%%%%%%",
        "&&&&&&&&&&&&&&&&&&&&&&&&&&&&&",
        "\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\",
    ] {
        assert_eq!(replaced(SECRET, near), (near.to_owned(), 0));
    }
    assert_eq!(replaced("short", "short is short").1, 0);
    assert!(scanner("short").is_empty());
}

#[test]
fn quotes_are_read_and_what_repeats_itself_ends() {
    let quoted = "ab\"c\\d<e>f&g'h";
    let text = r#""ab\"c\\d<e>f&g'h" ab&quot;c\d&lt;e&gt;f&amp;g&apos;h"#;
    assert_eq!(replaced(quoted, text).1, 2);
    assert!(replaced("**********", "***********").1 > 0);
    assert_eq!(replaced("aaaaaaaa", "aaaaaaaaaaaaaaaaa"), ("****************a".to_owned(), 2));
}

type Widen = fn(u8) -> Vec<u8>;

/// Texts in UTF-16 and UTF-32, in either byte order, are searched like texts of single bytes.
#[test]
fn wide_characters_are_read_as_single_ones() {
    let encodings: [Widen; 4] =
        [|byte| vec![byte, 0], |byte| vec![0, byte], |byte| vec![byte, 0, 0, 0], |byte| vec![0, 0, 0, byte]];
    let cut = "x".repeat(5);
    for shown in spellings() {
        let text = format!("{cut}{shown}<{shown}>");
        let (clean, count) = replaced(SECRET, &text);
        for widen in encodings {
            let wide: Vec<u8> = text.bytes().flat_map(widen).collect();
            let wanted: Vec<u8> = clean.bytes().flat_map(widen).collect();
            let mut whole = wide.clone();
            assert_eq!(scanner(SECRET).replace(&mut whole), count, "{shown}");
            assert_eq!(whole, wanted, "{shown}");
            assert!(scanner(SECRET).is_in(&wide));
            for size in [5, 64] {
                let mut stream = Stream::new(scanner(SECRET));
                let (mut out, mut found) = (Vec::new(), 0);
                for piece in wide.chunks(size).chain([b"".as_slice()]) {
                    let (clean, here) = stream.take(Bytes::copy_from_slice(piece), piece.is_empty());
                    out.extend_from_slice(&clean);
                    found += here;
                }
                assert_eq!((found, out.len()), (count, wanted.len()), "{size}: {shown}");
                let others = out.iter().zip(&wanted).filter(|(one, other)| one != other).count();
                assert!(others == 0 || (others <= AT_LINE_ENDS && shown.contains('\n')), "{size}: {shown}");
            }
        }
    }
    // A run of more NUL bytes than a character has is not waited for, and binary data stays unchanged.
    let mut stream = Stream::new(scanner(SECRET));
    let binary = Bytes::from([b"ab+c".as_slice(), &[0; 9000], b"/d", &[0; 4]].concat());
    let (same, count) = stream.take(binary.clone(), false);
    assert_eq!((same, count, stream.pending()), (binary, 0, 0));
}

/// A followed line is not held back for a few characters at its end with which base64 of the secret begins.
#[test]
fn the_end_of_a_line_does_not_wait_for_the_next() {
    let mut stream = Stream::new(scanner(SECRET));
    for line in ["data: Y\n", "data: YW\r\n", "YWI\n", "data: nothing of it\n"] {
        let (given, count) = stream.take(Bytes::copy_from_slice(line.as_bytes()), false);
        assert_eq!((given.as_ref(), count, stream.pending()), (line.as_bytes(), 0, 0));
    }
    let coded = STANDARD_NO_PAD.encode(SECRET);
    let (first, second) = coded.split_at(2);
    let (begun, _) = stream.take(Bytes::from(format!("{first}\r\n")), false);
    let (rest, count) = stream.take(Bytes::from(format!("{second} and more")), true);
    assert_eq!((begun.as_ref(), count), (format!("{first}\r\n").as_bytes(), 1));
    let shown = rest.iter().zip(second.bytes()).filter(|(one, other)| **one == *other).count();
    assert!(shown <= 1 && rest.ends_with(b" and more"), "{rest:?}");
}

/// Pieces of any size give the same text, and only a possible secret is held back.
#[test]
fn pieces_of_any_size_make_no_difference() {
    for shown in spellings() {
        let text = format!("a\\ud83d b {shown}%2 ab+c &amp; {shown} & ab+c/d");
        let (whole, count) = replaced(SECRET, &text);
        for size in [1, 2, 3, 5, 7, 16, 64, 1000] {
            let mut stream = Stream::new(scanner(SECRET));
            let (mut out, mut found) = (Vec::new(), 0);
            for piece in text.as_bytes().chunks(size) {
                let (clean, here) = stream.take(Bytes::copy_from_slice(piece), false);
                out.extend_from_slice(&clean);
                found += here;
            }
            let (rest, here) = stream.take(Bytes::new(), true);
            out.extend_from_slice(&rest);
            // A few characters of base64 at the end of a line may have been passed on.
            let others = out.iter().zip(whole.bytes()).filter(|(one, other)| **one != *other).count();
            assert_eq!((out.len(), found + here), (whole.len(), count), "{size}");
            assert!(others == 0 || (others <= AT_LINE_ENDS && shown.contains('\n')), "{size}: {shown}");
        }
    }
    let mut stream = Stream::new(scanner(SECRET));
    let piece = Bytes::from_static(b"{\"event\": 1, \"detail\": \"nothing of it\"}\n");
    let (same, count) = stream.take(piece.clone(), false);
    assert_eq!((same.as_ptr(), same.len(), count), (piece.as_ptr(), piece.len(), 0), "it is not copied");
}
