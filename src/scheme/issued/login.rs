//! Name and password, exchanged for a token or a cookie.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, Method, Response};
use serde_json::Value;
use zeroize::Zeroizing;

use super::cache::{LoginError, Rejection, TokenResponse};
use super::fetch::{LoginContext, LoginRequest};
use super::form;
use super::response::{Pointer, is_token, jwt_end, parse_time, refusal};
use super::source::TokenPlacement;
use crate::audit::Broken;
use crate::clock::http_date;
use crate::custody::Material;
use crate::scheme::SignError;
use crate::secret::Secret;
use crate::transport::link_rewrite::is_plain_json;
use crate::transport::{Fetched, Outbound, UpstreamBody};

/// How much of an answer is looked at for a word that the login has ended.
const LOOKED_AT: usize = 64 * 1024;

/// How an upstream is logged in to.
#[derive(Debug, PartialEq)]
pub struct Login {
    /// Where, below the endpoint's base path.
    pub path: String,
    /// How name and password are sent.
    pub form: Form,
    /// What the name is called there.
    pub username: String,
    /// What the password is called there.
    pub password: String,
    /// Where in the answer the pass is.
    pub found: TokenLocation,
    /// How it is put on.
    pub carrier: TokenPlacement,
    /// Where in the answer it is told when the pass ends.
    pub expires: Option<Pointer>,
    /// How long a pass is good where the answer does not tell.
    pub life: Duration,
    /// By what an answer says that there is no login, whatever its status.
    pub failed: Option<FailureMarker>,
    /// How a new pass is obtained without the password.
    pub refresh: Option<Refresh>,
}

/// How members are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a JSON object.
    Json,
    /// As an HTML form sends them.
    Urlencoded,
}

/// Where in an answer a pass is.
#[derive(Debug, PartialEq)]
pub enum TokenLocation {
    /// In its JSON.
    Token(Pointer),
    /// In the cookie of this name.
    Cookie(String),
}

/// A member of a JSON answer that says that there is no login.
#[derive(Debug, PartialEq)]
pub struct FailureMarker {
    /// Where.
    pub pointer: Pointer,
    /// What it is then.
    pub equals: Value,
}

impl FailureMarker {
    fn holds(&self, answer: &Value) -> bool {
        self.pointer.find_in(answer) == Some(&self.equals)
    }
}

/// How a new pass is obtained by a refresh token.
#[derive(Debug, PartialEq)]
pub struct Refresh {
    /// Where, below the endpoint's base path.
    pub path: String,
    /// Where in a login's answer the refresh token is.
    pub token: Pointer,
    /// What it is called when it is sent.
    pub member: String,
}

impl Login {
    /// The cookies that hold what a login gives.
    pub(in crate::scheme) fn cookies(&self) -> Vec<String> {
        let found = match &self.found {
            TokenLocation::Cookie(name) => Some(name.clone()),
            TokenLocation::Token(_) => None,
        };
        let sent = match &self.carrier {
            TokenPlacement::Cookie(name) => Some(name.clone()),
            TokenPlacement::Bearer | TokenPlacement::Token | TokenPlacement::Header(_) => None,
        };
        found.into_iter().chain(sent).collect()
    }

    pub(in crate::scheme) fn login_request<'e>(
        &self,
        errand: &LoginContext<'e, '_>,
    ) -> Result<LoginRequest<'e>, SignError> {
        let Material::Login { username, password } = errand.credential.material() else {
            return Err(SignError::Unfit);
        };
        let members =
            [(self.username.as_str(), username.as_bytes()), (self.password.as_str(), password.expose())];
        self.post_request(errand, &self.path, (&members, password))
    }

    pub(in crate::scheme) fn refresh_request<'e>(
        &self,
        errand: &LoginContext<'e, '_>,
        token: &Secret,
    ) -> Result<Option<LoginRequest<'e>>, SignError> {
        let Some(refresh) = &self.refresh else { return Ok(None) };
        let members = [(refresh.member.as_str(), token.expose())];
        self.post_request(errand, &refresh.path, (&members, token)).map(Some)
    }

    fn post_request<'e>(
        &self,
        errand: &LoginContext<'e, '_>,
        path: &str,
        (members, secret): (&[(&str, &[u8])], &Secret),
    ) -> Result<LoginRequest<'e>, SignError> {
        let target = format!("{}{path}", errand.manners.base);
        let date = http_date(errand.clock.now());
        let outbound = Outbound::for_login(errand.entry, errand.manners, (Method::POST, &target), date)?;
        let (kind, body) = match self.form {
            Form::Json => ("application/json", form::json(members)?),
            Form::Urlencoded => ("application/x-www-form-urlencoded", form::urlencoded(members)),
        };
        let signed = outbound.sign_body(errand.credential, kind, body);
        let secret = Zeroizing::new(secret.expose().to_vec());
        Ok(LoginRequest { to: errand.endpoint.clone(), signed, secret })
    }

    /// The pass that the answer to a login gives.
    pub(in crate::scheme) fn parse_response(
        &self,
        fetched: &Fetched,
        now: SystemTime,
        secret: &[u8],
    ) -> Result<TokenResponse, LoginError> {
        let answer: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
        if let Some(fault) = refusal(fetched.status, &answer, secret) {
            return Err(fault);
        }
        if self.failed.as_ref().is_some_and(|failed| failed.holds(&answer)) {
            return Err(LoginError::refused("the answer to the login says that it failed"));
        }
        let (token, told) = match &self.found {
            TokenLocation::Token(pointer) => {
                let token = pointer.find_in(&answer).and_then(Value::as_str).filter(|token| is_token(token));
                // A page for people, as of a proxy that stands in between, says nothing of the password.
                let fault = if answer.is_null() { LoginError::possible } else { LoginError::refused };
                let reason = || fault(format!("the answer to the login has no token at {pointer}"));
                (token.ok_or_else(reason)?, None)
            }
            TokenLocation::Cookie(name) => {
                let reason = || LoginError::refused(format!("the answer to the login sets no cookie {name}"));
                cookie(&fetched.headers, name).ok_or_else(reason)?
            }
        };
        let told = told.and_then(|life| now.checked_add(life));
        let pointed = self.expires.as_ref().and_then(|pointer| parse_time(pointer.find_in(&answer)?));
        let by_life = || now.checked_add(self.life).unwrap_or(now);
        let ends = pointed.or_else(|| jwt_end(token)).or(told).unwrap_or_else(by_life);
        let refresh = self.refresh.as_ref().and_then(|refresh| refresh.token.find_in(&answer)?.as_str());
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        Ok(TokenResponse { token: secret(token), ends, refresh: refresh.map(secret) })
    }

    /// Whether an answer's body says that the login has ended. What was read of it is still to come.
    pub(in crate::scheme) async fn is_failure_body(
        &self,
        response: &mut Response<UpstreamBody>,
    ) -> Result<Option<Rejection>, Broken> {
        let Some(failed) = &self.failed else { return Ok(None) };
        if !response.status().is_success()
            || !is_plain_json(response.headers())
            || response.body().is_exhausted()
        {
            return Ok(None);
        }
        let read = response.body_mut().read(LOOKED_AT).await?;
        let whole = read.len() <= LOOKED_AT;
        let answer: Option<Value> = serde_json::from_slice(&read).ok().filter(|_| whole);
        response.body_mut().prepend(Bytes::copy_from_slice(&read), read.len());
        Ok(answer.filter(|answer| failed.holds(answer)).map(|_| Rejection::Possible))
    }
}

/// The value of the cookie that an answer sets, and how long it is good where that is said.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<(&'a str, Option<Duration>)> {
    headers.get_all(SET_COOKIE).iter().find_map(|line| {
        let mut parts = line.to_str().ok()?.split(';').map(str::trim);
        let (_, value) = parts.next()?.split_once('=').filter(|(found, _)| found.trim_end() == name)?;
        let mut ages = parts.filter_map(|part| part.split_once('='));
        let age = ages.rfind(|(attribute, _)| attribute.eq_ignore_ascii_case("max-age"));
        let life = age.and_then(|(_, seconds)| seconds.trim().parse().ok()).map(Duration::from_secs);
        let value = value.trim();
        (is_token(value) && life != Some(Duration::ZERO)).then_some((value, life))
    })
}
