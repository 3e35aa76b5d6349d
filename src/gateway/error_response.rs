//! The gateway's own answers: a code → JSON that scripts written for the upstream understand.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use uuid::Uuid;

use crate::code::Code;
use crate::inbound::is_signature;

/// The header that names the code of an answer of ours.
pub const ERROR: HeaderName = HeaderName::from_static("claviger-error");
/// The header under which every answer carries the id that the trail knows the call by.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How the caller tried to prove itself, and is asked to in a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a token, or not at all.
    Token,
    /// By a signature (draft-cavage-http-signatures, §3.1.1).
    Signature,
}

impl Challenge {
    /// What a request with these headers is answered with.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        if is_signature(headers) { Self::Signature } else { Self::Token }
    }

    /// The sentence for the caller: the same for whatever is wrong with a token, and with a signature.
    const fn detail(self, code: Code) -> &'static str {
        match (code, self) {
            (Code::Unauthenticated, Self::Signature) => {
                "The signature is not valid for any access key: check the key's id and secret, and that the request is sent as it was signed."
            }
            (_, Self::Signature | Self::Token) => code.detail(),
        }
    }

    const fn lines(self) -> &'static [&'static str] {
        match self {
            Self::Token => &["Bearer realm=\"claviger\""],
            Self::Signature => &[
                "Signature realm=\"claviger\",headers=\"(request-target) date\"",
                "Bearer realm=\"claviger\"",
            ],
        }
    }
}

/// The answer for `code`. `close` says that the connection cannot go on after it.
#[must_use]
pub fn problem(
    (code, challenge): (Code, Challenge),
    request_id: Uuid,
    retry_after: Option<Duration>,
    close: bool,
) -> Response<Bytes> {
    let body = serde_json::json!({
        "detail": challenge.detail(code),
        "code": code.as_str(),
        "request_id": request_id.to_string(),
        "by": "claviger",
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR, HeaderValue::from_static(code.as_str()));
    put_request_id(headers, request_id);
    if code.status() == StatusCode::UNAUTHORIZED {
        for line in challenge.lines() {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(line));
        }
    }
    if code == Code::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    let wait = retry_after.or_else(|| (code == Code::Unrecorded).then_some(Duration::from_secs(1)));
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Puts the id of the call on an answer.
pub fn put_request_id(headers: &mut HeaderMap, request_id: Uuid) {
    let mut buffer = Uuid::encode_buffer();
    if let Ok(value) = HeaderValue::from_str(request_id.hyphenated().encode_lower(&mut buffer)) {
        headers.insert(REQUEST_ID, value);
    }
}
