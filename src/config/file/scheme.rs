//! `scheme` of `[upstreams.…]`.

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

/// The schemes.
const AVAILABLE_SCHEMES: &[&str] =
    &["access-key", "header", "bearer", "token", "login", "rsa", "client-credentials"];

/// How a pass may be sent beside `"bearer"` and `"token"`.
const AVAILABLE_CARRIERS: &[&str] = &["header", "cookie"];

/// How a credential is put on a request.
#[derive(Clone, Debug)]
pub enum Scheme {
    /// By a signature over some of its header lines.
    AccessKey(AccessKey),
    /// In a header line of its own.
    Header {
        /// The name of the header.
        name: Spanned<String>,
    },
    /// As `Authorization: Bearer`.
    Bearer,
    /// As `Authorization: Token`.
    Token,
    /// By what the upstream gives for name and password.
    Login(Box<Login>),
    /// By a signature with an RSA key.
    Rsa(Rsa),
    /// By the token that an OAuth 2.0 client is given.
    ClientCredentials(ClientCredentials),
}

/// The settings of `scheme.access-key`.
#[derive(Clone, Debug, Default)]
pub struct AccessKey {
    /// What is signed, in this order; absent for the usual.
    pub headers: Option<Vec<Spanned<String>>>,
    /// With what; absent for the usual.
    pub algorithm: Option<Spanned<String>>,
}

/// The settings of `scheme.login`; what is absent is as the preset has it.
#[derive(Clone, Debug)]
pub struct Login {
    /// A product whose login is known; absent for the profile's.
    pub preset: Option<Preset>,
    /// Where the login is, below the endpoint's base path.
    pub path: Option<Spanned<String>>,
    /// How name and password are sent.
    pub body: Option<Body>,
    /// What the name is called there.
    pub username: Option<Spanned<String>>,
    /// What the password is called there.
    pub password: Option<Spanned<String>>,
    /// Where in the answer the token is.
    pub token: Option<Spanned<String>>,
    /// Which cookie the answer sets, instead.
    pub cookie: Option<Spanned<String>>,
    /// How it is put on requests.
    pub send: Option<Spanned<Carrier>>,
    /// Where in the answer it is told when it ends.
    pub expires: Option<Spanned<String>>,
    /// How long it is good where the answer does not tell.
    pub life: Option<Duration>,
    /// By what an answer says that the login failed or has ended.
    pub failed: Option<Failed>,
    /// How it is renewed without the password.
    pub refresh: Option<Refresh>,
}

/// The settings of `scheme.rsa`.
#[derive(Clone, Debug)]
pub struct Rsa {
    /// What kind of signature.
    pub form: RsaForm,
    /// What is signed, in this order, where that can be chosen; absent for the usual.
    pub headers: Option<Vec<Spanned<String>>>,
}

/// The kinds of RSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaForm {
    /// `JumpCloud`'s System Context.
    SystemContext,
    /// That of draft-cavage.
    Cavage,
}

/// The settings of `scheme.client-credentials`.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// Where tokens are given; absent for the profile's place.
    pub token_url: Option<Spanned<String>>,
    /// What they are asked for; absent for the profile's.
    pub scope: Option<Spanned<String>>,
    /// How the client proves itself.
    pub auth: Auth,
    /// How long a token is good where the answer does not tell; absent for the usual.
    pub life: Option<Duration>,
}

/// How an OAuth 2.0 client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// As `Authorization: Basic`.
    Basic,
    /// In the body.
    Form,
}

/// A product whose login is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `JumpServer`'s.
    JumpServer,
    /// Foresight's.
    Foresight,
    /// The in-house backend's, with a token in the answer.
    OpsToken,
    /// The in-house backend's, with a cookie.
    OpsCookie,
}

/// How members are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// As a JSON object.
    Json,
    /// As an HTML form sends them.
    Form,
}

/// How a pass is put on requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// As `Authorization: Bearer`.
    Bearer,
    /// As `Authorization: Token`.
    Token,
    /// In a header line of its own.
    Header(String),
    /// As a cookie.
    Cookie(String),
}

/// By what an answer says that a login failed or has ended.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Which member of it.
    pub pointer: Spanned<String>,
    /// What the member is then.
    pub equals: Value,
}

/// How a pass is renewed without the password.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// Where, below the endpoint's base path.
    pub path: Spanned<String>,
    /// Where in a login's answer the refresh token is; absent for the usual.
    pub token: Option<Spanned<String>>,
    /// What it is called when it is sent; absent for the usual.
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

    /// The kind of credential that it puts on.
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
        let life = table.optional("life", life);
        Ok(Self { token_url: token_url?, scope: scope?, auth: auth?.unwrap_or(Auth::Basic), life: life? })
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
        let life = table.optional("life", life);
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
            life: life?,
            failed: failed?,
            refresh: refresh?,
        })
    }
}

/// How long what an upstream gives may be good.
fn life(node: &Node<'_>) -> Read<Duration> {
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

/// Reads what JSON has as well: a string, a whole number, true or false.
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

/// The words of `send`.
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
