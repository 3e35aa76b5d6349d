//! Excerpt of an upstream's explanation why it rejects the gateway's credential. claviger writes it to the trail and
//! the log for the operator; the consumer never receives it.

use std::time::Duration;

use http::Response;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use serde_json::Value;

use super::{UpstreamBody, scrub};
use crate::headers::is_identity;
use crate::inbound::CallerCredential;
use crate::printable::printable_value;

/// The maximum number of body bytes that are read for an excerpt, and the time-out for them.
const READ: usize = 4 * 1024;
const PATIENCE: Duration = Duration::from_secs(1);
/// The maximum length of an excerpt from a body or a challenge, in bytes.
const LONGEST: usize = 256;
const LONGEST_CHALLENGE: usize = 96;
/// JSON members that usually explain an error in words, and those that name it.
const WORDS: [&str; 5] = ["detail", "message", "msg", "error_description", "error"];
const NAMES: [&str; 2] = ["code", "error"];

/// Extracts the upstream's explanation from a response, without the credential that was `sent` and without the
/// consumer's `own` credential. Returns `None` if nothing can be quoted: the body is encoded, truncated, or too slow.
pub async fn excerpt(
    response: &mut Response<UpstreamBody>,
    sent: Option<&HeaderValue>,
    own_credential: Option<&CallerCredential<'_>>,
) -> Option<String> {
    let challenge = response.headers().get(WWW_AUTHENTICATE).map(|challenge| challenge.as_bytes().to_vec());
    let mut text = None;
    if is_identity(response.headers()) {
        let read = tokio::time::timeout(PATIENCE, response.body_mut().read(READ)).await;
        text = read.ok().and_then(Result::ok);
    }
    let text = text
        .map(|mut text| format_excerpt(&mut text, sent, own_credential, LONGEST))
        .filter(|text| !text.is_empty());
    let challenge = challenge
        .map(|mut challenge| format_excerpt(&mut challenge, sent, own_credential, LONGEST_CHALLENGE));
    match (text, challenge.filter(|challenge| !challenge.is_empty())) {
        (Some(text), Some(challenge)) => Some(format!("{text}; it asks for {challenge}")),
        (Some(text), None) => Some(text),
        (None, challenge) => challenge.map(|challenge| format!("it asks for {challenge}")),
    }
}

/// Formats a text for display: a prefix of it, without control characters.
fn format_excerpt(
    text: &mut Vec<u8>,
    sent: Option<&HeaderValue>,
    own_credential: Option<&CallerCredential<'_>>,
    longest: usize,
) -> String {
    let conceal = |text: &mut Vec<u8>| {
        if let Some(sent) = sent {
            scrub::scrub_text(text, sent);
        }
        if let Some(clean) = own_credential.and_then(|own_credential| own_credential.conceal(text)) {
            *text = clean;
        }
    };
    conceal(text);
    let mut words = in_words(text).into_bytes();
    // Decoding JSON escapes may have revealed the secret only now.
    conceal(&mut words);
    let words = String::from_utf8_lossy(&words);
    let mut out = String::new();
    for word in words.split_whitespace() {
        out.extend((!out.is_empty()).then_some(' '));
        out.push_str(&printable_value(word));
        if out.len() > longest {
            out.truncate(out.floor_char_boundary(longest));
            out.push('…');
            return out;
        }
    }
    out
}

/// Returns the text of the JSON members that explain the error, or the text itself.
fn in_words(text: &[u8]) -> String {
    let plain = || String::from_utf8_lossy(text).into_owned();
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(text) else { return plain() };
    let member = |names: &[&str]| {
        names.iter().filter_map(|name| members.get(*name)).find_map(|value| match value {
            Value::String(words) => (!words.trim().is_empty()).then(|| words.clone()),
            Value::Null => None,
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Some(other.to_string())
            }
        })
    };
    match (member(&WORDS), member(&NAMES)) {
        (Some(words), Some(name)) if words != name => format!("{words} ({name})"),
        (Some(words), _) => words,
        (None, Some(name)) => name,
        (None, None) => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let sent = HeaderValue::from_static("Bearer fake-s3cret");
        format_excerpt(&mut text.as_bytes().to_vec(), Some(&sent), None, LONGEST)
    }

    #[test]
    fn what_says_why_is_taken_out_of_json() {
        assert_eq!(
            of(r#"{"detail":"Ip is not in access ip list.","code":"authentication_failed"}"#),
            "Ip is not in access ip list. (authentication_failed)"
        );
        assert_eq!(of(r#"{"message":"Unauthorized"}"#), "Unauthorized");
        assert_eq!(
            of(r#"{"error":"invalid_token","error_description":"it expired"}"#),
            "it expired (invalid_token)"
        );
        assert_eq!(of(r#"{"detail":"","code":401}"#), "401");
        assert_eq!(of(r#"{"detail":{"why":"x"}}"#), r#"{"why":"x"}"#);
        assert_eq!(of(r#"{"ok":false}"#), r#"{"ok":false}"#);
        assert_eq!(of("<h1>401</h1>\r\n\r\n<p>no\u{a0}key"), "<h1>401</h1> <p>no key");
        assert_eq!(of(" \n"), "");
    }

    #[test]
    fn it_is_short_and_shows_neither_the_secret_nor_what_controls_a_terminal() {
        assert_eq!(
            of(r#"{"detail":"no fake-s3cret, no fake-\u00733cret"}"#),
            "no ***********, no ****************"
        );
        assert_eq!(of("a\u{1b}[31m\u{202e}b\0c\u{200b}\u{7f}"), r"a\u001b[31m\u202eb\u0000c\u200b\u007f");
        assert_eq!(of(r#"{"detail":"a\u202eb\u0007"}"#), r"a\u202eb\u0007");
        assert_eq!(of(r#"say "it's" \ and é"#), r#"say "it's" \ and é"#);
        for long in ["x".repeat(5000), "é ".repeat(5000)] {
            let excerpt = of(&long);
            assert!(excerpt.len() <= LONGEST + '…'.len_utf8() && excerpt.ends_with('…'), "{excerpt}");
        }
        let short = HeaderValue::from_static("Bearer s3cr");
        assert_eq!(format_excerpt(&mut b"it was s3cr".to_vec(), Some(&short), None, LONGEST), "it was ****");
    }
}
