//! How a credential is put on a request. One file a scheme, one variant here.

mod access_key;
mod bearer;
mod header;
mod token;

pub use access_key::AccessKey;
pub use header::Header;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::custody::{Kind, Material, Unsealed};
use crate::secret::Secret;
use crate::signature::NotOnce;
use crate::transport::{Outbound, Signed};

/// How an upstream wants its credential.
#[derive(Debug, Clone)]
pub enum Scheme {
    /// An HTTP signature made with an access key.
    AccessKey(AccessKey),
    /// In a header of its own.
    Header(Header),
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Token`.
    Token,
}

/// What a scheme puts on, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A signature over this.
    Signature(String),
    /// This header line, `…` standing for the secret.
    Line(String),
}

/// The credential could not be put on.
#[derive(Debug, thiserror::Error)]
pub enum Unsigned {
    /// A header that was to be signed is not there exactly once.
    #[error(transparent)]
    NotOnce(#[from] NotOnce),
    /// The credential cannot stand in a header.
    #[error(transparent)]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The credential is of another kind; a configuration that loads has none such.
    #[error("the credential is not of the kind that the scheme puts on")]
    Unfit,
}

impl Scheme {
    /// Puts the credential on: the last thing that is done to a request.
    ///
    /// # Errors
    /// [`Unsigned`].
    pub fn apply<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
    ) -> Result<Signed<'e>, Unsigned> {
        match self {
            Self::AccessKey(scheme) => scheme.apply(outbound, credential),
            Self::Header(scheme) => scheme.apply(outbound, credential),
            Self::Bearer => bearer::apply(outbound, credential),
            Self::Token => token::apply(outbound, credential),
        }
    }

    /// The kind of credential that it puts on.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AccessKey(_) => Kind::AccessKey,
            Self::Header(_) | Self::Bearer | Self::Token => Kind::Value,
        }
    }

    /// Its name, as in the file.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::AccessKey(_) => "access-key",
            Self::Header(_) => "header",
            Self::Bearer => "bearer",
            Self::Token => "token",
        }
    }

    /// What would be put on such a request. No secret is needed for it.
    ///
    /// # Errors
    /// [`NotOnce`].
    pub fn shown(&self, method: &str, target: &str, headers: &HeaderMap) -> Result<Shown, NotOnce> {
        match self {
            Self::AccessKey(scheme) => {
                let string = scheme.signing_string(method, target, headers)?;
                Ok(Shown::Signature(String::from_utf8_lossy(&string).into_owned()))
            }
            Self::Header(scheme) => Ok(Shown::Line(format!("{}: …", scheme.name()))),
            Self::Bearer => Ok(Shown::Line(format!("authorization: {}…", bearer::BEFORE))),
            Self::Token => Ok(Shown::Line(format!("authorization: {}…", token::BEFORE))),
        }
    }
}

/// A header value that is `before` and then the credential's secret.
fn carrying(before: &str, credential: &Unsealed<'_>) -> Result<HeaderValue, Unsigned> {
    match credential.material() {
        Material::Value(secret) => Ok(value(before, secret)?),
        Material::AccessKey { .. } => Err(Unsigned::Unfit),
    }
}

/// Marked sensitive, so that no header dump shows it; its bytes are wiped with the last that holds them.
fn value(before: &str, secret: &Secret) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(before.len() + secret.expose().len()));
    bytes.extend_from_slice(before.as_bytes());
    bytes.extend_from_slice(secret.expose());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_and_never_printed() {
        let value = value("Token ", &Secret::new(b"fake-hunter2".to_vec())).unwrap();
        assert_eq!(value.as_bytes(), b"Token fake-hunter2");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("hunter2"));
        assert!(super::value("", &Secret::new(b"a\r\nb".to_vec())).is_err());
    }
}
