//! Checks whether a request is signed as JumpServer requires. It shares no code with the signer.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::exchange::Received;

/// The access key that the stand-in knows.
pub(crate) struct KnownKey {
    pub(crate) id: String,
    pub(crate) key: hmac::Key,
}

impl KnownKey {
    pub(crate) fn new(id: &str, secret: &[u8]) -> Self {
        Self { id: id.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// Verifies the signature over the parts in `headers=`, in their order. The error is the reason.
    pub(super) fn check(&self, received: &Received) -> Result<(), String> {
        let values = received.all("authorization");
        let [value] = values.as_slice() else { return Err(format!("{} Authorization lines", values.len())) };
        let parameters = value.strip_prefix("Signature ").ok_or("not the scheme Signature")?;
        let parameter = |parameter_name: &str| {
            // No value contains a comma: a UUID, a word, header names, base64.
            let mut pairs = parameters.split(',').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(name, _)| name.trim() == parameter_name).map(|(_, value)| value.trim());
            found.and_then(|value| value.strip_prefix('"')?.strip_suffix('"'))
        };
        if parameter("keyId") != Some(self.id.as_str()) {
            return Err("unknown keyId".to_owned());
        }
        if parameter("algorithm") != Some("hmac-sha256") {
            return Err("not hmac-sha256".to_owned());
        }
        let names: Vec<&str> = parameter("headers").unwrap_or("date").split(' ').collect();
        if !names.contains(&"(request-target)") || !names.contains(&"date") {
            return Err("request target or date not signed".to_owned());
        }
        let lines: Vec<String> = names.iter().map(|name| signed_line(name, received)).collect();
        let sent =
            parameter("signature").and_then(|text| STANDARD.decode(text).ok()).ok_or("no signature")?;
        hmac::verify(&self.key, lines.join("\n").as_bytes(), &sent).map_err(|_| "wrong signature".to_owned())
    }
}

/// One line of the signed string.
fn signed_line(name: &str, received: &Received) -> String {
    if name == "(request-target)" {
        return format!("{name}: {} {}", received.method.to_ascii_lowercase(), received.target);
    }
    format!("{name}: {}", received.all(name).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the Python client that people use with JumpServer.
    fn received(signature: &str) -> Received {
        let lines = [
            ("Accept", "application/json".to_owned()),
            ("Date", "Mon, 17 Feb 2014 06:11:05 GMT".to_owned()),
            (
                "Authorization",
                format!(
                    "Signature keyId=\"f7373851-ea61-47bb-8357-000000000001\",algorithm=\"hmac-sha256\",\
                 signature=\"{signature}\",headers=\"(request-target) accept date\""
                ),
            ),
        ];
        Received {
            method: "GET".into(),
            target: "/api/v1/users/users/?limit=2&offset=0".into(),
            lines: lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Received::default()
        }
    }

    #[test]
    fn verifies_what_another_implementation_signed() {
        let key =
            KnownKey::new("f7373851-ea61-47bb-8357-000000000001", b"d6ed1a06-66f7-4584-af18-000000000002");
        let good = received("mQ2pYYs2lzTcvXuGSnTN9R6Np/rkzc5NjFIN0XIPfVA=");
        assert_eq!(key.check(&good), Ok(()));
        assert_eq!(
            key.check(&received("mQ2pYYs2lzTcvXuGSnTN9R6Np/rkzc5NjFIN0XIPfVB=")),
            Err("no signature".into())
        );
        assert_eq!(
            key.check(&received("nQ2pYYs2lzTcvXuGSnTN9R6Np/rkzc5NjFIN0XIPfVA=")),
            Err("wrong signature".into())
        );
        let moved = Received { target: "/api/v1/users/users/?limit=3&offset=0".into(), ..good };
        assert_eq!(key.check(&moved), Err("wrong signature".into()));
        assert_eq!(key.check(&Received::default()), Err("0 Authorization lines".into()));
    }
}
