//! Authentication schemes: how a credential is added to a request. Each scheme has one file, and one variant here.

mod access_key;
mod header;
pub mod issued;
mod rsa;
mod token_placement;

pub use access_key::AccessKey;
pub use header::credential_header;
pub use issued::cache::{TokenSlot, UpstreamToken};
pub use issued::client_credentials::ClientCredentials;
pub use issued::context::LoginContext;
pub use issued::error::Rejection;
pub use issued::fetch::get_token;
pub use issued::login::Login;
pub use issued::refused::{LoginIdentity, RefusedLogins};
pub use issued::response::Pointer;
pub use issued::source::TokenSource;
pub use rsa::Rsa;
pub use token_placement::TokenPlacement;

use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};

use crate::code::Failure;
use crate::custody::{Kind, Material, Unsealed};
use crate::signature::NotOnce;
use crate::transport::{Endpoint, Outbound, Signed};

/// The scheme by which an upstream authenticates claviger.
#[derive(Clone)]
pub enum Scheme {
    /// An HTTP signature made with an access key.
    AccessKey(AccessKey),
    /// The secret itself, at this place.
    Secret(TokenPlacement),
    /// A token that the upstream or an OAuth 2.0 server issues.
    Issued(TokenSource),
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

impl Scheme {
    /// Adds the credential, as the last step. A scheme that needs more than the request and the credential returns the
    /// request unchanged in [`Prepared::Deferred`].
    ///
    /// # Errors
    /// A [`Failure`] if the credential cannot be added.
    pub fn apply<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
    ) -> Result<Prepared<'e>, Failure> {
        let signed = match self {
            Self::AccessKey(scheme) => scheme.apply(outbound, credential),
            Self::Secret(placement) => {
                let Material::Value(secret) = credential.material() else { return Err(credential.unfit()) };
                placement.attach(outbound, credential, secret)
            }
            Self::Issued(_) | Self::Rsa(_) => return Ok(Prepared::Deferred(outbound)),
        };
        signed.map(Prepared::Signed)
    }

    /// Adds a credential that takes time to obtain. Also returns the token that was used, if any.
    ///
    /// # Errors
    /// A [`Failure`] if no credential can be obtained.
    pub async fn sign_deferred<'e>(
        &self,
        outbound: Outbound<'e>,
        context: &LoginContext<'e, '_>,
    ) -> Result<(Signed<'e>, Option<Arc<UpstreamToken>>), Failure> {
        match self {
            Self::Rsa(rsa) => Ok((rsa.sign_deferred(outbound, context.credential).await?, None)),
            Self::Issued(source) => {
                let token = get_token(context, source).await?;
                let signed = source.placement().attach(outbound, context.credential, token.token())?;
                Ok((signed, Some(token)))
            }
            Self::AccessKey(_) | Self::Secret(_) => Err(context.credential.unfit()),
        }
    }

    /// Returns the source of the tokens that the scheme uses; `None` if it uses none.
    #[must_use]
    pub fn token_source(&self) -> Option<&TokenSource> {
        if let Self::Issued(source) = self { Some(source) } else { None }
    }

    /// Returns whether the credential is valid for other requests too, which a signature is not.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.placement().is_some()
    }

    /// Returns the place of the secret or token; `None` if the scheme signs.
    fn placement(&self) -> Option<&TokenPlacement> {
        match self {
            Self::AccessKey(_) | Self::Rsa(_) => None,
            Self::Secret(placement) => Some(placement),
            Self::Issued(source) => Some(source.placement()),
        }
    }

    /// Returns the header that carries the credential.
    #[must_use]
    pub fn header(&self) -> HeaderName {
        self.placement().map_or(AUTHORIZATION, TokenPlacement::header)
    }

    /// Returns the names of the cookies in which an upstream may disclose its credential.
    #[must_use]
    pub fn cookies(&self) -> Vec<String> {
        if let Self::Issued(TokenSource::Login(login)) = self { login.cookies() } else { Vec::new() }
    }

    /// Returns the token endpoint, which receives the credential instead of the upstream.
    #[must_use]
    pub fn token_endpoint(&self) -> Option<&Endpoint> {
        let Self::Issued(TokenSource::Client(client)) = self else { return None };
        Some(&client.destination.endpoint)
    }

    /// Returns the kind of credential that the scheme needs.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AccessKey(_) => Kind::AccessKey,
            Self::Secret(_) => Kind::Value,
            Self::Issued(TokenSource::Login(_)) => Kind::Login,
            Self::Issued(TokenSource::Client(_)) => Kind::Client,
            Self::Rsa(_) => Kind::Rsa,
        }
    }

    /// Returns the scheme's name in the configuration file.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::AccessKey(_) => "access-key",
            Self::Secret(placement) => placement.as_str(),
            Self::Issued(TokenSource::Login(_)) => "login",
            Self::Issued(TokenSource::Client(_)) => "client-credentials",
            Self::Rsa(_) => "rsa",
        }
    }

    /// Previews what the scheme would add to such a request. No secret is needed.
    ///
    /// # Errors
    /// [`NotOnce`] if a signed header does not occur exactly once.
    pub fn preview(&self, method: &str, target: &str, headers: &HeaderMap) -> Result<Preview, NotOnce> {
        Ok(match self {
            Self::AccessKey(scheme) => signature(&scheme.signing_string(method, target, headers)?),
            Self::Rsa(scheme) => signature(&scheme.signing_string(method, target, headers)?),
            Self::Secret(placement) => Preview::Line(placement.describe()),
            Self::Issued(source) => Preview::Line(match source {
                TokenSource::Login(_) => format!("{} (by login)", source.placement().describe()),
                TokenSource::Client(client) => {
                    let (line, origin) = (source.placement().describe(), &client.destination.endpoint.origin);
                    format!("{line} (by client credentials, of {origin})")
                }
            }),
        })
    }
}

fn signature(string: &[u8]) -> Preview {
    Preview::Signature(String::from_utf8_lossy(string).into_owned())
}
