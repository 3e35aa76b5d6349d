//! A header that carries only the secret, as in `x-api-key: …`.

use http::HeaderName;

use super::{SignError, secret_header};
use crate::custody::Unsealed;
use crate::transport::{Outbound, Signed};

/// Headers that cannot carry a credential, since they describe the message, the hop or the organisation.
const TAKEN: [&str; 26] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-accel-redirect",
    "x-jms-org",
    "x-org-id",
    "x-real-ip",
];

/// A header scheme, with the name of its header.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    name: HeaderName,
}

impl Header {
    /// Creates the scheme for a header of this name.
    ///
    /// # Errors
    /// What is wrong with the name, as a sentence.
    pub fn new(name: &str) -> Result<Self, String> {
        let read = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"))?;
        if read.as_str().contains('_') {
            return Err(format!("`{name}` would not arrive: many servers drop names with an underscore"));
        }
        let taken = read.as_str().starts_with("x-forwarded") || read.as_str().starts_with("proxy-");
        if taken || TAKEN.contains(&read.as_str()) {
            return Err(format!("`{name}` says something else than who calls"));
        }
        Ok(Self { name: read })
    }

    /// Returns the header's name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Adds the credential, and replaces a value that the consumer sent under the same name.
    pub(super) fn apply<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
    ) -> Result<Signed<'e>, SignError> {
        Ok(outbound.sign(credential, self.name.clone(), secret_header("", credential)?))
    }
}

#[cfg(test)]
mod tests {
    use super::Header;

    #[test]
    fn takes_a_name_that_means_nothing_else() {
        for name in ["x-api-key", "X-API-Key", "authorization", "x-auth-token"] {
            assert!(Header::new(name).is_ok(), "{name}");
        }
        for name in ["", "x api", "x:y", "clé", "x_api_key", "Host", "cookie", "X-Forwarded-For", "x-org-id"]
        {
            assert!(Header::new(name).is_err(), "{name}");
        }
    }
}
