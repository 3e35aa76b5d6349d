//! Where a pass comes from, and how it is put on.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{Response, StatusCode};

use super::client_credentials::ClientCredentials;
use super::errand::{Asking, Errand};
use super::login::Login;
use super::pass::{Ended, Fault, Gained, Pass};
use super::{Header, Unsigned, bearer, token, value};
use crate::audit::Broken;
use crate::custody::Unsealed;
use crate::secret::Secret;
use crate::transport::{Answer, Fetched, Outbound, Signed};

/// What gives passes.
#[derive(Clone)]
pub(super) enum Source {
    /// A login with name and password.
    Login(Arc<Login>),
    /// An OAuth 2.0 server, for a client.
    Client(Arc<ClientCredentials>),
}

/// How a pass is put on a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Carrier {
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Token`.
    Token,
    /// In a header of its own.
    Header(Header),
    /// As a cookie of this name, the only one.
    Cookie(String),
}

impl Source {
    /// Whether both ask for the same in the same way.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Login(one), Self::Login(other)) => one == other,
            (Self::Client(one), Self::Client(other)) => one.is_same(other),
            (Self::Login(_) | Self::Client(_), _) => false,
        }
    }

    /// The request that asks for a pass.
    pub(super) fn asking<'e>(&self, errand: &Errand<'e, '_>) -> Result<Asking<'e>, Unsigned> {
        match self {
            Self::Login(login) => login.asking(errand),
            Self::Client(client) => client.asking(errand),
        }
    }

    /// The same without the password, where that is to be had.
    pub(super) fn refreshing<'e>(
        &self,
        errand: &Errand<'e, '_>,
        token: &Secret,
    ) -> Result<Option<Asking<'e>>, Unsigned> {
        match self {
            Self::Login(login) => login.refreshing(errand, token),
            Self::Client(_) => Ok(None),
        }
    }

    /// What an answer gives. No word of the reason repeats `secret`.
    pub(super) fn read(&self, fetched: &Fetched, now: SystemTime, secret: &[u8]) -> Result<Gained, Fault> {
        match self {
            Self::Login(login) => login.read(fetched, now, secret),
            Self::Client(client) => client.read(fetched, now, secret),
        }
    }

    /// Puts a pass on.
    pub(super) fn put<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
        pass: &Pass,
    ) -> Result<Signed<'e>, Unsigned> {
        match self {
            Self::Login(login) => login.carrier.put(outbound, credential, pass),
            Self::Client(_) => Carrier::Bearer.put(outbound, credential, pass),
        }
    }

    /// Whether an answer says that the pass has ended. Of its body no more is read than has to be.
    ///
    /// # Errors
    /// [`Broken`] where the upstream breaks off meanwhile.
    pub(super) async fn ended(&self, response: &mut Response<Answer>) -> Result<Option<Ended>, Broken> {
        match response.status() {
            StatusCode::UNAUTHORIZED => return Ok(Some(Ended::Surely)),
            StatusCode::FORBIDDEN => return Ok(Some(Ended::Perhaps)),
            _ => {}
        }
        match self {
            Self::Login(login) => login.says_failed(response).await,
            Self::Client(_) => Ok(None),
        }
    }
}

impl Carrier {
    fn put<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
        pass: &Pass,
    ) -> Result<Signed<'e>, Unsigned> {
        let (name, before) = self.before();
        Ok(outbound.sign(credential, name, value(&before, pass.token())?))
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
    pub(super) fn header(&self) -> HeaderName {
        self.before().0
    }

    /// The header line, `…` standing for the pass.
    pub(super) fn shown(&self) -> String {
        let (name, before) = self.before();
        format!("{name}: {before}…")
    }
}
