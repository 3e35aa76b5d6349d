//! Login: claviger exchanges a name and a password for a token or a cookie.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, Method, Response};
use serde_json::Value;
use zeroize::Zeroizing;

use super::cache::TokenResponse;
use super::context::{LoginContext, LoginRequest};
use super::error::{LoginError, Rejection};
use super::form;
use super::response::{Pointer, is_token, jwt_end, parse_answer, parse_time, without_token};
use crate::clock::http_date;
use crate::code::Failure;
use crate::custody::Material;
use crate::headers::{is_identity, is_json};
use crate::scheme::token_placement::TokenPlacement;
use crate::secret::Secret;
use crate::transport::{Destination, Fetched, Outbound, UpstreamBody};

/// The maximum number of body bytes searched for a sign that the login has ended.
const LOOKED_AT: usize = 64 * 1024;

/// The settings of an upstream's login.
#[derive(Debug, PartialEq)]
pub struct Login {
    /// The login path, below the endpoint's base path.
    pub path: String,
    /// The encoding of name and password.
    pub form: Form,
    /// The member that carries the name.
    pub username: String,
    /// The member that carries the password.
    pub password: String,
    /// The location of the token in the response.
    pub found: TokenLocation,
    /// The placement of the token in a request.
    pub carrier: TokenPlacement,
    /// The location of the token's end in the response.
    pub expires: Option<Pointer>,
    /// The lifetime of a token whose response states none.
    pub lifetime: Duration,
    /// The marker of a failed login in a response, whatever its status.
    pub failed: Option<FailureMarker>,
    /// How a new token is fetched without the password.
    pub refresh: Option<Refresh>,
}

/// The encoding of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON object.
    Json,
    /// An HTML form.
    Urlencoded,
}

/// The location of a token in a response.
#[derive(Debug, PartialEq)]
pub enum TokenLocation {
    /// A member of the JSON body.
    Token(Pointer),
    /// The cookie of this name.
    Cookie(String),
}

/// A member of a JSON response that marks a failed login.
#[derive(Debug, PartialEq)]
pub struct FailureMarker {
    /// The location of the member.
    pub pointer: Pointer,
    /// The value that marks a failure.
    pub equals: Value,
}

impl FailureMarker {
    fn holds(&self, answer: &Value) -> bool {
        self.pointer.find_in(answer) == Some(&self.equals)
    }
}

/// The settings of a refresh by refresh token.
#[derive(Debug, PartialEq)]
pub struct Refresh {
    /// The refresh path, below the endpoint's base path.
    pub path: String,
    /// The location of the refresh token in the response to a login.
    pub token: Pointer,
    /// The member that carries the refresh token in a request.
    pub member: String,
}

impl Login {
    /// Returns the names of the cookies that hold a token.
    pub(crate) fn cookies(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let TokenLocation::Cookie(name) = &self.found {
            names.push(name.clone());
        }
        if let TokenPlacement::Cookie(name) = &self.carrier {
            names.push(name.clone());
        }
        names
    }

    pub(crate) fn login_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
        destination: &Destination,
    ) -> Result<LoginRequest<'e>, Failure> {
        let Material::Login { username, password } = context.credential.material() else {
            return Err(context.credential.unfit());
        };
        let members =
            [(self.username.as_str(), username.as_bytes()), (self.password.as_str(), password.expose())];
        self.post_request(context, (destination, &self.path), &members, password)
    }

    pub(crate) fn refresh_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
        token: &Secret,
    ) -> Result<Option<LoginRequest<'e>>, Failure> {
        let Some(refresh) = &self.refresh else { return Ok(None) };
        let members = [(refresh.member.as_str(), token.expose())];
        self.post_request(context, (context.destination, &refresh.path), &members, token).map(Some)
    }

    fn post_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
        (Destination { endpoint, settings }, path): (&Destination, &str),
        members: &[(&str, &[u8])],
        secret: &Secret,
    ) -> Result<LoginRequest<'e>, Failure> {
        let target = format!("{}{path}", settings.base);
        let date = http_date(context.clock.now());
        let outbound = Outbound::for_login(context.entry, settings, (Method::POST, &target), date)?;
        let (kind, body) = match self.form {
            Form::Json => ("application/json", form::json(members)?),
            Form::Urlencoded => ("application/x-www-form-urlencoded", form::urlencoded(members)),
        };
        let signed = outbound.sign_body(context.credential, kind, body);
        let secret = Zeroizing::new(secret.expose().to_vec());
        Ok(LoginRequest { to: endpoint.clone(), signed, secret })
    }

    /// Parses the response to a login.
    pub(crate) fn parse_response(
        &self,
        fetched: &Fetched,
        now: SystemTime,
        secret: &[u8],
    ) -> Result<TokenResponse, LoginError> {
        let answer = parse_answer(fetched, secret)?;
        if self.failed.as_ref().is_some_and(|failed| failed.holds(&answer)) {
            return Err(LoginError::refused("the answer to the login says that it failed"));
        }
        let (token, lifetime) = match &self.found {
            TokenLocation::Token(pointer) => {
                let token = pointer.find_in(&answer).and_then(Value::as_str).filter(|token| is_token(token));
                let reason =
                    || without_token(&answer, format!("the answer to the login has no token at {pointer}"));
                (token.ok_or_else(reason)?, None)
            }
            TokenLocation::Cookie(name) => {
                let reason = || LoginError::refused(format!("the answer to the login sets no cookie {name}"));
                cookie(fetched.headers(), name).ok_or_else(reason)?
            }
        };
        let lifetime = lifetime.and_then(|life| now.checked_add(life));
        let pointed = self.expires.as_ref().and_then(|pointer| parse_time(pointer.find_in(&answer)?));
        let by_lifetime = || now.checked_add(self.lifetime).unwrap_or(now);
        let ends = pointed.or_else(|| jwt_end(token)).or(lifetime).unwrap_or_else(by_lifetime);
        let refresh = self.refresh.as_ref().and_then(|refresh| refresh.token.find_in(&answer)?.as_str());
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        Ok(TokenResponse { token: secret(token), ends, refresh: refresh.map(secret) })
    }

    /// Returns whether a response body says that the login has ended. The bytes read for this are still forwarded.
    pub(crate) async fn is_failure_body(
        &self,
        response: &mut Response<UpstreamBody>,
    ) -> Result<Option<Rejection>, Failure> {
        let Some(failed) = &self.failed else { return Ok(None) };
        let (headers, body) = (response.headers(), response.body());
        let is_plain_json = is_json(headers) && is_identity(headers);
        if !response.status().is_success() || !is_plain_json || body.is_exhausted() {
            return Ok(None);
        }
        let read = response.body_mut().read(LOOKED_AT).await?;
        let whole = read.len() <= LOOKED_AT;
        let answer: Option<Value> = serde_json::from_slice(&read).ok().filter(|_| whole);
        response.body_mut().prepend(Bytes::copy_from_slice(&read), read.len());
        Ok(answer.filter(|answer| failed.holds(answer)).map(|_| Rejection::Possible))
    }
}

/// Returns the value of the named cookie that a response sets, and its lifetime if stated.
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
