//! How a credential is put on a request. One file a scheme, one variant here.

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

/// How an upstream wants its credential.
#[derive(Clone)]
pub enum Scheme {
    /// An HTTP signature made with an access key.
    AccessKey(AccessKey),
    /// In a header of its own.
    Header(Header),
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Token`.
    Token,
    /// By what the upstream gives for a login.
    Login(Arc<Login>),
    /// By the token that an OAuth 2.0 client is given.
    ClientCredentials(Arc<ClientCredentials>),
    /// An HTTP signature made with an RSA key.
    Rsa(Rsa),
}

/// What became of a request to which a credential was to be put on.
pub enum Prepared<'e> {
    /// It is on.
    Signed(Signed<'e>),
    /// It takes time: [`Scheme::sign_deferred`] does it.
    Deferred(Outbound<'e>),
}

/// What a scheme puts on, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    /// A signature over this.
    Signature(String),
    /// This header line, `…` standing for the secret.
    Line(String),
}

/// The credential could not be put on.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A header that was to be signed is not there exactly once.
    #[error(transparent)]
    NotOnce(#[from] NotOnce),
    /// The credential cannot stand in a header.
    #[error(transparent)]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The credential is of another kind; a configuration that loads has none such.
    #[error("the credential is not of the kind that the scheme puts on")]
    Unfit,
    /// The system gives no random bytes, or the thread that signs was lost.
    #[error("no signature could be made")]
    Failed,
    /// A request of our own cannot be put together.
    #[error(transparent)]
    Unsendable(#[from] BuildError),
}

impl From<SignError> for Failure {
    fn from(unsigned: SignError) -> Self {
        Self { code: Code::Internal, reason: unsigned.to_string() }
    }
}

impl Scheme {
    /// Puts the credential on: the last thing that is done to a request. What needs more than the
    /// request and the credential comes back as it was.
    ///
    /// # Errors
    /// [`SignError`].
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

    /// Puts on what takes time; with the pass that it was, where it was one.
    ///
    /// # Errors
    /// [`Failure`] where there is none to put on.
    pub async fn sign_deferred<'e>(
        &self,
        outbound: Outbound<'e>,
        errand: &LoginContext<'e, '_>,
    ) -> Result<(Signed<'e>, Option<Arc<UpstreamToken>>), Failure> {
        if let Self::Rsa(rsa) = self {
            return Ok((rsa.sign_deferred(outbound, errand.credential).await?, None));
        }
        let Some(source) = self.source() else { return Err(SignError::Unfit.into()) };
        let pass = errand.get_token(&source).await?;
        Ok((source.attach(outbound, errand.credential, &pass)?, Some(pass)))
    }

    /// Obtains a pass that is not `former`, of which the upstream seems to want no more.
    ///
    /// # Errors
    /// [`Failure`] where there is none to be had.
    pub async fn refresh(
        &self,
        former: &UpstreamToken,
        errand: &LoginContext<'_, '_>,
    ) -> Result<bool, Failure> {
        let Some(source) = self.source() else { return Ok(false) };
        Ok(!errand.get_token(&source).await?.is(former))
    }

    /// Whether an answer says that the pass of its request has ended.
    ///
    /// # Errors
    /// [`Broken`] where the upstream breaks off meanwhile.
    pub async fn rejection(
        &self,
        response: &mut Response<UpstreamBody>,
    ) -> Result<Option<Rejection>, Broken> {
        match self.source() {
            Some(source) => source.rejection(response).await,
            None => Ok(None),
        }
    }

    /// Whether it puts on what has to be obtained first, and is kept.
    #[must_use]
    pub fn uses_tokens(&self) -> bool {
        self.source().is_some()
    }

    /// Whether a pass of the other is good for this one, and obtained in the same way.
    #[must_use]
    pub fn same_token_source(&self, other: &Self) -> bool {
        self.source().zip(other.source()).is_some_and(|(one, other)| one.is_same(&other))
    }

    /// How passes are obtained, in words that are the same only where [`Self::same_token_source`]; empty where there are none.
    #[must_use]
    pub fn describe_token_source(&self) -> String {
        match self.source() {
            Some(TokenSource::Login(login)) => format!("{login:?}"),
            Some(TokenSource::Client(client)) => client.describe(),
            None => String::new(),
        }
    }

    /// Whether what it puts on is good for other requests too: no signature.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        match self {
            Self::AccessKey(_) | Self::Rsa(_) => false,
            Self::Header(_) | Self::Bearer | Self::Token | Self::Login(_) | Self::ClientCredentials(_) => {
                true
            }
        }
    }

    /// The header that carries the credential.
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

    /// The cookies in which an upstream may give its credential away.
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

    /// Where the credential goes instead of the upstream.
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

    /// The kind of credential that it puts on.
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

    /// Its name, as in the file.
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

    /// What would be put on such a request. No secret is needed for it.
    ///
    /// # Errors
    /// [`NotOnce`].
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

/// A header value that is `before` and then the credential's secret.
fn secret_header(before: &str, credential: &Unsealed<'_>) -> Result<HeaderValue, SignError> {
    match credential.material() {
        Material::Value(secret) => Ok(sensitive_header(before, secret)?),
        Material::AccessKey { .. }
        | Material::Login { .. }
        | Material::Rsa { .. }
        | Material::Client { .. } => Err(SignError::Unfit),
    }
}

/// Marked sensitive, so that no header dump shows it; its bytes are wiped with the last that holds them.
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
