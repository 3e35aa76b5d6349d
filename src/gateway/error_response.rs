//! The gateway's own error responses: maps a code to JSON that clients of the upstream understand.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use uuid::Uuid;

use crate::code::Code;
use crate::inbound::is_signature;

/// The header that carries the error code of a response made by the gateway.
pub const ERROR: HeaderName = HeaderName::from_static("claviger-error");
/// The header that carries the request id in every response; the trail records the call under the same id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The authentication method that the caller used, and that a 401 response requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// A bearer token, or no credential at all.
    Token,
    /// An HTTP signature (draft-cavage-http-signatures, §3.1.1).
    Signature,
}

impl Challenge {
    /// Selects the challenge for a request with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        if is_signature(headers) { Self::Signature } else { Self::Token }
    }

    /// Returns the sentence shown to the caller. It is the same for every defect of a token, and for every defect
    /// of a signature.
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

/// Builds the error response for `code`. `close` closes the connection after the response.
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

/// Sets the request id header of a response.
pub fn put_request_id(headers: &mut HeaderMap, request_id: Uuid) {
    let mut buffer = Uuid::encode_buffer();
    if let Ok(value) = HeaderValue::from_str(request_id.hyphenated().encode_lower(&mut buffer)) {
        headers.insert(REQUEST_ID, value);
    }
}
