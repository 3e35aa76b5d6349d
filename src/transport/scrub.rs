//! What an upstream shows of the credential that it was sent, as debug pages and echoes do, is kept from the
//! consumer.
//!
//! Header values always; of bodies the first 64 KiB where the status is 400 or more and there is no content
//! coding. What is replaced keeps its length, and so does the body.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue, StatusCode};
use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use super::Answer;
use crate::audit::Broken;

/// How much of a body is looked through.
const MOST: usize = 64 * 1024;
/// A shorter secret would be found in innocent text.
const SHORTEST: usize = 8;

/// Bytes that no encoder of URLs leaves as they are, and those that some do.
const ALL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATHS: &AsciiSet = &ALL.remove(b'/');

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

/// The ways in which it may be written. All are as long or longer.
fn spellings(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let plain = Zeroizing::new(secret.to_vec());
    let escaped = Zeroizing::new(
        secret
            .iter()
            .flat_map(|byte| match byte {
                b'/' => vec![b'\\', b'/'],
                b'"' | b'\\' => vec![b'\\', *byte],
                _ => vec![*byte],
            })
            .collect::<Vec<u8>>(),
    );
    let mut all = vec![plain, escaped];
    for set in [ALL, PATHS] {
        let upper = Zeroizing::new(percent_encode(secret, set).to_string());
        // The same with hexadecimal digits in the other case.
        let mut lower = Zeroizing::new(upper.as_bytes().to_vec());
        let percents: Vec<usize> = memchr::memchr_iter(b'%', upper.as_bytes()).collect();
        for at in percents {
            if let Some(digits) = lower.get_mut(at + 1..at + 3) {
                digits.make_ascii_lowercase();
            }
        }
        all.extend([Zeroizing::new(upper.as_bytes().to_vec()), lower]);
    }
    all
}

/// Replaces every spelling in `text`; how often it was there.
fn replace(text: &mut [u8], spellings: &[Zeroizing<Vec<u8>>]) -> u32 {
    let mut found = 0;
    for spelling in spellings {
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| memmem::find(rest, spelling)) {
            // Onwards: what was put there may look like the secret itself.
            let end = from + at + spelling.len();
            if let Some(shown) = text.get_mut(from + at..end) {
                shown.fill(b'*');
            }
            (from, found) = (end, found + 1);
        }
    }
    found
}

/// Takes what was `sent` out of an answer's header values; how often it was there.
pub fn scrub_headers(headers: &mut HeaderMap, sent: &HeaderValue) -> u32 {
    let secret = secret(sent.as_bytes());
    let mut found = 0;
    if secret.len() < SHORTEST || headers.values().all(|value| value.len() < secret.len()) {
        return found;
    }
    let spellings = spellings(secret);
    for value in headers.values_mut().filter(|value| value.len() >= secret.len()) {
        let mut text = BytesMut::from(value.as_bytes());
        let here = replace(&mut text, &spellings);
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
    let mut read = answer.read(MOST).await?;
    let taken = read.len();
    let found = replace(&mut read, &spellings(secret));
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
        for shown in
            ["ab+c/d=efgh", "ab%2Bc%2Fd%3Defgh", "ab%2bc%2fd%3defgh", "ab%2Bc/d%3Defgh", "ab+c\\/d=efgh"]
        {
            let mut headers = HeaderMap::new();
            headers.insert("x-echo", HeaderValue::try_from(format!("<{shown}> {shown}")).unwrap());
            assert_eq!(scrub_headers(&mut headers, &sent), 2, "{shown}");
            let stars = "*".repeat(shown.len());
            assert_eq!(headers.get("x-echo").unwrap(), &format!("<{stars}> {stars}"));
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", HeaderValue::from_static("ab+c/d=efg and nothing of it"));
        assert_eq!(scrub_headers(&mut headers, &sent), 0);
        headers.insert("x-echo", HeaderValue::from_static("**********"));
        assert!(scrub_headers(&mut headers, &HeaderValue::from_static("**********")) > 0, "and it ends");
        headers.insert("x-echo", HeaderValue::from_static("short is short"));
        assert_eq!(scrub_headers(&mut headers, &HeaderValue::from_static("short")), 0);
    }
}
