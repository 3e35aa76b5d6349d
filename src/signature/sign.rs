//! Makes HMAC signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use super::Part;

/// An HMAC-SHA256 key whose padded blocks are already hashed, which saves two compressions per signature.
#[derive(Clone)]
pub struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    /// Prepares `secret`, which may have any length (RFC 2104).
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "HMAC takes keys of every length (RFC 2104 §3)"
    )]
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("any length"))
    }

    /// Signs `string`: the base64 of its HMAC-SHA256, as `openssl dgst -sha256 -hmac` computes it.
    ///
    /// # Examples
    ///
    /// ```
    /// use claviger::signature::HmacKey;
    ///
    /// let string = "(request-target): get /api/v1/users/users/\n\
    ///     accept: application/json\n\
    ///     date: Mon, 30 Nov 2026 12:00:00 GMT";
    /// let signature = HmacKey::new(b"fake-secret").sign(string.as_bytes());
    /// assert_eq!(signature, "0evYKJJtScyXsH4GD96mQWZ4JVBMv5g8fCVD2q3DMjM=");
    /// ```
    #[must_use]
    pub fn sign(&self, string: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(string);
        STANDARD.encode(mac.finalize().into_bytes())
    }

    /// The fingerprint of a secret, 22 characters. An auditor can distinguish secrets by it without knowing them.
    #[must_use]
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        self.sign(secret).chars().take(22).collect()
    }

    /// Whether `signature` is the signature of `string`; compared in constant time.
    #[must_use]
    pub fn verify(&self, string: &[u8], signature: &[u8]) -> bool {
        let mut mac = self.0.clone();
        mac.update(string);
        mac.verify_slice(signature).is_ok()
    }
}

/// Builds the `Authorization` value, in the form that every verifier of the draft reads. It is marked sensitive, so
/// that no header dump shows it.
///
/// # Errors
/// If `key_id` contains bytes that no header may carry.
pub fn authorization(
    key_id: &str,
    parts: &[Part],
    signature: &str,
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut text = String::with_capacity(key_id.len() + signature.len() + 128);
    text.push_str("Signature keyId=\"");
    text.push_str(key_id);
    text.push_str("\",algorithm=\"hmac-sha256\",headers=\"");
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            text.push(' ');
        }
        text.push_str(part.as_str());
    }
    text.push_str("\",signature=\"");
    text.push_str(signature);
    text.push('"');
    let mut value = HeaderValue::try_from(text)?;
    value.set_sensitive(true);
    Ok(value)
}
