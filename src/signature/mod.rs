//! HTTP signatures as JumpServer verifies them (draft-cavage-http-signatures with hmac-sha256), and signatures with RSA
//! keys. This module uses no clock and no I/O.

mod diagnosis;
mod params;
mod rsa;
mod sign;
mod verify;

pub use diagnosis::Diagnosis;
pub use params::{Algorithm, Presented, Unreadable};
pub use rsa::{NoRsaKey, RsaKey, rsa_authorization};
pub use sign::{HmacKey, authorization};
pub use verify::{Message, VerifyingKey};

use http::{HeaderMap, HeaderName};

/// One line of the signing string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// `(request-target): <lower-case method> <path?query>`.
    RequestTarget,
    /// `<lower-case name>: <value>`.
    Header(HeaderName),
}

impl Part {
    /// Parses a name of a header list; `None` if it is no valid header name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "(request-target)" {
            return Some(Self::RequestTarget);
        }
        let lower = name.bytes().all(|byte| !byte.is_ascii_uppercase());
        HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| lower).map(Self::Header)
    }

    /// Parses a header list such as `["(request-target)", "accept", "date"]`. Each part must occur once, and the target
    /// and the date must be among them.
    ///
    /// # Errors
    /// What is wrong with the list, as a sentence.
    pub fn list(names: &[&str]) -> Result<Vec<Self>, String> {
        let mut parts = Vec::new();
        for name in names {
            let part =
                Self::parse(name).ok_or_else(|| format!("`{name}` is not a lower-case header name"))?;
            if parts.contains(&part) {
                return Err(format!("`{name}` is listed twice"));
            }
            parts.push(part);
        }
        match ["(request-target)", "date"].into_iter().find(|required| !names.contains(required)) {
            Some(required) => Err(format!("`{required}` must be signed")),
            None => Ok(parts),
        }
    }

    /// The name of the part in a header list.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::RequestTarget => "(request-target)",
            Self::Header(name) => name.as_str(),
        }
    }
}

/// The error that a header to be signed is absent, or stands on more than one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} to be signed does not occur exactly once")]
pub struct NotOnce(pub HeaderName);

/// Builds the string to sign (draft-cavage-http-signatures-12 §2.3): one line per part, joined by `\n`, with no newline
/// at the end. `target` is the path and query as sent.
///
/// # Errors
/// [`NotOnce`] if a named header is not present exactly once: no two verifiers join lines alike.
pub fn signing_string(
    parts: &[Part],
    method: &str,
    target: &str,
    headers: &HeaderMap,
) -> Result<Vec<u8>, NotOnce> {
    let mut string = Vec::with_capacity(96 + method.len() + target.len());
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            string.push(b'\n');
        }
        string.extend_from_slice(part.as_str().as_bytes());
        string.extend_from_slice(b": ");
        match part {
            Part::RequestTarget => {
                string.extend(method.bytes().map(|byte| byte.to_ascii_lowercase()));
                string.push(b' ');
                string.extend_from_slice(target.as_bytes());
            }
            Part::Header(name) => {
                let mut values = headers.get_all(name).iter();
                let (Some(value), None) = (values.next(), values.next()) else {
                    return Err(NotOnce(name.clone()));
                };
                string.extend_from_slice(value.as_bytes());
            }
        }
    }
    Ok(string)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// Signs every published vector that the upstreams' own clients made.
    #[test]
    fn signs_what_the_reference_clients_sign() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/signatures.json")).unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() >= 7, "the vectors are there");
        for vector in vectors.iter().filter(|vector| vector["algorithm"] == "hmac-sha256") {
            let text = |name: &str| vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}"));
            let mut headers = HeaderMap::new();
            let mut parts = Vec::new();
            for header in vector["headers"].as_array().unwrap() {
                let (name, value) = match header.as_array() {
                    Some(pair) => (pair[0].as_str().unwrap(), pair.get(1).and_then(|value| value.as_str())),
                    None => (header.as_str().unwrap(), None),
                };
                let part = Part::parse(name).unwrap();
                if let (Part::Header(name), Some(value)) = (&part, value) {
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
                parts.push(part);
            }
            let string = signing_string(&parts, text("method"), text("target"), &headers).unwrap();
            let key = HmacKey::new(text("secret").as_bytes());
            assert_eq!(key.sign(&string), text("expected"), "{}", text("name"));
        }
    }

    #[test]
    fn refuses_to_sign_what_is_absent_or_twice() {
        let parts = [Part::RequestTarget, Part::parse("date").unwrap()];
        let mut headers = HeaderMap::new();
        assert!(signing_string(&parts, "GET", "/", &headers).is_err());
        headers.append("date", HeaderValue::from_static("a"));
        assert_eq!(
            signing_string(&parts, "GET", "/", &headers).unwrap(),
            b"(request-target): get /\ndate: a"
        );
        headers.append("date", HeaderValue::from_static("a"));
        assert!(signing_string(&parts, "GET", "/", &headers).is_err());
    }

    #[test]
    fn header_lists_are_lower_case() {
        assert!(Part::parse("Date").is_none());
        assert!(Part::parse("da te").is_none());
    }
}
