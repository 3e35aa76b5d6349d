//! OAuth 2.0 client credentials (RFC 6749 §4.4): claviger exchanges a client id and secret for a bearer token.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::AUTHORIZATION;
use serde_json::Value;
use zeroize::Zeroizing;

use super::cache::TokenResponse;
use super::context::{LoginContext, LoginRequest};
use super::error::LoginError;
use super::form;
use super::response::{is_token, parse_answer, without_token};
use crate::clock::http_date;
use crate::code::Failure;
use crate::custody::Material;
use crate::scheme::token_placement::sensitive_header;
use crate::secret::Secret;
use crate::transport::{Destination, Fetched, Outbound};

/// The content type of the request body.
const FORM: &str = "application/x-www-form-urlencoded";

/// The settings with which a client fetches its tokens.
pub struct ClientCredentials {
    /// The token endpoint: the only origin that receives the client secret.
    pub destination: Destination,
    /// The path and query of the token endpoint.
    pub target: String,
    /// The requested scope.
    pub scope: Option<String>,
    /// How the client authenticates.
    pub auth: Auth,
    /// The lifetime of a token whose response states none.
    pub lifetime: Duration,
}

/// How a client authenticates (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// The `Authorization: Basic` header.
    Basic,
    /// Members of the request body.
    Form,
}

impl PartialEq for ClientCredentials {
    fn eq(&self, other: &Self) -> bool {
        self.describe() == other.describe()
    }
}

impl ClientCredentials {
    /// Describes the settings that decide which tokens the client gets.
    pub(crate) fn describe(&self) -> String {
        format!("{:?}", (&self.destination.endpoint.origin, &self.target, &self.scope, self.auth))
    }

    pub(crate) fn login_request<'e>(
        &self,
        context: &LoginContext<'e, '_>,
    ) -> Result<LoginRequest<'e>, Failure> {
        let Material::Client { id, secret } = context.credential.material() else {
            return Err(context.credential.unfit());
        };
        let date = http_date(context.clock.now());
        let settings = &self.destination.settings;
        let mut outbound = Outbound::for_login(context.entry, settings, (Method::POST, &self.target), date)?;
        let mut members = vec![("grant_type", b"client_credentials".as_slice())];
        members.extend(self.scope.as_ref().map(|scope| ("scope", scope.as_bytes())));
        let signed = match self.auth {
            Auth::Basic => {
                outbound.set_body(FORM, form::urlencoded(&members));
                let value = sensitive_header("Basic ", &basic(id, secret))?;
                outbound.sign(context.credential, AUTHORIZATION, value)
            }
            Auth::Form => {
                members.extend([("client_id", id.as_bytes()), ("client_secret", secret.expose())]);
                outbound.sign_body(context.credential, FORM, form::urlencoded(&members))
            }
        };
        let secret = Zeroizing::new(secret.expose().to_vec());
        Ok(LoginRequest { to: self.destination.endpoint.clone(), signed, secret })
    }

    /// Parses the response of the token endpoint.
    pub(crate) fn parse_response(
        &self,
        fetched: &Fetched,
        now: SystemTime,
        secret: &[u8],
    ) -> Result<TokenResponse, LoginError> {
        let answer = parse_answer(fetched, secret)?;
        let kind = answer.get("token_type").and_then(Value::as_str).unwrap_or("bearer");
        let token = answer.get("access_token").and_then(Value::as_str);
        let token = token.filter(|token| is_token(token) && kind.eq_ignore_ascii_case("bearer"));
        let reason = || without_token(&answer, "the answer to the login has no bearer token");
        let token = token.ok_or_else(reason)?;
        let life = answer.get("expires_in").and_then(seconds).unwrap_or(self.lifetime);
        let ends = now.checked_add(life).unwrap_or(now);
        Ok(TokenResponse { token: Secret::new(token.as_bytes().to_vec()), ends, refresh: None })
    }
}

/// Parses a number of seconds; some servers send a string.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Builds the value after `Basic `: id and secret, each form-encoded before they are joined.
fn basic(id: &str, secret: &Secret) -> Secret {
    let mut pair = Zeroizing::new(String::with_capacity((id.len() + secret.expose().len()) * 3 + 1));
    form::encode(&mut pair, id.as_bytes());
    pair.push(':');
    form::encode(&mut pair, secret.expose());
    let mut coded = Zeroizing::new(String::with_capacity(pair.len() * 2 + 4));
    STANDARD.encode_string(pair.as_bytes(), &mut coded);
    Secret::new(std::mem::take(&mut *coded).into_bytes())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_encoded_before_it_is_joined() {
        let encoded = basic("a:b c", &Secret::new(b"fake+/%:~".to_vec()));
        let pair = String::from_utf8(STANDARD.decode(encoded.expose()).unwrap()).unwrap();
        assert_eq!(pair, "a%3Ab+c:fake%2B%2F%25%3A%7E");
    }

    #[test]
    fn a_life_may_be_a_number_or_its_text() {
        let life = |value: &str| seconds(&serde_json::from_str(value).unwrap());
        assert_eq!(life("3599"), Some(Duration::from_secs(3599)));
        assert_eq!(life("\"3599\""), Some(Duration::from_secs(3599)));
        assert_eq!((life("-1"), life("\"soon\""), life("null")), (None, None, None));
    }
}
