//! What an upstream shows of the credential that it was sent, as debug pages and echoes do, is kept from the
//! consumer.
//!
//! Header values always; of bodies the first 64 KiB where the status is 400 or more and there is no content
//! coding. What is replaced keeps its length, and so does the body.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Answer;
use crate::audit::Broken;

/// How much of a body is looked through.
const MOST: usize = 64 * 1024;
/// A shorter secret would be found in innocent text.
const SHORTEST: usize = 8;

/// The name of an entity, at most, and how long a byte's spelling can be with it.
const LONGEST_ENTITY: usize = 8;
const LONGEST_SPELLING: usize = LONGEST_ENTITY + 2;

/// What of a header value that was sent is the secret: of a signature itself, else the last word, without
/// the name of a cookie.
fn secret(sent: &[u8]) -> &[u8] {
    // The last that is quoted. Looked for from the end, since it is done for every call.
    if sent.starts_with(b"Signature ") {
        return sent.rsplit(|byte| *byte == b'"').nth(1).unwrap_or_default();
    }
    let word = sent.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let name_end = word.iter().position(|byte| *byte == b'=').filter(|_| word.len() == sent.len());
    let value = name_end.and_then(|at| word.get(at + 1..)).filter(|value| value.len() >= SHORTEST);
    value.unwrap_or(word)
}

/// How many bytes at the beginning of `text` stand for `byte`: as it is, or as URLs, JSON or HTML write it.
fn spelt(text: &[u8], byte: u8) -> Option<usize> {
    let coded = match text {
        [b'%', high, low, ..] => Some((hex(&[*high, *low])?, 3)),
        [b'\\', b'u' | b'U', digits @ ..] => Some((hex(digits.get(..4)?)?, 6)),
        [b'\\', escaped @ (b'/' | b'"' | b'\\'), ..] => Some((u32::from(*escaped), 2)),
        [b'&', rest @ ..] => {
            let end = rest.iter().take(LONGEST_ENTITY).position(|byte| *byte == b';')?;
            Some((entity(rest.get(..end)?)?, end + 2))
        }
        _ => None,
    };
    coded.filter(|(code, _)| *code == u32::from(byte)).map(|(_, length)| length)
}

/// What these hexadecimal digits say.
fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

/// The character of an HTML entity, without `&` and `;`.
fn entity(name: &[u8]) -> Option<u32> {
    Some(match name {
        b"amp" => u32::from(b'&'),
        b"lt" => u32::from(b'<'),
        b"gt" => u32::from(b'>'),
        b"quot" => u32::from(b'"'),
        b"apos" => u32::from(b'\''),
        [b'#', b'x' | b'X', digits @ ..] => hex(digits)?,
        [b'#', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
        _ => return None,
    })
}

/// How many bytes at the beginning of `text` are the secret, each of its bytes spelt in any way.
fn shown(text: &[u8], secret: &[u8]) -> Option<usize> {
    secret.iter().try_fold(0, |at, byte| {
        let rest = text.get(at..)?;
        let as_it_is = rest.first() == Some(byte);
        Some(at + spelt(rest, *byte).or(as_it_is.then_some(1))?)
    })
}

/// Replaces the secret in `text`, at its length; how often it was there.
fn replace(text: &mut [u8], secret: &[u8]) -> u32 {
    let (mut found, mut at) = (0, 0);
    let Some(first) = secret.first() else { return found };
    while let Some(next) = text
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| byte == first || matches!(byte, b'%' | b'\\' | b'&')))
    {
        at += next;
        let length = text.get(at..).and_then(|rest| shown(rest, secret));
        if let Some(shown) = length.and_then(|length| text.get_mut(at..at + length)) {
            shown.fill(b'*');
            found += 1;
        }
        // Onwards: what was put there may look like the secret itself.
        at += length.unwrap_or(1);
    }
    found
}

/// Takes what was `sent` out of a text that is kept, however short it is; how often it was there.
pub(super) fn scrub_text(text: &mut [u8], sent: &HeaderValue) -> u32 {
    replace(text, secret(sent.as_bytes()))
}

/// Takes what was `sent` out of an answer's header values; how often it was there.
pub fn scrub_headers(headers: &mut HeaderMap, sent: &HeaderValue) -> u32 {
    let secret = secret(sent.as_bytes());
    let mut found = 0;
    if secret.len() < SHORTEST || headers.values().all(|value| value.len() < secret.len()) {
        return found;
    }
    for value in headers.values_mut().filter(|value| value.len() >= secret.len()) {
        let mut text = BytesMut::from(value.as_bytes());
        let here = replace(&mut text, secret);
        if here > 0
            && let Ok(clean) = HeaderValue::from_maybe_shared(text.freeze())
        {
            *value = clean;
            found += here;
        }
    }
    found
}

/// Whether the body of such an answer is looked through.
#[must_use]
pub fn concerns(status: StatusCode, headers: &HeaderMap) -> bool {
    status.as_u16() >= 400
        && headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Takes what was `sent` out of the beginning of an answer's body; how often it was there.
///
/// # Errors
/// [`Broken`] where the body breaks off or stalls.
pub async fn scrub_body(answer: &mut Answer, sent: &HeaderValue) -> Result<u32, Broken> {
    let secret = secret(sent.as_bytes());
    if secret.len() < SHORTEST {
        return Ok(0);
    }
    // What begins within it is seen whole.
    let mut read = answer.read(MOST + secret.len() * LONGEST_SPELLING).await?;
    let taken = read.len();
    let found = replace(&mut read, secret);
    answer.put_front(Bytes::from_owner(read), taken);
    Ok(found)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn knows_what_of_a_value_is_the_secret() {
        for (sent, found) in [
            ("Bearer abcdefgh", "abcdefgh"),
            ("Token abcdefgh", "abcdefgh"),
            ("abcdefgh==", "abcdefgh=="),
            ("sessionid=abcdefgh", "abcdefgh"),
            ("Signature keyId=\"k\",headers=\"date\",signature=\"c2ln+/==\"", "c2ln+/=="),
        ] {
            assert_eq!(secret(sent.as_bytes()), found.as_bytes(), "{sent}");
        }
    }

    #[test]
    fn every_spelling_is_replaced_at_its_length() {
        let sent = HeaderValue::from_static("Bearer ab+c/d=efgh");
        for shown in [
            "ab+c/d=efgh",
            "ab%2Bc%2Fd%3Defgh",
            "ab%2bc%2fd%3defgh",
            "ab%2Bc/d%3Defgh",
            "ab+c\\/d=efgh",
            "ab+c/d\\u003defgh",
            "ab\\u002Bc/d=efgh",
            "ab+c&#x2F;d&#61;efgh",
            "%61b+c/d=efg&#104;",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-echo", HeaderValue::try_from(format!("<{shown}> {shown}")).unwrap());
            assert_eq!(scrub_headers(&mut headers, &sent), 2, "{shown}");
            let stars = "*".repeat(shown.len());
            assert_eq!(headers.get("x-echo").unwrap(), &format!("<{stars}> {stars}"));
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", HeaderValue::from_static("ab+c/d=efg and nothing of it"));
        assert_eq!(scrub_headers(&mut headers, &sent), 0);
        for near in [
            "ab&plus;c/d=efgh",
            "ab%2c/d=efghi",
            "ab\\u00",
            "ab&#x2Bc/d=efghij",
            "%%%%%%%%%%%%",
            "&&&&&&&&&&&&&",
        ] {
            headers.insert("x-echo", HeaderValue::from_static(near));
            assert_eq!(scrub_headers(&mut headers, &sent), 0, "{near}");
        }
        let quoted = HeaderValue::from_static("ab\"c\\d<e>f&g'h");
        headers.insert(
            "x-echo",
            HeaderValue::from_static(r#""ab\"c\\d<e>f&g'h" ab&quot;c\d&lt;e&gt;f&amp;g&apos;h"#),
        );
        assert_eq!(scrub_headers(&mut headers, &quoted), 2);
        headers.insert("x-echo", HeaderValue::from_static("**********"));
        assert!(scrub_headers(&mut headers, &HeaderValue::from_static("**********")) > 0, "and it ends");
        headers.insert("x-echo", HeaderValue::from_static("short is short"));
        assert_eq!(scrub_headers(&mut headers, &HeaderValue::from_static("short")), 0);
    }
}
