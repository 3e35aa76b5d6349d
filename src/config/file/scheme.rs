//! `scheme` of `[upstreams.…]`: how a credential is put on a request.

use std::time::Duration;

use serde_json::Value;

use super::upstream::one_endpoint;
use crate::config::Spanned;
use crate::config::decode::choice::{Tags, located, word};
use crate::config::decode::scalar::value;
use crate::config::decode::text::{line, visible};
use crate::config::decode::units::duration;
use crate::config::decode::{Node, Read, Table};
use crate::custody::Kind;

/// The names of the schemes.
const AVAILABLE_SCHEMES: &[&str] =
    &["access-key", "header", "bearer", "token", "login", "rsa", "client-credentials"];

/// The carriers of an access token besides `"bearer"` and `"token"`.
const AVAILABLE_CARRIERS: &[&str] = &["header", "cookie"];

/// How a credential is put on a request.
#[derive(Clone, Debug)]
pub enum Scheme {
    /// A signature over some of its header lines.
    AccessKey(AccessKey),
    /// A header line of its own.
    Header {
        /// The name of the header.
        name: Spanned<String>,
    },
    /// The header `Authorization: Bearer`.
    Bearer,
    /// The header `Authorization: Token`.
    Token,
    /// An access token or cookie that the upstream issues for user name and password.
    Login(Box<Login>),
    /// A signature with an RSA key.
    Rsa(Rsa),
    /// An access token that an OAuth 2.0 client obtains.
    ClientCredentials(ClientCredentials),
}

/// The settings of `scheme.access-key`.
#[derive(Clone, Debug, Default)]
pub struct AccessKey {
    /// The signed parts, in this order; absent for the default.
    pub headers: Option<Vec<Spanned<String>>>,
    /// The algorithm of the signature; absent for the default.
    pub algorithm: Option<Spanned<String>>,
}

/// The settings of `scheme.login`; absent ones have the values of the preset.
#[derive(Clone, Debug)]
pub struct Login {
    /// The product whose login is known; absent for the profile's preset.
    pub preset: Option<Preset>,
    /// The path of the login, below the endpoint's base path.
    pub path: Option<Spanned<String>>,
    /// The encoding of the login's body.
    pub body: Option<Body>,
    /// The body member of the user name.
    pub username: Option<Spanned<String>>,
    /// The body member of the password.
    pub password: Option<Spanned<String>>,
    /// The JSON pointer to the token in the answer.
    pub token: Option<Spanned<String>>,
    /// The name of the cookie that the answer sets, instead of a token.
    pub cookie: Option<Spanned<String>>,
    /// How the token is put on requests.
    pub send: Option<Spanned<Carrier>>,
    /// The JSON pointer to the expiry in the answer.
    pub expires: Option<Spanned<String>>,
    /// The lifetime of the token if the answer gives none.
    pub lifetime: Option<Duration>,
    /// How an answer shows that the login failed or has expired.
    pub failed: Option<Failed>,
    /// How the token is refreshed without the password.
    pub refresh: Option<Refresh>,
}

/// The settings of `scheme.rsa`.
#[derive(Clone, Debug)]
pub struct Rsa {
    /// The kind of signature.
    pub form: RsaForm,
    /// The signed parts, in this order, if the kind allows a choice; absent for the default.
    pub headers: Option<Vec<Spanned<String>>>,
}

/// The kinds of RSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaForm {
    /// The System Context of `JumpCloud`.
    SystemContext,
    /// The signature of draft-cavage-http-signatures.
    Cavage,
}

/// The settings of `scheme.client-credentials`.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// The URL that issues tokens; absent for the profile's URL.
    pub token_url: Option<Spanned<String>>,
    /// The scope of the tokens; absent for the profile's scope.
    pub scope: Option<Spanned<String>>,
    /// How the client authenticates itself.
    pub auth: Auth,
    /// The lifetime of a token if the answer gives none; absent for the default.
    pub lifetime: Option<Duration>,
}

/// How an OAuth 2.0 client authenticates itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// In the header `Authorization: Basic`.
    Basic,
    /// In the body, as form members.
    Form,
}

/// A product whose login is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The login of `JumpServer`.
    JumpServer,
    /// The login of Foresight.
    Foresight,
    /// The login of the in-house backend, with a token in the answer.
    OpsToken,
    /// The login of the in-house backend, with a cookie.
    OpsCookie,
}

/// The encoding of a login's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A JSON object.
    Json,
    /// An HTML form (`application/x-www-form-urlencoded`).
    Form,
}

/// How an access token is put on requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In the header `Authorization: Bearer`.
    Bearer,
    /// In the header `Authorization: Token`.
    Token,
    /// In the header of this name.
    Header(String),
    /// In the cookie of this name.
    Cookie(String),
}

/// How an answer shows that a login failed or has expired.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The JSON pointer to the member that shows it.
    pub pointer: Spanned<String>,
    /// The value of the member in that case.
    pub equals: Value,
}

/// How an access token is refreshed without the password.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// The path of the refresh, below the endpoint's base path.
    pub path: Spanned<String>,
    /// The JSON pointer to the refresh token in a login's answer; absent for the default.
    pub token: Option<Spanned<String>>,
    /// The body member of the refresh token; absent for the default.
    pub member: Option<Spanned<String>>,
}

impl Scheme {
    pub(super) fn read(node: &Node<'_>) -> Read<Self> {
        let tags = Tags { noun: "scheme", known: AVAILABLE_SCHEMES, available: AVAILABLE_SCHEMES };
        let (tag, inner) = tags.read(node)?;
        let mut table = Table::of(&inner).inspect_err(|_| inner.hide())?;
        let scheme = match tag {
            "header" => table.required("name", visible).map(|name| Self::Header { name }),
            "bearer" => Ok(Self::Bearer),
            "token" => Ok(Self::Token),
            "login" => Login::read(&mut table).map(|login| Self::Login(Box::new(login))),
            "rsa" => Rsa::read(&mut table).map(Self::Rsa),
            "client-credentials" => ClientCredentials::read(&mut table).map(Self::ClientCredentials),
            _ => AccessKey::read(&mut table).map(Self::AccessKey),
        };
        table.finish();
        scheme
    }

    /// The kind of credential that the scheme uses.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AccessKey(_) => Kind::AccessKey,
            Self::Header { .. } | Self::Bearer | Self::Token => Kind::Value,
            Self::Login(_) => Kind::Login,
            Self::Rsa(_) => Kind::Rsa,
            Self::ClientCredentials(_) => Kind::Client,
        }
    }
}

impl AccessKey {
    fn read(table: &mut Table<'_>) -> Read<Self> {
        let headers = table.optional("headers", signed_headers);
        let algorithm = table.optional("algorithm", visible);
        Ok(Self { headers: headers?, algorithm: algorithm? })
    }
}

fn signed_headers(node: &Node<'_>) -> Read<Vec<Spanned<String>>> {
    let headers = node.list(visible)?;
    if headers.is_empty() {
        return Err(node.refuse(format!("{} must not be empty: nothing would be signed", node.subject())));
    }
    Ok(headers)
}

impl Rsa {
    fn read(table: &mut Table<'_>) -> Read<Self> {
        let form = table.optional("form", word(&FORMS));
        let headers = table.optional("headers", signed_headers);
        Ok(Self { form: form?.unwrap_or(RsaForm::SystemContext), headers: headers? })
    }
}

impl ClientCredentials {
    fn read(table: &mut Table<'_>) -> Read<Self> {
        let token_url = table.optional("token_url", one_endpoint);
        let scope = table.optional("scope", line);
        let auth = table.optional("auth", word(&AUTHS));
        let lifetime = table.optional("lifetime", lifetime);
        Ok(Self {
            token_url: token_url?,
            scope: scope?,
            auth: auth?.unwrap_or(Auth::Basic),
            lifetime: lifetime?,
        })
    }
}

impl Login {
    fn read(table: &mut Table<'_>) -> Read<Self> {
        let preset = table.optional("preset", word(&PRESETS));
        let path = table.optional("path", line);
        let body = table.optional("body", word(&BODIES));
        let username = table.optional("username", line);
        let password = table.optional("password", line);
        let token = table.optional("token", line);
        let cookie = table.optional("cookie", visible);
        let send = table.optional("send", located(Carrier::read));
        let expires = table.optional("expires", line);
        let lifetime = table.optional("lifetime", lifetime);
        let failed = table.optional("failed", Failed::read);
        let refresh = table.optional("refresh", Refresh::read);
        Ok(Self {
            preset: preset?,
            path: path?,
            body: body?,
            username: username?,
            password: password?,
            token: token?,
            cookie: cookie?,
            send: send?,
            expires: expires?,
            lifetime: lifetime?,
            failed: failed?,
            refresh: refresh?,
        })
    }
}

/// Reads the lifetime of what an upstream issues.
fn lifetime(node: &Node<'_>) -> Read<Duration> {
    duration(Duration::from_secs(1)..=Duration::from_hours(365 * 24))(node)
}

impl Carrier {
    fn read(node: &Node<'_>) -> Read<Self> {
        if node.value().as_str().is_some() {
            return word(&WORDS)(node).map(|carrier| match carrier {
                Word::Bearer => Self::Bearer,
                Word::Token => Self::Token,
            });
        }
        let (known, available) = (AVAILABLE_CARRIERS, AVAILABLE_CARRIERS);
        let (tag, inner) = Tags { noun: "way to send it", known, available }.read(node)?;
        let name = visible(&inner)?.value;
        Ok(if tag == "cookie" { Self::Cookie(name) } else { Self::Header(name) })
    }
}

impl Failed {
    fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let pointer = table.required("pointer", line);
        let equals = table.required("equals", json);
        table.finish();
        Ok(Self { pointer: pointer?, equals: equals? })
    }
}

/// Reads a value that JSON has too: a string, a whole number, true or false.
fn json(node: &Node<'_>) -> Read<Value> {
    let (read, mistyped) = (node.value(), || node.report_type("a string, a whole number, true or false"));
    if let Some(truth) = read.as_bool() {
        return Ok(truth.into());
    }
    if let Some(number) = read.as_integer() {
        return value(number)
            .and_then(|number| i64::try_from(number).ok())
            .map(Value::from)
            .ok_or_else(mistyped);
    }
    read.as_str().map(Value::from).ok_or_else(mistyped)
}

impl Refresh {
    fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let path = table.required("path", line);
        let token = table.optional("token", line);
        let member = table.optional("member", line);
        table.finish();
        Ok(Self { path: path?, token: token?, member: member? })
    }
}

/// The possible words of `send`.
#[derive(Clone, Copy)]
enum Word {
    Bearer,
    Token,
}

const WORDS: [(&str, Word); 2] = [("bearer", Word::Bearer), ("token", Word::Token)];
const BODIES: [(&str, Body); 2] = [("json", Body::Json), ("form", Body::Form)];
const AUTHS: [(&str, Auth); 2] = [("basic", Auth::Basic), ("form", Auth::Form)];
const FORMS: [(&str, RsaForm); 2] = [("system-context", RsaForm::SystemContext), ("cavage", RsaForm::Cavage)];
const PRESETS: [(&str, Preset); 4] = [
    ("jumpserver", Preset::JumpServer),
    ("foresight", Preset::Foresight),
    ("ops-token", Preset::OpsToken),
    ("ops-cookie", Preset::OpsCookie),
];
