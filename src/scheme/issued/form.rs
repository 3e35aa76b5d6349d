//! Encodes the bodies of login requests. Each body is built in one allocation, since a reallocated buffer would leave
//! the secret in memory.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use crate::code::Failure;

/// Encodes the members as a JSON object.
///
/// # Errors
/// A [`Failure`] if a value is not valid UTF-8.
pub(crate) fn json(members: &[(&str, &[u8])]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // One byte becomes at most six characters, as in `\u0001`.
    let mut out = Zeroizing::new(Vec::with_capacity(room(members, 6)));
    let mut before = b'{';
    for (name, value) in members {
        let value = std::str::from_utf8(value).map_err(Failure::internal)?;
        out.push(before);
        before = b',';
        serde_json::to_writer(&mut *out, name).map_err(Failure::internal)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, value).map_err(Failure::internal)?;
    }
    out.push(b'}');
    Ok(out)
}

/// Encodes the members as an HTML form.
pub(crate) fn urlencoded(members: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(String::with_capacity(room(members, 3)));
    for (at, (name, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push('&');
        }
        encode(&mut out, name.as_bytes());
        out.push('=');
        encode(&mut out, value);
    }
    Zeroizing::new(std::mem::take(&mut *out).into_bytes())
}

/// Appends bytes in the encoding `application/x-www-form-urlencoded`.
pub(crate) fn encode(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'*' | b'-' | b'.' | b'_' => {
                out.push(char::from(*byte));
            }
            b' ' => out.push('+'),
            // Writing into a string cannot fail.
            _ => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
}

/// Returns the maximum encoded length of the members in bytes, if one byte becomes at most `each` bytes.
fn room(members: &[(&str, &[u8])], each: usize) -> usize {
    members.iter().map(|(name, value)| (name.len() + value.len()) * each + 8).sum()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn members_are_whole_and_in_one_piece() {
        let members = [("user\"name", b"svc".as_slice()), ("password", "a\"b\\c ü&=+%\u{1}".as_bytes())];
        let encoded = json(&members).unwrap();
        let decoded: serde_json::Value = serde_json::from_slice(&encoded).unwrap();
        assert_eq!(decoded, serde_json::json!({"user\"name": "svc", "password": "a\"b\\c ü&=+%\u{1}"}));
        assert!(encoded.capacity() >= encoded.len() && encoded.capacity() == room(&members, 6));
        let encoded = urlencoded(&members);
        assert_eq!(*encoded, b"user%22name=svc&password=a%22b%5Cc+%C3%BC%26%3D%2B%25%01");
        assert_eq!(encoded.capacity(), room(&members, 3));
        assert!(json(&[("a", b"\xff")]).is_err());
    }
}
