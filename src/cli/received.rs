//! A request as it was received, from a file: who sent it, and where a signature differs.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::gateway::Snapshot;
use crate::inbound::{Dead, Unidentified, identify};
use crate::signature::{Message, Presented};

/// The longest head that is read, in bytes.
const LONGEST: u64 = 256 * 1024;

/// The head of a request.
pub(super) struct Received {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
}

/// Why nobody is known by it.
pub(super) struct Unknown {
    pub(super) reason: String,
    /// The string that its signature should be over, line by line.
    pub(super) expected: Option<String>,
}

impl Received {
    /// Reads a head: request line and header lines, with line ends of either kind.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let told = || path.display().to_string();
        ensure!(fs::metadata(path).with_context(told)?.len() <= LONGEST, "{}: too long for a head", told());
        let text = fs::read_to_string(path).with_context(told)?;
        let mut lines = text.lines().map(|line| line.trim_end_matches('\r'));
        let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let &[method, target, version] = &first[..] else { bail!("{}: {NO_HEAD}", told()) };
        ensure!(version.starts_with("HTTP/"), "{}: {NO_HEAD}", told());
        let method = Method::from_bytes(method.as_bytes()).with_context(told)?;
        let mut headers = HeaderMap::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) =
                line.split_once(':').with_context(|| format!("{}: `{line}`: no header line", told()))?;
            let name = HeaderName::from_bytes(name.as_bytes()).with_context(told)?;
            headers.append(name, HeaderValue::from_str(value.trim_ascii()).with_context(told)?);
        }
        Ok(Self { method, target: target.to_owned(), headers })
    }

    /// The host it was for.
    pub(super) fn host(&self) -> &str {
        self.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
    }

    /// Who sent it, by the keys and tokens that are known now. Whether a strict key's signature was used
    /// before is known to the running gateway alone.
    pub(super) fn sender(&self, snapshot: &Snapshot, now: std::time::SystemTime) -> Result<String, Unknown> {
        let message =
            Message { method: self.method.as_str(), target: self.target.as_bytes(), headers: &self.headers };
        let why = match identify(message, &snapshot.directory, now) {
            Ok(identity) => return Ok(identity.name().to_string()),
            Err(why) => why,
        };
        let reason = match why {
            Unidentified::Missing => "there is no credential".into(),
            Unidentified::Duplicate => "there is more than one credential".into(),
            Unidentified::Unknown(_) => "the credential is unknown".into(),
            Unidentified::Dead(Dead::Expired, _) => "the credential has expired".into(),
            Unidentified::Dead(Dead::Revoked, _) => "the credential was revoked".into(),
            Unidentified::Dead(Dead::Disabled, _) => "the consumer is disabled".into(),
            Unidentified::Forged(reason, detail, _) => detail.unwrap_or_else(|| reason.into()),
        };
        Err(Unknown { reason, expected: self.expected(message) })
    }

    fn expected(&self, message: Message<'_>) -> Option<String> {
        let (scheme, rest) = self.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let presented = Presented::parse(rest).ok().filter(|_| scheme.eq_ignore_ascii_case("signature"))?;
        let string = message.signing_string(&presented.parts, None).ok()?;
        Some(String::from_utf8_lossy(&string).into_owned())
    }
}

/// What to say of a file that begins otherwise.
const NO_HEAD: &str = "it is no request as it was received: the first line is `GET /path HTTP/1.1`";
