//! Scrubbing: masks the credential in responses, in every spelling that a [`Scanner`] recognises. Debug pages and echo
//! services may repeat it.
//!
//! Header fields are always scrubbed; a reason phrase is never forwarded. A body without a content coding is scrubbed
//! if its status is 400 or more, or if the credential is reusable. A mask has the length of the text it replaces, so
//! the body length stays the same. claviger never requests a coding. An error response with a coding could contain
//! anything, and is refused.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http::{HeaderValue, Response, StatusCode};

use super::UpstreamBody;
use super::descriptions::{remove_descriptions, remove_digests};
use crate::code::{Code, Failure};
use crate::headers::content_coding;
use crate::scanner::{SHORTEST, Scanner};

/// Masks the credential `sent` in this header value in a response. Returns the number of matches outside the body; the
/// body is scrubbed while it streams. `reusable` means that the credential is no signature, and valid for
/// other requests too.
///
/// # Errors
/// [`Failure`] if the response is an error with a content coding, so that the credential could not be found.
pub fn scrub(
    response: &mut Response<UpstreamBody>,
    sent: &HeaderValue,
    reusable: bool,
) -> Result<u32, Failure> {
    let is_error = response.status().as_u16() >= 400;
    let mut concerns_body = (reusable || is_error) && !response.body().is_exhausted();
    if concerns_body && let Some(coding) = content_coding(response.headers()) {
        if is_error {
            let reason = format!("an error with the content coding {coding:?}, which was not asked for");
            return Err(Failure::new(Code::UpstreamInvalid, reason));
        }
        concerns_body = false;
    }
    // The usual case: a signature is longer than every field.
    let shortest = if reusable { SHORTEST } else { signature(sent.as_bytes()).len() };
    if !concerns_body && lines(response).all(|length| length < shortest) {
        return Ok(0);
    }
    let scanner = Scanner::new(&secrets(sent.as_bytes(), reusable));
    if scanner.is_empty() {
        return Ok(0);
    }
    let found = scrub_head(response, &scanner);
    if concerns_body {
        response.body_mut().scrub(scanner);
    }
    // In these two responses, the validator and the range describe the current resource and not this body.
    let describes_another =
        matches!(response.status(), StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE);
    if found > 0 || (concerns_body && is_error && !describes_another) {
        remove_descriptions(response.headers_mut());
    } else if concerns_body {
        remove_digests(response.headers_mut());
    }
    Ok(found)
}

/// Iterates over the response's header fields; yields the longer of name and value, in bytes.
fn lines<B>(response: &Response<B>) -> impl Iterator<Item = usize> {
    response.headers().iter().map(|(name, value)| name.as_str().len().max(value.len()))
}

/// Masks the credential `sent` in a text, however short it is. Returns the number of matches.
pub(super) fn scrub_text(text: &mut [u8], sent: &HeaderValue) -> u32 {
    let sent = sent.as_bytes();
    let mut found = Scanner::new(&secrets(sent, !sent.starts_with(b"Signature "))).replace(text);
    let last =
        sent.rsplit(|byte| *byte == b' ').next().filter(|word| word.len() < SHORTEST && !word.is_empty());
    if let Some(word) = last {
        while let Some(at) = memchr::memmem::find(text, word) {
            // A character that does not occur in the word, so that the loop ends.
            let stand_in = if word.contains(&b'*') { b'#' } else { b'*' };
            text.iter_mut().skip(at).take(word.len()).for_each(|byte| *byte = stand_in);
            found += 1;
        }
    }
    found
}

/// Masks the credential in the header fields of a response. Returns the number of matches.
fn scrub_head<B>(response: &mut Response<B>, scanner: &Scanner) -> u32 {
    let mut found = 0;
    let headers = response.headers_mut();
    let named: Vec<_> =
        headers.keys().filter(|name| scanner.is_in(name.as_str().as_bytes())).cloned().collect();
    for name in named {
        headers.remove(name);
        found += 1;
    }
    for value in headers.values_mut() {
        let mut text = BytesMut::from(value.as_bytes());
        let here = scanner.replace(&mut text);
        if here > 0
            && let Ok(clean) = HeaderValue::from_maybe_shared(text.freeze())
        {
            *value = clean;
            found += here;
        }
    }
    found
}

/// Returns the secret parts of a header value that was sent. Of a signature, this is the signature itself. Otherwise it
/// is each word after the authentication scheme, the value after `=`, and the password decoded from base64.
fn secrets(sent: &[u8], reusable: bool) -> Vec<Cow<'_, [u8]>> {
    if !reusable {
        return vec![Cow::Borrowed(signature(sent))];
    }
    let (scheme, words) =
        match sent.iter().position(|byte| *byte == b' ').and_then(|at| sent.split_at_checked(at)) {
            Some((scheme, words)) => (scheme, words),
            None => (b"".as_slice(), sent),
        };
    let mut secrets = Vec::new();
    for word in words.split(|byte| *byte == b' ') {
        secrets.push(Cow::Borrowed(word));
        let value = word.iter().position(|byte| *byte == b'=').and_then(|at| word.get(at + 1..));
        secrets.extend(value.map(Cow::Borrowed));
        if scheme.eq_ignore_ascii_case(b"basic")
            && let Ok(pair) = STANDARD.decode(word)
            && let Some(colon) = pair.iter().position(|byte| *byte == b':')
        {
            secrets.push(Cow::Owned(pair.get(colon + 1..).unwrap_or_default().to_vec()));
        }
    }
    secrets.retain(|secret| secret.len() >= SHORTEST);
    if secrets.is_empty() { vec![Cow::Borrowed(sent)] } else { secrets }
}

/// Returns the last quoted string of a header value. It is searched from the end, since this runs for every call.
fn signature(sent: &[u8]) -> &[u8] {
    sent.rsplit(|byte| *byte == b'"').nth(1).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn knows_what_of_a_value_is_the_secret() {
        for (sent, reusable, found) in [
            ("Bearer abcdefgh", true, vec!["abcdefgh"]),
            ("BootstrapToken abcdefgh", true, vec!["abcdefgh"]),
            ("abcdefgh==", true, vec!["abcdefgh=="]),
            ("sessionid=abcdefgh", true, vec!["sessionid=abcdefgh", "abcdefgh"]),
            ("GoogleLogin auth=abcdefgh", true, vec!["auth=abcdefgh", "abcdefgh"]),
            ("Basic bWU6YWJjZGVmZ2g=", true, vec!["bWU6YWJjZGVmZ2g=", "abcdefgh"]),
            ("abc defg", true, vec!["abc defg"]),
            ("Signature keyId=\"k\",headers=\"date\",signature=\"c2ln+/==\"", false, vec!["c2ln+/=="]),
        ] {
            let expected: Vec<&[u8]> = found.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(secrets(sent.as_bytes(), reusable), expected, "{sent}");
        }
    }

    #[test]
    fn names_and_values_are_scrubbed() {
        let scanner = Scanner::new(&[Cow::Borrowed(b"fake-secret-1".as_slice())]);
        let mut response = Response::new(());
        response.headers_mut().insert("x-fake-secret-1", HeaderValue::from_static("a"));
        response.headers_mut().insert("x-echo", HeaderValue::from_static("<fake-secret%2d1>"));
        assert_eq!(scrub_head(&mut response, &scanner), 2);
        assert_eq!(response.headers().len(), 1);
        assert_eq!(response.headers().get("x-echo").unwrap(), "<***************>");
    }
}
