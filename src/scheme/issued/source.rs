//! Token sources: where a token comes from, and its placement in a request.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{Response, StatusCode};

use super::cache::{LoginError, Rejection, TokenResponse, UpstreamToken};
use super::client_credentials::ClientCredentials;
use super::fetch::{LoginContext, LoginRequest};
use super::login::Login;
use crate::audit::Broken;
use crate::custody::Unsealed;
use crate::scheme::{Header, SignError, bearer, sensitive_header, token};
use crate::secret::Secret;
use crate::transport::{Fetched, Outbound, Signed, UpstreamBody};

/// The source of a credential's tokens.
#[derive(Clone)]
pub(in crate::scheme) enum TokenSource {
    /// A login with name and password.
    Login(Arc<Login>),
    /// An OAuth 2.0 server, with client credentials.
    Client(Arc<ClientCredentials>),
}

/// The placement of a token in a request.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenPlacement {
    /// The header `Authorization: Bearer`.
    Bearer,
    /// The header `Authorization: Token`.
    Token,
    /// A header that carries only the token.
    Header(Header),
    /// The cookie of this name, the only one in the request.
    Cookie(String),
}

impl TokenSource {
    /// Returns whether both sources fetch the same tokens in the same way.
    pub(in crate::scheme) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Login(one), Self::Login(other)) => one == other,
            (Self::Client(one), Self::Client(other)) => one.is_same(other),
            (Self::Login(_) | Self::Client(_), _) => false,
        }
    }

    /// Builds the request that fetches a token.
    pub(in crate::scheme) fn login_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
    ) -> Result<LoginRequest<'e>, SignError> {
        match self {
            Self::Login(login) => login.login_request(context),
            Self::Client(client) => client.login_request(context),
        }
    }

    /// Builds the request that refreshes a token without the password; `None` if the source has none.
    pub(in crate::scheme) fn refresh_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
        token: &Secret,
    ) -> Result<Option<LoginRequest<'e>>, SignError> {
        match self {
            Self::Login(login) => login.refresh_request(context, token),
            Self::Client(_) => Ok(None),
        }
    }

    /// Parses the response to a login. The error's reason never repeats `secret`.
    pub(in crate::scheme) fn parse_response(
        &self,
        fetched: &Fetched,
        now: SystemTime,
        secret: &[u8],
    ) -> Result<TokenResponse, LoginError> {
        match self {
            Self::Login(login) => login.parse_response(fetched, now, secret),
            Self::Client(client) => client.parse_response(fetched, now, secret),
        }
    }

    /// Adds a token to a request.
    pub(in crate::scheme) fn attach<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
        pass: &UpstreamToken,
    ) -> Result<Signed<'e>, SignError> {
        match self {
            Self::Login(login) => login.carrier.attach(outbound, credential, pass),
            Self::Client(_) => TokenPlacement::Bearer.attach(outbound, credential, pass),
        }
    }

    /// Returns whether a response rejects the token. Reads no more of the body than necessary.
    ///
    /// # Errors
    /// [`Broken`] if the upstream breaks off while its body is read.
    pub(in crate::scheme) async fn rejection(
        &self,
        response: &mut Response<UpstreamBody>,
    ) -> Result<Option<Rejection>, Broken> {
        match response.status() {
            StatusCode::UNAUTHORIZED => return Ok(Some(Rejection::Definite)),
            StatusCode::FORBIDDEN => return Ok(Some(Rejection::Possible)),
            _ => {}
        }
        match self {
            Self::Login(login) => login.is_failure_body(response).await,
            Self::Client(_) => Ok(None),
        }
    }
}

impl TokenPlacement {
    fn attach<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
        pass: &UpstreamToken,
    ) -> Result<Signed<'e>, SignError> {
        let (name, before) = self.before();
        Ok(outbound.sign(credential, name, sensitive_header(&before, pass.token())?))
    }

    /// Returns the header, and the text before the token in its value.
    fn before(&self) -> (HeaderName, String) {
        match self {
            Self::Bearer => (AUTHORIZATION, bearer::BEFORE.into()),
            Self::Token => (AUTHORIZATION, token::BEFORE.into()),
            Self::Header(header) => (header.name().clone(), String::new()),
            Self::Cookie(name) => (COOKIE, format!("{name}=")),
        }
    }

    /// Returns the header that carries the token.
    pub(in crate::scheme) fn header(&self) -> HeaderName {
        self.before().0
    }

    /// Describes the header field, with `…` in place of the token.
    pub(in crate::scheme) fn describe(&self) -> String {
        let (name, before) = self.before();
        format!("{name}: {before}…")
    }
}
