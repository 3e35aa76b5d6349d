//! Authentication schemes: how a credential is added to a request. Each scheme has one file, and one variant here.

mod access_key;
mod bearer;
mod header;
pub mod issued;
mod rsa;
mod token;

pub use access_key::AccessKey;
pub use header::Header;
pub use issued::cache::{Rejection, TokenSlot, UpstreamToken};
pub use issued::client_credentials::ClientCredentials;
pub use issued::fetch::LoginContext;
pub use issued::login::Login;
pub use issued::refused::{Known, RefusedLogins};
pub use issued::response::Pointer;
pub use issued::source::TokenPlacement;
pub use rsa::Rsa;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue, Response};
use zeroize::Zeroizing;

use crate::audit::Broken;
use crate::code::Code;
use crate::custody::{Kind, Material, Unsealed};
use crate::secret::Secret;
use crate::signature::NotOnce;
use crate::transport::{BuildError, Endpoint, Failure, Outbound, Signed, UpstreamBody};
use issued::source::TokenSource;

/// The scheme by which an upstream authenticates claviger.
#[derive(Clone)]
pub enum Scheme {
    /// An HTTP signature made with an access key.
    AccessKey(AccessKey),
    /// A header that carries only the secret.
    Header(Header),
    /// The header `Authorization: Bearer`.
    Bearer,
    /// The header `Authorization: Token`.
    Token,
    /// A token that the upstream issues for a login.
    Login(Arc<Login>),
    /// A token that an OAuth 2.0 server issues for client credentials.
    ClientCredentials(Arc<ClientCredentials>),
    /// An HTTP signature made with an RSA key.
    Rsa(Rsa),
}

/// The result of applying a scheme to a request.
pub enum Prepared<'e> {
    /// The credential was added.
    Signed(Signed<'e>),
    /// More work is needed: call [`Scheme::sign_deferred`].
    Deferred(Outbound<'e>),
}

/// A preview of what a scheme adds to a request, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    /// A signature over this signing string.
    Signature(String),
    /// This header field, with `…` in place of the secret.
    Line(String),
}

/// Why the credential could not be added.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A header to be signed does not occur exactly once.
    #[error(transparent)]
    NotOnce(#[from] NotOnce),
    /// The credential is not a valid header value.
    #[error(transparent)]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The credential is of another kind. A valid configuration never causes this.
    #[error("the credential is not of the kind that the scheme puts on")]
    Unfit,
    /// The system returned no random bytes, or the signing thread was lost.
    #[error("no signature could be made")]
    Failed,
    /// A request of the gateway's own cannot be built.
    #[error(transparent)]
    Unsendable(#[from] BuildError),
}

impl From<SignError> for Failure {
    fn from(unsigned: SignError) -> Self {
        Self { code: Code::Internal, reason: unsigned.to_string() }
    }
}

impl Scheme {
    /// Adds the credential, as the last step. A scheme that needs more than the request and the credential returns the
    /// request unchanged in [`Prepared::Deferred`].
    ///
    /// # Errors
    /// [`SignError`] if the credential cannot be added.
    pub fn apply<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
    ) -> Result<Prepared<'e>, SignError> {
        let signed = match self {
            Self::AccessKey(scheme) => scheme.apply(outbound, credential),
            Self::Header(scheme) => scheme.apply(outbound, credential),
            Self::Bearer => bearer::apply(outbound, credential),
            Self::Token => token::apply(outbound, credential),
            Self::Login(_) | Self::ClientCredentials(_) | Self::Rsa(_) => {
                return Ok(Prepared::Deferred(outbound));
            }
        };
        signed.map(Prepared::Signed)
    }

    /// Adds a credential that takes time to obtain. Also returns the token that was used, if any.
    ///
    /// # Errors
    /// [`Failure`] if no credential can be obtained.
    pub async fn sign_deferred<'e>(
        &self,
        outbound: Outbound<'e>,
        context: &LoginContext<'e, '_>,
    ) -> Result<(Signed<'e>, Option<Arc<UpstreamToken>>), Failure> {
        if let Self::Rsa(rsa) = self {
            return Ok((rsa.sign_deferred(outbound, context.credential).await?, None));
        }
        let Some(source) = self.source() else { return Err(SignError::Unfit.into()) };
        let pass = context.get_token(&source).await?;
        Ok((source.attach(outbound, context.credential, &pass)?, Some(pass)))
    }

    /// Fetches a token other than `former`, which the upstream seems to reject. Returns whether there is one.
    ///
    /// # Errors
    /// [`Failure`] if no token can be obtained.
    pub async fn refresh(
        &self,
        former: &UpstreamToken,
        context: &LoginContext<'_, '_>,
    ) -> Result<bool, Failure> {
        let Some(source) = self.source() else { return Ok(false) };
        Ok(!context.get_token(&source).await?.is(former))
    }

    /// Returns whether a response rejects the token of its request.
    ///
    /// # Errors
    /// [`Broken`] if the upstream breaks off while its body is read.
    pub async fn rejection(
        &self,
        response: &mut Response<UpstreamBody>,
    ) -> Result<Option<Rejection>, Broken> {
        match self.source() {
            Some(source) => source.rejection(response).await,
            None => Ok(None),
        }
    }

    /// Returns whether the scheme uses tokens, which must first be fetched and are cached.
    #[must_use]
    pub fn uses_tokens(&self) -> bool {
        self.source().is_some()
    }

    /// Returns whether both schemes use the same tokens, fetched in the same way.
    #[must_use]
    pub fn same_token_source(&self, other: &Self) -> bool {
        self.source().zip(other.source()).is_some_and(|(one, other)| one.is_same(&other))
    }

    /// Describes the token source. Two descriptions are equal only if [`Self::same_token_source`] holds. Empty if the
    /// scheme uses no tokens.
    #[must_use]
    pub fn describe_token_source(&self) -> String {
        match self.source() {
            Some(TokenSource::Login(login)) => format!("{login:?}"),
            Some(TokenSource::Client(client)) => client.describe(),
            None => String::new(),
        }
    }

    /// Returns whether the credential is valid for other requests too, which a signature is not.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        match self {
            Self::AccessKey(_) | Self::Rsa(_) => false,
            Self::Header(_) | Self::Bearer | Self::Token | Self::Login(_) | Self::ClientCredentials(_) => {
                true
            }
        }
    }

    /// Returns the header that carries the credential.
    #[must_use]
    pub fn header(&self) -> HeaderName {
        match self {
            Self::Header(scheme) => scheme.name().clone(),
            Self::Login(login) => login.carrier.header(),
            Self::AccessKey(_) | Self::Rsa(_) | Self::Bearer | Self::Token | Self::ClientCredentials(_) => {
                AUTHORIZATION
            }
        }
    }

    /// Returns the names of the cookies in which an upstream may disclose its credential.
    #[must_use]
    pub fn cookies(&self) -> Vec<String> {
        match self {
            Self::Login(login) => login.cookies(),
            Self::AccessKey(_)
            | Self::Header(_)
            | Self::Bearer
            | Self::Token
            | Self::ClientCredentials(_)
            | Self::Rsa(_) => Vec::new(),
        }
    }

    /// Returns the token endpoint, which receives the credential instead of the upstream.
    #[must_use]
    pub fn token_endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::ClientCredentials(client) => Some(&client.endpoint),
            Self::AccessKey(_)
            | Self::Header(_)
            | Self::Bearer
            | Self::Token
            | Self::Login(_)
            | Self::Rsa(_) => None,
        }
    }

    fn source(&self) -> Option<TokenSource> {
        match self {
            Self::Login(login) => Some(TokenSource::Login(Arc::clone(login))),
            Self::ClientCredentials(client) => Some(TokenSource::Client(Arc::clone(client))),
            Self::AccessKey(_) | Self::Header(_) | Self::Bearer | Self::Token | Self::Rsa(_) => None,
        }
    }

    /// Returns the kind of credential that the scheme needs.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AccessKey(_) => Kind::AccessKey,
            Self::Header(_) | Self::Bearer | Self::Token => Kind::Value,
            Self::Login(_) => Kind::Login,
            Self::ClientCredentials(_) => Kind::Client,
            Self::Rsa(_) => Kind::Rsa,
        }
    }

    /// Returns the scheme's name in the configuration file.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::AccessKey(_) => "access-key",
            Self::Header(_) => "header",
            Self::Bearer => "bearer",
            Self::Token => "token",
            Self::Login(_) => "login",
            Self::ClientCredentials(_) => "client-credentials",
            Self::Rsa(_) => "rsa",
        }
    }

    /// Previews what the scheme would add to such a request. No secret is needed.
    ///
    /// # Errors
    /// [`NotOnce`] if a signed header does not occur exactly once.
    pub fn preview(&self, method: &str, target: &str, headers: &HeaderMap) -> Result<Preview, NotOnce> {
        match self {
            Self::AccessKey(scheme) => Ok(signature(&scheme.signing_string(method, target, headers)?)),
            Self::Rsa(scheme) => Ok(signature(&scheme.signing_string(method, target, headers)?)),
            Self::Header(scheme) => Ok(Preview::Line(format!("{}: …", scheme.name()))),
            Self::Bearer => Ok(Preview::Line(format!("authorization: {}…", bearer::BEFORE))),
            Self::Token => Ok(Preview::Line(format!("authorization: {}…", token::BEFORE))),
            Self::Login(login) => Ok(Preview::Line(format!("{} (by login)", login.carrier.describe()))),
            Self::ClientCredentials(client) => {
                let (line, origin) = (TokenPlacement::Bearer.describe(), &client.endpoint.origin);
                Ok(Preview::Line(format!("{line} (by client credentials, of {origin})")))
            }
        }
    }
}

fn signature(string: &[u8]) -> Preview {
    Preview::Signature(String::from_utf8_lossy(string).into_owned())
}

/// Builds a header value from the text `before` and the credential's secret.
fn secret_header(before: &str, credential: &Unsealed<'_>) -> Result<HeaderValue, SignError> {
    match credential.material() {
        Material::Value(secret) => Ok(sensitive_header(before, secret)?),
        Material::AccessKey { .. }
        | Material::Login { .. }
        | Material::Rsa { .. }
        | Material::Client { .. } => Err(SignError::Unfit),
    }
}

/// Builds a header value marked sensitive, so that no header dump shows it. Its bytes are zeroised when the last
/// reference is dropped.
fn sensitive_header(before: &str, secret: &Secret) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
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
        let value = sensitive_header("Token ", &Secret::new(b"fake-hunter2".to_vec())).unwrap();
        assert_eq!(value.as_bytes(), b"Token fake-hunter2");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("hunter2"));
        assert!(super::sensitive_header("", &Secret::new(b"a\r\nb".to_vec())).is_err());
    }
}
