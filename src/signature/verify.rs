//! Reading and verifying the signatures that consumers make (draft-cavage-http-signatures-12).

use std::borrow::Cow;

use aws_lc_rs::hmac as legacy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::{HmacKey, Part};
use crate::secret::Secret;

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha1`.
    HmacSha1,
    /// `hmac-sha256`.
    HmacSha256,
    /// `hmac-sha512`.
    HmacSha512,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::HmacSha1, Self::HmacSha256, Self::HmacSha512];

    /// The name in a signature.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    /// The algorithm of this name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }
}

/// What a consumer sent after `Signature` in `Authorization`.
#[derive(Debug)]
pub struct Presented {
    /// By which the key is found.
    pub key_id: String,
    /// How it was made.
    pub algorithm: Algorithm,
    /// What was signed, in order.
    pub parts: Vec<Part>,
    signature: Vec<u8>,
}

/// Why what was sent is no signature that could be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no list of `name="value"`.
    #[error("unreadable signature")]
    Form,
    /// A parameter that matters is there twice.
    #[error("signature with a parameter twice")]
    Twice,
    /// One that is needed is not there.
    #[error("signature without keyId or signature")]
    Missing,
    /// The algorithm is unknown.
    #[error("signature by an unknown algorithm")]
    Algorithm,
    /// Something is signed that is no header.
    #[error("signature over something unknown")]
    Part,
    /// `(request-target)` or `date` is not signed.
    #[error("signature without (request-target) or date")]
    Uncovered,
    /// The signature is not base64.
    #[error("signature not in base64")]
    Base64,
}

/// A request as it was received, as far as signatures are about it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, byte for byte.
    pub target: &'a [u8],
    /// The headers.
    pub headers: &'a HeaderMap,
}

impl Presented {
    /// Reads the parameters: in any order and spacing, names in any case, commas within quotes, unknown
    /// ones ignored (draft §2.1). Without `algorithm` it is hmac-sha256.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let (mut key_id, mut algorithm, mut headers, mut signature) = (None, None, None, None);
        let mut rest = text.trim_matches(BLANK);
        while !rest.is_empty() {
            let (name, value, after) = parameter(rest)?;
            let slot = match name {
                name if name.eq_ignore_ascii_case("keyId") => Some(&mut key_id),
                name if name.eq_ignore_ascii_case("algorithm") => Some(&mut algorithm),
                name if name.eq_ignore_ascii_case("headers") => Some(&mut headers),
                name if name.eq_ignore_ascii_case("signature") => Some(&mut signature),
                _ => None,
            };
            if let Some(slot) = slot
                && slot.replace(value).is_some()
            {
                return Err(Unreadable::Twice);
            }
            rest = after;
        }
        let (Some(key_id), Some(signature)) = (key_id, signature) else { return Err(Unreadable::Missing) };
        let algorithm = match algorithm {
            Some(name) => Algorithm::parse(&name).ok_or(Unreadable::Algorithm)?,
            None => Algorithm::HmacSha256,
        };
        let mut parts = Vec::new();
        for name in headers.as_deref().unwrap_or_default().split(BLANK).filter(|name| !name.is_empty()) {
            parts.push(Part::parse(&name.to_ascii_lowercase()).ok_or(Unreadable::Part)?);
        }
        let covers = |name: &str| parts.iter().any(|part| part.as_str() == name);
        if !(covers("(request-target)") && covers("date")) {
            return Err(Unreadable::Uncovered);
        }
        let signature = STANDARD.decode(signature.as_bytes()).map_err(|_| Unreadable::Base64)?;
        Ok(Self { key_id: key_id.into_owned(), algorithm, parts, signature })
    }

    /// The bytes of the signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// What may stand around parameters and names.
const BLANK: [char; 2] = [' ', '\t'];

/// Cuts the first `name=value` off: name, value, and what comes after the comma behind it.
fn parameter(text: &str) -> Result<(&str, Cow<'_, str>, &str), Unreadable> {
    let (name, rest) = text.split_once('=').ok_or(Unreadable::Form)?;
    let (name, rest) = (name.trim_matches(BLANK), rest.trim_start_matches(BLANK));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte)) {
        return Err(Unreadable::Form);
    }
    let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
        unquoted(quoted)?
    } else {
        let (value, rest) = rest.split_at(rest.find([',', ' ', '\t']).unwrap_or(rest.len()));
        if value.is_empty() || value.contains('"') {
            return Err(Unreadable::Form);
        }
        (Cow::Borrowed(value), rest)
    };
    let rest = rest.trim_start_matches(BLANK);
    match rest.strip_prefix(',') {
        // An empty element, as a comma at the end leaves, means nothing (RFC 9110 §5.6.1).
        Some(after) => Ok((name, value, after.trim_start_matches(|c| c == ',' || BLANK.contains(&c)))),
        None if rest.is_empty() => Ok((name, value, "")),
        None => Err(Unreadable::Form),
    }
}

/// The text up to the closing quote, and what comes after it (RFC 9110 §5.6.4).
fn unquoted(text: &str) -> Result<(Cow<'_, str>, &str), Unreadable> {
    let mut value = Cow::Borrowed("");
    let (mut begin, mut chars) = (0, text.char_indices());
    while let Some((at, c)) = chars.next() {
        let so_far = text.get(begin..at).unwrap_or_default();
        match c {
            '"' => {
                value += so_far;
                return Ok((value, text.get(at + 1..).unwrap_or_default()));
            }
            '\\' => {
                value += so_far;
                let (next, _) = chars.next().ok_or(Unreadable::Form)?;
                begin = next;
            }
            _ => {}
        }
    }
    Err(Unreadable::Form)
}

impl Message<'_> {
    /// The line that stands for `part` in the signing string of what was received, without the name;
    /// `None` where no such header is there. Several lines of one header are joined (draft §2.3).
    #[must_use]
    pub fn value(&self, part: &Part) -> Option<Vec<u8>> {
        match part {
            Part::RequestTarget => {
                let mut value = self.method.to_ascii_lowercase().into_bytes();
                value.push(b' ');
                value.extend_from_slice(self.target);
                Some(value)
            }
            Part::Header(name) => {
                let mut lines = self.headers.get_all(name).iter();
                let mut value = lines.next()?.as_bytes().trim_ascii().to_vec();
                for line in lines {
                    value.extend_from_slice(b", ");
                    value.extend_from_slice(line.as_bytes().trim_ascii());
                }
                Some(value)
            }
        }
    }

    /// The string that was signed, if nothing was changed on the way; `instead` stands for the line of
    /// its number. The first part that is not there otherwise.
    ///
    /// # Errors
    /// The number of the line whose header is not there.
    pub fn signing_string(&self, parts: &[Part], instead: Option<(usize, &[u8])>) -> Result<Vec<u8>, usize> {
        let mut string = Vec::with_capacity(96 + self.target.len());
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                string.push(b'\n');
            }
            string.extend_from_slice(part.as_str().as_bytes());
            string.extend_from_slice(b": ");
            match instead.filter(|(line, _)| *line == at) {
                Some((_, value)) => string.extend_from_slice(value),
                None => string.extend_from_slice(&self.value(part).ok_or(at)?),
            }
        }
        Ok(string)
    }
}

/// The key of a consumer that signs.
pub struct VerifyingKey {
    /// For what nearly all use, prepared.
    sha256: HmacKey,
    secret: Secret,
}

impl VerifyingKey {
    /// Takes a secret of any length.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self { sha256: HmacKey::new(secret.expose()), secret }
    }

    /// Whether `signature` is that of `string`, in time that does not depend on where they differ.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, string: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm| {
            let key = legacy::Key::new(algorithm, self.secret.expose());
            legacy::verify(&key, string, signature).is_ok()
        };
        match algorithm {
            Algorithm::HmacSha256 => self.sha256.verify(string, signature),
            Algorithm::HmacSha512 => by(legacy::HMAC_SHA512),
            Algorithm::HmacSha1 => by(legacy::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        }
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifyingKey(…)")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use http::HeaderValue;

    const GOOD: &str =
        r#"keyId="k",algorithm="hmac-sha256",headers="(request-target) accept date",signature="AAAA""#;

    fn names(presented: &Presented) -> Vec<&str> {
        presented.parts.iter().map(Part::as_str).collect()
    }

    #[test]
    fn parameters_come_in_any_order_and_spacing() {
        let read = Presented::parse(GOOD).unwrap();
        assert_eq!((read.key_id.as_str(), read.algorithm), ("k", Algorithm::HmacSha256));
        assert_eq!(names(&read), ["(request-target)", "accept", "date"]);
        assert_eq!(read.signature(), [0, 0, 0]);
        for (text, key_id) in [
            (r#"signature="AAAA", headers="date (request-target)" ,  KEYID = "k""#, "k"),
            (
                r#"keyId="a,b=\"c\\",created=1,x="y, z",headers="(request-target) Date",signature="AAAA""#,
                r#"a,b="c\"#,
            ),
            (r#" keyId=k,algorithm=HMAC-SHA256,signature="AAAA",headers="(request-target)  date","#, "k"),
            ("keyId=\"k\",\t,headers=\"(request-target) date\",signature=\"AAAA\"", "k"),
        ] {
            let read = Presented::parse(text).unwrap();
            assert_eq!((read.key_id.as_str(), read.algorithm), (key_id, Algorithm::HmacSha256), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_verified_is_told_apart() {
        for (text, why) in [
            ("", Unreadable::Missing),
            ("keyId", Unreadable::Form),
            ("keyId=\"k", Unreadable::Form),
            ("keyId=\"k\\", Unreadable::Form),
            ("=\"k\"", Unreadable::Form),
            ("keyId=\"k\" signature=\"AAAA\"", Unreadable::Form),
            ("keyId=k\"k", Unreadable::Form),
            ("keyId=,signature=\"AAAA\"", Unreadable::Form),
            (r#"keyId="k",headers="(request-target) date""#, Unreadable::Missing),
            (r#"keyId="k",keyid="l",headers="(request-target) date",signature="AAAA""#, Unreadable::Twice),
            (
                r#"keyId="k",algorithm="hs2019",headers="(request-target) date",signature="AAAA""#,
                Unreadable::Algorithm,
            ),
            (
                r#"keyId="k",algorithm="rsa-sha256",headers="(request-target) date",signature="AAAA""#,
                Unreadable::Algorithm,
            ),
            (r#"keyId="k",headers="(request-target) (created) date",signature="AAAA""#, Unreadable::Part),
            (r#"keyId="k",headers="(request-target) accept",signature="AAAA""#, Unreadable::Uncovered),
            (r#"keyId="k",headers="date",signature="AAAA""#, Unreadable::Uncovered),
            (r#"keyId="k",signature="AAAA""#, Unreadable::Uncovered),
            (r#"keyId="k",headers="(request-target) date",signature="A!""#, Unreadable::Base64),
            (r#"keyId="k",headers="(request-target) date",signature="AAAA\n""#, Unreadable::Base64),
        ] {
            assert_eq!(Presented::parse(text).map(|_| ()), Err(why), "{text}");
        }
    }

    #[test]
    fn every_published_vector_verifies_and_no_altered_one() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/signatures.json")).unwrap();
        let mut verified = 0;
        for vector in vectors.as_array().unwrap() {
            let text = |name: &str| vector.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            let Some(algorithm) = Algorithm::parse(text("algorithm")) else { continue };
            let (mut headers, mut parts) = (HeaderMap::new(), Vec::new());
            for header in vector.get("headers").unwrap().as_array().unwrap() {
                let pair: Vec<&str> = match header.as_array() {
                    Some(pair) => pair.iter().filter_map(serde_json::Value::as_str).collect(),
                    None => vec![header.as_str().unwrap()],
                };
                let part = Part::parse(pair.first().unwrap()).unwrap();
                if let (Part::Header(name), Some(value)) = (&part, pair.get(1)) {
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
                parts.push(part);
            }
            let message =
                Message { method: text("method"), target: text("target").as_bytes(), headers: &headers };
            let string = message.signing_string(&parts, None).unwrap();
            let signature = STANDARD.decode(text("expected")).unwrap();
            let key = VerifyingKey::new(Secret::new(text("secret").as_bytes().to_vec()));
            assert!(key.verify(algorithm, &string, &signature), "{}", text("name"));
            for at in 0..signature.len() {
                let mut flipped = signature.clone();
                *flipped.get_mut(at).unwrap() ^= 1;
                assert!(!key.verify(algorithm, &string, &flipped), "{} {at}", text("name"));
            }
            assert!(!key.verify(algorithm, &string, signature.get(..16).unwrap()));
            assert!(!key.verify(algorithm, &string, b""));
            verified += 1;
        }
        assert!(verified >= 7);
    }

    #[test]
    fn the_other_algorithms_are_those_of_the_rfc() {
        // RFC 4231 §4.3 and RFC 2202 §3, test case 2 of each.
        let key = VerifyingKey::new(Secret::new(b"Jefe".to_vec()));
        let string = b"what do ya want for nothing?";
        let sha1 = STANDARD.decode("7/zfauXrL6LSdBbV8YTfnCWafHk=").unwrap();
        assert!(key.verify(Algorithm::HmacSha1, string, &sha1));
        let hex = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fd\
                   caeab1a34d4a6b4b636e070a38bce737";
        let sha512: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert!(key.verify(Algorithm::HmacSha512, string, &sha512));
    }

    #[test]
    fn lines_of_one_header_are_joined_and_what_is_absent_is_named() {
        let mut headers = HeaderMap::new();
        headers.append("accept", HeaderValue::from_static("a "));
        headers.append("accept", HeaderValue::from_static("b"));
        let message = Message { method: "GET", target: b"/x?%2f", headers: &headers };
        let parts = [Part::RequestTarget, Part::parse("accept").unwrap(), Part::parse("date").unwrap()];
        assert_eq!(message.signing_string(&parts, None), Err(2));
        let string = message.signing_string(&parts, Some((2, b"d"))).unwrap();
        assert_eq!(string, b"(request-target): get /x?%2f\naccept: a, b\ndate: d");
    }
}
