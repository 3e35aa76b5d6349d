//! A request from a file, or built from command-line arguments. It passes the same framing as a request from a socket.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use http::header::{AUTHORIZATION, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::code::{Code, Fault};
use crate::framing::{HeadLimits, request_fields, request_head};
use crate::gateway::Snapshot;
use crate::gateway::explain::TestCall;
use crate::inbound::{AuthError, CredentialError, Ended};
use crate::policy::BodyMembers;
use crate::signature::{Message, Presented};

/// The size of the largest file that is read, in bytes: a body that a rule reads is a small part of it.
const LONGEST: u64 = 32 * 1024 * 1024;

/// A request as the gateway would receive it.
pub(super) struct Received {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    /// The bytes after the head.
    rest: Vec<u8>,
}

/// The reason why the request does not authenticate a consumer.
pub(super) struct Unknown {
    pub(super) code: Code,
    pub(super) reason: String,
    /// The string that its signature should cover, line by line.
    pub(super) expected: Option<String>,
}

impl Received {
    /// Parses a request: request line and header lines, with CRLF or LF, and the body, if any. The inner error is the
    /// fault of a head that the gateway's framing refuses.
    pub(super) fn read(path: &Path, limits: &HeadLimits) -> anyhow::Result<Result<Self, Fault>> {
        let name = || path.display().to_string();
        ensure!(fs::metadata(path).with_context(name)?.len() <= LONGEST, "{}: the file is too long", name());
        let bytes = fs::read(path).with_context(name)?;
        let (head, rest) = split_head(&bytes);
        let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
        let version = first.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        ensure!(version.starts_with(b"HTTP/"), "{}: {NO_HEAD}", name());
        let is_http2 = version.starts_with(b"HTTP/2");
        let received = Self::parse(&head, rest.to_vec()).with_context(name)?;
        let judged = if is_http2 { received.check(limits) } else { received.check_framing(head, limits) };
        Ok(judged.map(|()| received))
    }

    /// Builds a request as a script with a token of the usual length would send it.
    pub(super) fn from_args(
        (method, target, host): (Method, &str, &str),
        mut headers: HeaderMap,
        body: Vec<u8>,
        limits: &HeadLimits,
    ) -> Result<Self, Fault> {
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.entry(HOST).or_insert(host);
        }
        let mut head = Vec::new();
        // Writing into a vector cannot fail.
        write!(head, "{method} {target} HTTP/1.1\r\n").unwrap_or_default();
        let token = HeaderValue::from_static("Bearer clv_000000000000000000000000000000000000");
        let token = Some((&AUTHORIZATION, &token)).filter(|_| !is_credentialed(&headers));
        for (name, value) in headers.iter().chain(token) {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        let typed = Self { method, target: target.to_owned(), headers, rest: body };
        typed.check_framing(head, limits).map(|()| typed)
    }

    /// Runs the framing on a head with these bytes. A head that was written down without `Host` is treated as
    /// if it had one.
    fn check_framing(&self, mut head: Vec<u8>, limits: &HeadLimits) -> Result<(), Fault> {
        if !self.headers.contains_key(HOST) {
            head.truncate(head.len().saturating_sub(b"\r\n".len()));
            head.extend(b"Host: localhost\r\n\r\n");
        }
        let cut = Fault { code: Code::Malformed, reason: "head cut short" };
        request_head(&head, limits)?.map(drop).ok_or(cut)
    }

    fn parse(head: &[u8], rest: Vec<u8>) -> anyhow::Result<Self> {
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first: Vec<&[u8]> = lines.next().unwrap_or_default().split(|byte| *byte == b' ').collect();
        let &[method, target, _] = &first[..] else { bail!(NO_HEAD) };
        let (method, target) = (Method::from_bytes(method)?, String::from_utf8_lossy(target).into_owned());
        let mut headers = HeaderMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let no_line = || format!("`{}`: no header line", String::from_utf8_lossy(line).escape_debug());
            let colon = line.iter().position(|byte| *byte == b':').with_context(no_line)?;
            let (name, value) = line.split_at_checked(colon).with_context(no_line)?;
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            headers.append(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?);
        }
        Ok(Self { method, target, headers, rest })
    }

    /// Runs the framing on the same head as HTTP/2.
    fn check(&self, limits: &HeadLimits) -> Result<(), Fault> {
        let fields = self.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        request_fields(self.target.as_bytes(), fields, limits)
    }

    /// The host that the request was for.
    pub(super) fn host(&self) -> &str {
        self.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
    }

    /// The body, if it is complete; `None` if the head announces more than there is.
    pub(super) fn body(&self) -> Option<&[u8]> {
        if self.headers.contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let length = self.headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        self.rest.get(..length)
    }

    /// The call that the request makes, with what rules read of its body.
    pub(super) fn call(&self, body: BodyMembers) -> TestCall {
        let (method, host, target) = (self.method.clone(), self.host().to_owned(), self.target.clone());
        TestCall { method, host, target, headers: self.headers.clone(), body }
    }

    /// Explains why the credential does not authenticate a consumer.
    pub(super) fn unknown(&self, snapshot: &Snapshot, why: AuthError) -> Unknown {
        let message =
            Message { method: self.method.as_str(), target: self.target.as_bytes(), headers: &self.headers };
        let code = match why {
            AuthError::Duplicate => Code::DuplicateCredential,
            AuthError::Missing | AuthError::Rejected(..) => Code::Unauthenticated,
        };
        let reason = match why {
            AuthError::Missing => "there is no credential".into(),
            AuthError::Duplicate => "there is more than one credential".into(),
            AuthError::Rejected(error, sent) => match error {
                CredentialError::Unknown => "the credential is unknown".into(),
                CredentialError::Ended(Ended::Expired) => "the credential has expired".into(),
                CredentialError::Ended(Ended::Revoked) => "the credential was revoked".into(),
                CredentialError::Ended(Ended::Disabled) => "the consumer is disabled".into(),
                CredentialError::BadSignature(reason, may_explain) => {
                    let detail = may_explain.then(|| snapshot.directory.explain(&sent, message)).flatten();
                    detail.unwrap_or_else(|| reason.into())
                }
            },
        };
        Unknown { code, reason, expected: self.expected(message) }
    }

    fn expected(&self, message: Message<'_>) -> Option<String> {
        let (scheme, rest) = self.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let presented = Presented::parse(rest).ok().filter(|_| scheme.eq_ignore_ascii_case("signature"))?;
        let string = message.signing_string(&presented.parts, None).ok()?;
        Some(String::from_utf8_lossy(&string).into_owned())
    }
}

/// Whether the headers carry a credential.
pub(super) fn is_credentialed(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.get("x-api-key").is_some_and(|key| !key.is_empty())
}

/// Splits a file into the head, with CRLF line ends, and the bytes after it.
fn split_head(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut head, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = after;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        head.extend([line, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    (head, rest)
}

/// The error for a file that does not begin with a request line.
const NO_HEAD: &str = "it is no request as it was received: the first line is `GET /path HTTP/1.1`";
