//! Parses the signature parameters that consumers send (draft-cavage-http-signatures-12 §2.1).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Part;

/// The greatest number of signed parts; scripts sign two or three.
const MOST_PARTS: usize = 32;

/// The algorithm of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-1 (`hmac-sha1`).
    HmacSha1,
    /// HMAC with SHA-256 (`hmac-sha256`).
    HmacSha256,
    /// HMAC with SHA-512 (`hmac-sha512`).
    HmacSha512,
}

impl Algorithm {
    /// All algorithms that claviger verifies.
    pub const ALL: [Self; 3] = [Self::HmacSha1, Self::HmacSha256, Self::HmacSha512];

    /// The name of the algorithm in a signature.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    /// Parses the name of an algorithm, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }
}

/// The parameters that a consumer sent after `Signature` in `Authorization`.
#[derive(Debug)]
pub struct Presented {
    /// The id of the key.
    pub key_id: String,
    /// The algorithm of the signature.
    pub algorithm: Algorithm,
    /// The signed parts, in order.
    pub parts: Vec<Part>,
    signature: Vec<u8>,
}

/// The reason why the parameters are no signature that could be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// The text is not a list of `name="value"`.
    Form,
    /// A relevant parameter occurs twice.
    Twice,
    /// A required parameter is missing.
    Missing,
    /// The algorithm is unknown.
    Algorithm,
    /// A signed part is not a header.
    Part,
    /// A part is signed twice, or too many parts are signed: every line costs work before the caller is authenticated.
    Many,
    /// `(request-target)` or `date` is not signed.
    Uncovered,
    /// The signature is not base64.
    Base64,
}

impl Unreadable {
    /// The reason as the trail records it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "unreadable signature",
            Self::Twice => "signature with a parameter twice",
            Self::Missing => "signature without keyId or signature",
            Self::Algorithm => "signature by an unknown algorithm",
            Self::Part => "signature over something unknown",
            Self::Many => "signature over something twice, or over too much",
            Self::Uncovered => "signature without (request-target) or date",
            Self::Base64 => "signature not in base64",
        }
    }
}

impl Presented {
    /// Parses the parameters: in any order and spacing, with names in any case and commas within quotes. Unknown
    /// parameters are ignored (draft §2.1). The default of `algorithm` is hmac-sha256.
    ///
    /// # Errors
    /// [`Unreadable`], which names what is wrong with the parameters.
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
            let part = Part::parse(&name.to_ascii_lowercase()).ok_or(Unreadable::Part)?;
            if parts.len() == MOST_PARTS || parts.contains(&part) {
                return Err(Unreadable::Many);
            }
            parts.push(part);
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

/// The blanks that may surround parameters and names.
const BLANK: [char; 2] = [' ', '\t'];

/// Splits off the first `name=value`: returns name, value, and the text after the following comma.
fn parameter(text: &str) -> Result<(&str, Cow<'_, str>, &str), Unreadable> {
    let (name, rest) = text.split_once('=').ok_or(Unreadable::Form)?;
    let (name, rest) = (name.trim_matches(BLANK), rest.trim_start_matches(BLANK));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte)) {
        return Err(Unreadable::Form);
    }
    let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
        unquote(quoted)?
    } else {
        let (value, rest) = rest.split_at(rest.find([',', ' ', '\t']).unwrap_or(rest.len()));
        if value.is_empty() || value.contains('"') {
            return Err(Unreadable::Form);
        }
        (Cow::Borrowed(value), rest)
    };
    let rest = rest.trim_start_matches(BLANK);
    match rest.strip_prefix(',') {
        // An empty element, as after a trailing comma, means nothing (RFC 9110 §5.6.1).
        Some(after) => Ok((name, value, after.trim_start_matches(|c| c == ',' || BLANK.contains(&c)))),
        None if rest.is_empty() => Ok((name, value, "")),
        None => Err(Unreadable::Form),
    }
}

/// The text up to the closing quote, and the text after it (RFC 9110 §5.6.4).
fn unquote(text: &str) -> Result<(Cow<'_, str>, &str), Unreadable> {
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

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
            (r#"keyId="k",headers="(request-target) date a a",signature="AAAA""#, Unreadable::Many),
            (r#"keyId="k",headers="(request-target) date DATE",signature="AAAA""#, Unreadable::Many),
            (r#"keyId="k",headers="date",signature="AAAA""#, Unreadable::Uncovered),
            (r#"keyId="k",signature="AAAA""#, Unreadable::Uncovered),
            (r#"keyId="k",headers="(request-target) date",signature="A!""#, Unreadable::Base64),
            (r#"keyId="k",headers="(request-target) date",signature="AAAA\n""#, Unreadable::Base64),
        ] {
            assert_eq!(Presented::parse(text).map(|_| ()), Err(why), "{text}");
        }
    }
}
