//! What an upstream shows of the credential that it was sent, as debug pages and echoes do, is kept from the
//! consumer: in whatever spelling a [`Scanner`] knows.
//!
//! Header lines always; a reason phrase is never passed on. Of bodies without a content coding, those of status 400 or more, and
//! all where the credential is good for other requests too. What is replaced keeps its length, and so does the body.
//! A coding is never asked for; an error that has one all the same could show anything, and is refused.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::descriptions::{remove_descriptions, remove_digests};
use super::{Failure, UpstreamBody};
use crate::code::Code;
use crate::scanner::{SHORTEST, Scanner};

/// Takes the credential that was `sent` in this header value out of an answer; how often it was there, but for the
/// body, which is scrubbed as it comes. `reusable` says that it is no signature, and good for other requests too.
///
/// # Errors
/// [`Failure`] where it could not be found.
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
            return Err(Failure { code: Code::UpstreamInvalid, reason });
        }
        concerns_body = false;
    }
    // Nearly always: a signature is longer than every line.
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
    // Of these two the validator and the range are the current ones of the resource.
    let tells_of_another =
        matches!(response.status(), StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE);
    if found > 0 || (concerns_body && is_error && !tells_of_another) {
        remove_descriptions(response.headers_mut());
    } else if concerns_body {
        remove_digests(response.headers_mut());
    }
    Ok(found)
}

/// A content coding that the body has; none where it can be read as it is.
fn content_coding(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get_all(CONTENT_ENCODING).iter().find(|line| {
        let codings = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        codings.into_iter().any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
    })
}

/// How long the names and values of an answer's head are.
fn lines<B>(response: &Response<B>) -> impl Iterator<Item = usize> {
    response.headers().iter().map(|(name, value)| name.as_str().len().max(value.len()))
}

/// Takes what was `sent` out of a text that is kept, however short it is; how often it was there.
pub(super) fn scrub_text(text: &mut [u8], sent: &HeaderValue) -> u32 {
    let sent = sent.as_bytes();
    let mut found = Scanner::new(&secrets(sent, !sent.starts_with(b"Signature "))).replace(text);
    let last =
        sent.rsplit(|byte| *byte == b' ').next().filter(|word| word.len() < SHORTEST && !word.is_empty());
    if let Some(word) = last {
        while let Some(at) = memchr::memmem::find(text, word) {
            // Another character than any of it, so that it ends.
            let stand_in = if word.contains(&b'*') { b'#' } else { b'*' };
            text.iter_mut().skip(at).take(word.len()).for_each(|byte| *byte = stand_in);
            found += 1;
        }
    }
    found
}

/// Takes it out of an answer's header lines; how often it was there.
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

/// What of a header value that was sent is secret: of a signature itself, else each word after the name of an
/// authentication scheme, what it sets a name to, and what it has in base64.
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

/// The last that is quoted in a header value. Looked for from the end, since it is done for every call.
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
            let wanted: Vec<&[u8]> = found.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(secrets(sent.as_bytes(), reusable), wanted, "{sent}");
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
