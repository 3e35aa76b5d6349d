//! JumpServer's access keys: `Authorization: Signature …` with hmac-sha256.

use http::HeaderMap;
use http::header::{ACCEPT, AUTHORIZATION, DATE};

use crate::code::Failure;
use crate::custody::{Material, Unsealed};
use crate::signature::{NotOnce, Part, authorization, signing_string};
use crate::transport::{Outbound, Signed};

/// An access key scheme, with the list of signed parts.
#[derive(Debug, Clone)]
pub struct AccessKey {
    parts: Vec<Part>,
}

impl Default for AccessKey {
    /// Signs `(request-target) accept date`, as the product's own scripts do.
    fn default() -> Self {
        Self { parts: vec![Part::RequestTarget, Part::Header(ACCEPT), Part::Header(DATE)] }
    }
}

impl AccessKey {
    /// Creates the scheme for a header list such as `["(request-target)", "accept", "date"]`.
    ///
    /// # Errors
    /// What is wrong with the list, as a sentence.
    pub fn new(names: &[&str]) -> Result<Self, String> {
        if let Some(name) = names.iter().find(|name| ["content-type", "content-length"].contains(name)) {
            return Err(format!("JumpServer answers 500 to a signature over `{name}`"));
        }
        let parts = Part::list(names)?;
        Ok(Self { parts })
    }

    /// Returns the signed parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn apply<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
    ) -> Result<Signed<'e>, Failure> {
        let (method, target) = (outbound.method().as_str(), outbound.signed_target());
        let string = self.signing_string(method, target, outbound.headers()).map_err(Failure::internal)?;
        let Material::AccessKey { id, key } = credential.material() else { return Err(credential.unfit()) };
        let value = authorization(id, &self.parts, &key.sign(&string)).map_err(Failure::internal)?;
        Ok(outbound.sign(credential, AUTHORIZATION, value))
    }

    /// Builds the signing string of a request.
    ///
    /// # Errors
    /// [`NotOnce`] if a signed header does not occur exactly once.
    pub fn signing_string(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<Vec<u8>, NotOnce> {
        signing_string(&self.parts, method, target, headers)
    }
}

#[cfg(test)]
mod tests {
    use super::AccessKey;

    #[test]
    fn takes_only_lists_that_the_product_verifies() {
        assert!(AccessKey::new(&["(request-target)", "accept", "date"]).is_ok());
        assert!(AccessKey::new(&["date", "(request-target)", "x-jms-org"]).is_ok());
        for bad in [
            vec!["(request-target)", "Date"],
            vec!["(request-target)", "accept"],
            vec!["date"],
            vec!["(request-target)", "date", "content-type"],
            vec!["(request-target)", "date", "content-length"],
            vec!["(request-target)", "date", "date"],
            vec![],
        ] {
            assert!(AccessKey::new(&bad).is_err(), "{bad:?}");
        }
    }
}
