//! Where a pass comes from, and how it is put on.

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

/// What gives passes.
#[derive(Clone)]
pub(in crate::scheme) enum TokenSource {
    /// A login with name and password.
    Login(Arc<Login>),
    /// An OAuth 2.0 server, for a client.
    Client(Arc<ClientCredentials>),
}

/// How a pass is put on a request.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenPlacement {
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Token`.
    Token,
    /// In a header of its own.
    Header(Header),
    /// As a cookie of this name, the only one.
    Cookie(String),
}

impl TokenSource {
    /// Whether both ask for the same in the same way.
    pub(in crate::scheme) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Login(one), Self::Login(other)) => one == other,
            (Self::Client(one), Self::Client(other)) => one.is_same(other),
            (Self::Login(_) | Self::Client(_), _) => false,
        }
    }

    /// The request that asks for a pass.
    pub(in crate::scheme) fn login_request<'e>(
        &self,
        errand: &LoginContext<'e, '_>,
    ) -> Result<LoginRequest<'e>, SignError> {
        match self {
            Self::Login(login) => login.login_request(errand),
            Self::Client(client) => client.login_request(errand),
        }
    }

    /// The same without the password, where that is to be had.
    pub(in crate::scheme) fn refresh_request<'e>(
        &self,
        errand: &LoginContext<'e, '_>,
        token: &Secret,
    ) -> Result<Option<LoginRequest<'e>>, SignError> {
        match self {
            Self::Login(login) => login.refresh_request(errand, token),
            Self::Client(_) => Ok(None),
        }
    }

    /// What an answer gives. No word of the reason repeats `secret`.
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

    /// Puts a pass on.
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

    /// Whether an answer says that the pass has ended. Of its body no more is read than has to be.
    ///
    /// # Errors
    /// [`Broken`] where the upstream breaks off meanwhile.
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

    /// The header, and what stands in it before the pass.
    fn before(&self) -> (HeaderName, String) {
        match self {
            Self::Bearer => (AUTHORIZATION, bearer::BEFORE.into()),
            Self::Token => (AUTHORIZATION, token::BEFORE.into()),
            Self::Header(header) => (header.name().clone(), String::new()),
            Self::Cookie(name) => (COOKIE, format!("{name}=")),
        }
    }

    /// The header that carries it.
    pub(in crate::scheme) fn header(&self) -> HeaderName {
        self.before().0
    }

    /// The header line, `…` standing for the pass.
    pub(in crate::scheme) fn describe(&self) -> String {
        let (name, before) = self.before();
        format!("{name}: {before}…")
    }
}
