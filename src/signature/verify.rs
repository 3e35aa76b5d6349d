//! Verifies the signatures that consumers make (draft-cavage-http-signatures-12 §2.3 and §2.5).

use aws_lc_rs::hmac as legacy;
use http::HeaderMap;

use super::params::Algorithm;
use super::{HmacKey, Part};
use crate::secret::Secret;

/// The parts of a received request that a signature can cover.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// The path and query, byte for byte.
    pub target: &'a [u8],
    /// The headers of the request.
    pub headers: &'a HeaderMap,
}

impl Message<'_> {
    /// The value of `part` in the signing string of the received request, without the name. `None` if there is no such
    /// header. Several lines of one header are joined (draft §2.3).
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

    /// Builds the string that was signed if nothing was changed on the way. `instead` replaces the value of the line
    /// with its index.
    ///
    /// # Errors
    /// The index of the line whose header is absent.
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

/// The key that verifies a consumer's signatures.
pub struct VerifyingKey {
    /// The prepared key for the algorithm that nearly all consumers use.
    sha256: HmacKey,
    secret: Secret,
}

impl VerifyingKey {
    /// Makes a key from a secret of any length.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self { sha256: HmacKey::new(secret.expose()), secret }
    }

    /// The secret, for the search of places where a consumer sends it.
    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Whether `signature` is the signature of `string`; compared in constant time.
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
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderValue;

    use super::*;

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
