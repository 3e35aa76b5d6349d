//! Parses the responses to logins.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::error::{LoginError, Verdict};
use crate::code::{Code, Failure};
use crate::transport::Fetched;

/// The maximum length of a token, in bytes: half of the usual limit of a header block.
const LONGEST: usize = 8 * 1024;

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

impl Pointer {
    /// Parses a pointer to a member; `None` if the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut escapes = text.split('~').skip(1);
        let well = text.starts_with('/') && escapes.all(|rest| rest.starts_with(['0', '1']));
        well.then(|| Self(text.to_owned()))
    }

    /// Returns the value that the pointer refers to.
    #[must_use]
    pub fn find_in<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.pointer(&self.0)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses the response to a login or of a token endpoint: the JSON of its body, or `null` if it is no JSON.
///
/// # Errors
/// [`LoginError`] if the status or an `error` member refuses the token.
pub(crate) fn parse_answer(fetched: &Fetched, secret: &[u8]) -> Result<Value, LoginError> {
    let answer = serde_json::from_slice(fetched.body()).unwrap_or_default();
    refusal(fetched.status(), &answer, secret).map_or(Ok(answer), Err)
}

/// Returns the error of an answer that has no token. An answer that is no JSON, for example an HTML page of a proxy,
/// proves nothing about the credential.
pub(crate) fn without_token(answer: &Value, reason: impl Into<String>) -> LoginError {
    if answer.is_null() { LoginError::possible(reason) } else { LoginError::refused(reason) }
}

/// Returns why a response grants no token, if its status or an `error` member says so.
fn refusal(status: StatusCode, answer: &Value, secret: &[u8]) -> Option<LoginError> {
    let word = answer.get("error").and_then(Value::as_str).filter(|word| !word.is_empty());
    if status.is_success() && word.is_none() {
        return None;
    }
    let detail = word.filter(|word| is_printable(word, secret)).map(|word| format!(" ({word})"));
    let reason = format!("the login was answered {}{}", status.as_u16(), detail.unwrap_or_default());
    let verdict = verdict(status, word.unwrap_or_default());
    let code = if verdict == Verdict::Unheard { Code::UpstreamInvalid } else { Code::UpstreamAuth };
    Some(LoginError { failure: Failure::new(code, reason), verdict })
}

/// Error codes by which an upstream states that it cannot judge a login now (RFC 6749 §4.1.2.1, RFC 8628 §3.5).
const NOT_NOW: [&str; 3] = ["server_error", "temporarily_unavailable", "slow_down"];

const LOCKED: &str = "the account is locked: unlock it at the upstream";

/// Prefixes of `JumpServer` messages about failures that a second attempt cannot change, each with the
/// advice that helps.
const BARRED: [(&str, &str); 8] = [
    ("block_", LOCKED),
    (
        "mfa_",
        "the account requires a second factor, which claviger cannot provide: use another account, or an access key",
    ),
    ("login_confirm_", "the login waits for an approval at the upstream: use an account that needs none"),
    ("user_", "the account is not usable: check it at the upstream"),
    ("password_expired", "the password has expired: set another at the upstream, then here"),
    ("passwd_", "the upstream requires a new password: set it there, then here"),
    ("acl_", "an access rule of the upstream forbids this login"),
    ("account_", "the account is not usable: check it at the upstream"),
];

/// Returns the verdict for an advice from that list.
pub(crate) fn parse_refusal(advice: &str) -> Option<Verdict> {
    BARRED.into_iter().find(|(_, known)| *known == advice).map(|(_, known)| Verdict::Barred(known))
}

/// Judges the credential by a response that grants no token.
fn verdict(status: StatusCode, word: &str) -> Verdict {
    if status.is_server_error() || NOT_NOW.contains(&word) {
        return Verdict::Unheard;
    }
    if let Some((_, advice)) = BARRED.iter().find(|(begin, _)| word.starts_with(begin)) {
        return Verdict::Barred(advice);
    }
    match status {
        StatusCode::LOCKED => Verdict::Barred(LOCKED),
        StatusCode::BAD_REQUEST
        | StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::UNPROCESSABLE_ENTITY
        // On an HTML login page, a wrong password redirects to the form.
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER => Verdict::Refused,
        other if other.is_success() => Verdict::Refused,
        _ => Verdict::Unjudged,
    }
}

/// Returns whether an upstream's word is an error code and does not contain the secret.
fn is_printable(word: &str, secret: &[u8]) -> bool {
    let secret = std::str::from_utf8(secret).unwrap_or_default();
    word.len() <= 64
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !word.contains(secret)
}

/// Returns whether a text can be sent as a token: visible ASCII, without characters that end a cookie.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}

/// Parses an instant of a response: seconds since 1970, RFC 3339, or `2026/11/25 07:00:00 +0000` as
/// `JumpServer` writes it.
pub(crate) fn parse_time(value: &Value) -> Option<SystemTime> {
    if let Some(seconds) = value.as_f64() {
        return UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
    }
    let text = value.as_str()?;
    let instant = text.parse::<Timestamp>().or_else(|_| Timestamp::strptime("%Y/%m/%d %H:%M:%S %z", text));
    let since = Duration::try_from(instant.ok()?.duration_since(Timestamp::UNIX_EPOCH)).ok()?;
    UNIX_EPOCH.checked_add(since)
}

/// Returns the end of a JWT (RFC 7519 §4.1.4); `None` if the token is no JWT or has no end.
pub(crate) fn jwt_end(token: &str) -> Option<SystemTime> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    parse_time(claims.get("exp").filter(|end| end.is_number())?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use Verdict::{Barred, Refused, Unheard, Unjudged};
    use serde_json::json;
    use zeroize::Zeroizing;

    #[test]
    fn reads_every_way_in_which_an_end_is_told() {
        let expected = UNIX_EPOCH + Duration::from_mins(29_400_890);
        for value in [
            json!(1_764_053_400),
            json!(1_764_053_400.0),
            json!("2025-11-25T06:50:00Z"),
            json!("2025-11-25T14:50:00+08:00"),
            json!("2025/11/25 06:50:00 +0000"),
            json!("2025/11/25 14:50:00 +0800"),
        ] {
            assert_eq!(parse_time(&value), Some(expected), "{value}");
        }
        for value in [json!(null), json!("soon"), json!(-1), json!(1e300), json!(""), json!("2025/11/25")] {
            assert_eq!(parse_time(&value), None, "{value}");
        }
    }

    #[test]
    fn reads_when_a_jwt_ends() {
        let claims = |claims: Value| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        assert_eq!(jwt_end(&claims(json!({"exp": 7}))), Some(UNIX_EPOCH + Duration::from_secs(7)));
        for none in [claims(json!({})), claims(json!({"exp": "7"})), "a.b".into(), "a.b.c.d".into()] {
            assert_eq!(jwt_end(&none), None, "{none}");
        }
    }

    #[test]
    fn a_pointer_is_one() {
        let answer = json!({"info": {"access_token": "fake"}, "a/b": 1});
        assert_eq!(Pointer::parse("/info/access_token").unwrap().find_in(&answer), Some(&json!("fake")));
        assert_eq!(Pointer::parse("/a~1b").unwrap().find_in(&answer), Some(&json!(1)));
        for none in ["", "token", "/a~b", "/a~"] {
            assert_eq!(Pointer::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_page_in_place_of_an_answer_proves_nothing_about_the_password() {
        let answer = |body: &str| {
            let body = Zeroizing::new(body.as_bytes().to_vec());
            let fetched = Fetched::new(body);
            parse_answer(&fetched, b"fake_hunter2").map(|answer| without_token(&answer, "no token").verdict)
        };
        assert_eq!(answer("<html>back soon</html>").unwrap(), Unjudged);
        assert_eq!(answer("").unwrap(), Unjudged);
        assert_eq!(answer("{}").unwrap(), Refused);
        assert_eq!(answer(r#"{"error": "password_failed"}"#).unwrap_err().verdict, Refused);
    }

    #[test]
    fn a_refusal_is_told_by_its_code_and_never_by_what_it_repeats() {
        let judge = |status: u16, answer: Value| {
            let error = refusal(StatusCode::from_u16(status).unwrap(), &answer, b"fake_hunter2")?;
            Some((error.failure.reason, error.verdict))
        };
        assert_eq!(judge(201, json!({"token": "x"})), None);
        for (status, word) in [(200, "mfa_required"), (400, "block_login"), (400, "user_expired"), (423, "")]
        {
            let (reason, verdict) = judge(status, json!({ "error": word })).unwrap();
            assert!(reason.contains(word) && matches!(verdict, Barred(_)), "{reason}: {verdict:?}");
        }
        for (status, answer, reason, verdict) in [
            (
                400,
                json!({"error": "password_failed"}),
                "the login was answered 400 (password_failed)",
                Refused,
            ),
            (401, json!({"error": "invalid_client"}), "the login was answered 401 (invalid_client)", Refused),
            (401, json!(null), "the login was answered 401", Refused),
            (302, json!("x"), "the login was answered 302", Refused),
            (503, json!({"error": "down"}), "the login was answered 503 (down)", Unheard),
            (
                400,
                json!({"error": "temporarily_unavailable"}),
                "the login was answered 400 (temporarily_unavailable)",
                Unheard,
            ),
            (404, json!(null), "the login was answered 404", Unjudged),
            (429, json!({"error": "throttled"}), "the login was answered 429 (throttled)", Unjudged),
            (301, json!(null), "the login was answered 301", Unjudged),
            (400, json!({"error": "no_fake_hunter2"}), "the login was answered 400", Refused),
            (400, json!({"error": "Wrong: Hunter2"}), "the login was answered 400", Refused),
        ] {
            assert_eq!(judge(status, answer), Some((reason.to_owned(), verdict)));
        }
    }
}
