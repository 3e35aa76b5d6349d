//! Makes signatures with RSA keys: PKCS#1 v1.5 with SHA-256.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroize as _;

/// An RSA key of 2048 to 8192 bits. It has no `Debug`.
#[derive(Clone)]
pub struct RsaKey(Arc<RsaKeyPair>);

/// The reason why a key cannot be used. It contains nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRsaKey {
    /// The text contains no RSA key.
    #[error("it is no RSA private key in PEM (PKCS#1 or PKCS#8, without a passphrase)")]
    Form,
    /// The key is too short to be safe.
    #[error("the RSA key has less than 2048 bits")]
    Short,
}

impl RsaKey {
    /// Parses the first private key of a PEM text, PKCS#1 or PKCS#8.
    ///
    /// # Errors
    /// [`NoRsaKey`] if there is no RSA key, or the key is too short.
    pub fn parse(pem: &[u8]) -> Result<Self, NoRsaKey> {
        let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| NoRsaKey::Form)?;
        let read = if let PrivateKeyDer::Pkcs1(key) = &der {
            RsaKeyPair::from_der(key.secret_pkcs1_der())
        } else if let PrivateKeyDer::Pkcs8(key) = &der {
            RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())
        } else {
            return Err(NoRsaKey::Form);
        };
        der.zeroize();
        match read {
            Ok(key) => Ok(Self(Arc::new(key))),
            Err(why) if why.to_string() == "TooSmall" => Err(NoRsaKey::Short),
            Err(_) => Err(NoRsaKey::Form),
        }
    }

    /// Signs `string`, in base64; `None` if the system gives no random bytes. It takes half a millisecond or more, so
    /// it must not run on a thread that serves other calls.
    #[must_use]
    pub fn sign(&self, string: &[u8]) -> Option<String> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), string, &mut signature).ok()?;
        Some(STANDARD.encode(signature))
    }
}

/// Builds the `Authorization` value of an RSA signature over `headers`, a list separated by blanks. It is marked
/// sensitive, so that no header dump shows it.
///
/// # Errors
/// If `key_id` contains bytes that no header may carry.
pub fn rsa_authorization(
    key_id: &str,
    headers: &str,
    signature: &str,
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(format!(
        "Signature keyId=\"{key_id}\",headers=\"{headers}\",algorithm=\"rsa-sha256\",signature=\"{signature}\""
    ))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

    #[test]
    fn takes_rsa_keys_alone() {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let signed = RsaKey::parse(key.serialize_pem().as_bytes()).unwrap().sign(b"fake").unwrap();
        assert_eq!(STANDARD.decode(signed).unwrap().len(), 256);
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        for none in [other.as_str(), "", "fake", key.public_key_pem().as_str()] {
            assert_eq!(RsaKey::parse(none.as_bytes()).map(|_| ()), Err(NoRsaKey::Form), "{none}");
        }
    }
}
