//! Token sources: where a token comes from.

use std::sync::Arc;
use std::time::SystemTime;

use http::{Response, StatusCode};

use super::cache::TokenResponse;
use super::client_credentials::ClientCredentials;
use super::context::{LoginContext, LoginRequest};
use super::error::{LoginError, Rejection};
use super::login::Login;
use crate::code::Failure;
use crate::scheme::token_placement::TokenPlacement;
use crate::secret::Secret;
use crate::transport::{Destination, Fetched, UpstreamBody};

/// The source of a credential's tokens. Two sources are equal if they fetch the same tokens in the same way.
#[derive(Clone, PartialEq)]
pub enum TokenSource {
    /// A login with name and password.
    Login(Arc<Login>),
    /// An OAuth 2.0 server, with client credentials.
    Client(Arc<ClientCredentials>),
}

impl TokenSource {
    /// Describes the source. Two descriptions are equal only if the sources are the same.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Login(login) => format!("{login:?}"),
            Self::Client(client) => client.describe(),
        }
    }

    /// Builds the request that fetches a token from `destination`, or from the token endpoint if there is one.
    pub(crate) fn login_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
        destination: &Destination,
    ) -> Result<LoginRequest<'e>, Failure> {
        match self {
            Self::Login(login) => login.login_request(context, destination),
            Self::Client(client) => client.login_request(context),
        }
    }

    /// Builds the request that refreshes a token without the password; `None` if the source has none.
    pub(crate) fn refresh_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
        token: &Secret,
    ) -> Result<Option<LoginRequest<'e>>, Failure> {
        match self {
            Self::Login(login) => login.refresh_request(context, token),
            Self::Client(_) => Ok(None),
        }
    }

    /// Parses the response to a login. The error's reason never repeats `secret`.
    pub(crate) fn parse_response(
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

    /// Returns the place of the token in a request.
    pub(crate) fn placement(&self) -> &TokenPlacement {
        match self {
            Self::Login(login) => &login.carrier,
            Self::Client(_) => &TokenPlacement::Bearer,
        }
    }

    /// Returns whether a response rejects the token. Reads no more of the body than necessary.
    ///
    /// # Errors
    /// A [`Failure`] if the upstream breaks off while its body is read.
    pub async fn rejection(
        &self,
        response: &mut Response<UpstreamBody>,
    ) -> Result<Option<Rejection>, Failure> {
        match (response.status(), self) {
            (StatusCode::UNAUTHORIZED, _) => Ok(Some(Rejection::Definite)),
            (StatusCode::FORBIDDEN, _) => Ok(Some(Rejection::Possible)),
            (_, Self::Login(login)) => login.is_failure_body(response).await,
            (_, Self::Client(_)) => Ok(None),
        }
    }
}
