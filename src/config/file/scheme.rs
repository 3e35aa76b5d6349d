//! `scheme` of `[upstreams.…]`: how a credential is put on a request.

use std::time::Duration;

use serde_json::Value;

use crate::config::Spanned;
use crate::config::decode::{
    Key, Reader, Section, duration, line, one_of, optional, or, pointer, required, scalar, section, text_or,
    url, visible, word,
};
use crate::custody::Kind;
use crate::scheme::issued::client_credentials::Auth;
use crate::scheme::issued::login::Form;

/// How a credential is put on a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheme {
    /// A signature over some of its header lines.
    AccessKey(AccessKey),
    /// A header line of its own.
    Header(Header),
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

impl Scheme {
    pub(super) fn reader() -> Reader<Self> {
        let schemes = [
            ("access-key", "An HTTP signature with an access key.", AccessKey::reader().map(Self::AccessKey)),
            (
                "header",
                "`{ name = \"x-api-key\" }`: the value alone, in this header.",
                Header::reader().map(Self::Header),
            ),
            (
                "bearer",
                "The value, in `Authorization` after `Bearer`.",
                <()>::reader().map(|()| Self::Bearer),
            ),
            ("token", "The value, in `Authorization` after `Token`.", <()>::reader().map(|()| Self::Token)),
            (
                "login",
                "The token or cookie that the upstream gives for user name and password.",
                Login::reader().map(|login| Self::Login(Box::new(login))),
            ),
            ("rsa", "An HTTP signature with an RSA key.", Rsa::reader().map(Self::Rsa)),
            (
                "client-credentials",
                "The token of an OAuth 2.0 client.",
                ClientCredentials::reader().map(Self::ClientCredentials),
            ),
        ];
        let without_secrets = schemes.map(|(tag, about, reader)| {
            let reader = reader.after(|node| {
                if !node.value().is_table() {
                    node.hide();
                }
                Ok(())
            });
            (tag, about, reader)
        });
        one_of("scheme", without_secrets.into())
    }

    /// The kind of credential that the scheme uses.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AccessKey(_) => Kind::AccessKey,
            Self::Header(_) | Self::Bearer | Self::Token => Kind::Value,
            Self::Login(_) => Kind::Login,
            Self::Rsa(_) => Kind::Rsa,
            Self::ClientCredentials(_) => Kind::Client,
        }
    }
}

section! {
    /// The settings of `scheme.access-key`.
    pub struct AccessKey {
        /// The parts that are signed, in this order.
        headers: Option<Vec<Spanned<String>>> = optional(signed_headers())
            .by("`[\"(request-target)\", \"accept\", \"date\"]`"),
        /// The algorithm of the signature.
        algorithm: Spanned<String> = text("hmac-sha256", visible()),
    }
}

section! {
    /// The settings of `scheme.header`.
    pub struct Header {
        /// The name of the header.
        name: Spanned<String> = required(visible()),
    }
}

section! {
    /// The settings of `scheme.login`; absent ones have the values of the preset.
    pub struct Login {
        /// The product whose login is known, for all that is left out: `jumpserver`,
        /// `foresight`, `ops-token` or `ops-cookie`.
        preset: Option<Preset> = optional(word(&PRESETS)).by("by profile"),
        /// The path of the login, below the endpoint; by POST.
        path: Option<Spanned<String>> = optional(line()).by("by preset"),
        /// How name and password are sent: `json` or `form`.
        body: Form = or(Form::Json, word(&[("json", Form::Json), ("form", Form::Urlencoded)])),
        /// The member's name for the user name.
        username: Spanned<String> = text("username", line()),
        /// The member's name for the password.
        password: Spanned<String> = text("password", line()),
        /// The JSON pointer to the token in the answer.
        token: Option<Spanned<String>> = optional(pointer()).by("by preset"),
        /// The cookie that the answer sets, instead of `token`.
        cookie: Option<Spanned<String>> = optional(visible()).by("by preset"),
        /// How the token is put on requests: `{ header = "NAME" }`, `{ cookie = "NAME" }`, `"bearer"` or `"token"`.
        send: Option<Spanned<Carrier>> = optional(Carrier::reader().located()).by("by preset"),
        /// The JSON pointer to the time when the token ends; of a JWT it is known.
        expires: Option<Spanned<String>> = optional(pointer()).by("by preset"),
        /// The lifetime of a token if the answer does not state it.
        lifetime: Duration = or(Duration::from_hours(12), lifetime()),
        /// The mark of a failure: an answer of 200 with this member means that the login failed or has ended.
        failed: Option<Failed> = optional(Failed::reader()).by("by preset"),
        /// How the token is renewed without the password.
        refresh: Option<Refresh> = optional(Refresh::reader()).by("by preset"),
    }
}

section! {
    /// How an answer shows that a login failed or has expired.
    pub struct Failed {
        /// The JSON pointer to the member that shows it.
        pointer: Spanned<String> = required(pointer()),
        /// The value of the member in that case.
        equals: Value = required(scalar()),
    }
}

section! {
    /// How an access token is refreshed without the password.
    pub struct Refresh {
        /// The path of the refresh, below the endpoint; by POST.
        path: Spanned<String> = required(line()),
        /// The JSON pointer to the refresh token in a login's answer.
        token: Spanned<String> = text("/refresh_token", pointer()),
        /// The member's name for the refresh token when it is sent.
        member: Spanned<String> = text("refresh_token", line()),
    }
}

section! {
    /// The settings of `scheme.rsa`.
    pub struct Rsa {
        /// The form of the signature: JumpCloud's System Context, or `cavage`.
        form: RsaForm = or(RsaForm::SystemContext, word(&FORMS)),
        /// The parts that are signed, in this order; for `cavage`.
        headers: Option<Vec<Spanned<String>>> = optional(signed_headers()),
    }
}

section! {
    /// The settings of `scheme.client-credentials`.
    pub struct ClientCredentials {
        /// The URL where tokens are given; the client's secret goes there alone.
        token_url: Option<Spanned<String>> = optional(url()).by("JumpCloud's"),
        /// The scope that is asked for.
        scope: Option<Spanned<String>> = optional(line()).by("JumpCloud's: `\"api\"`"),
        /// How the client authenticates: `basic`, or `form`: id and secret in the body.
        auth: Auth = or(Auth::Basic, word(&[("basic", Auth::Basic), ("form", Auth::Form)])),
        /// The lifetime of a token if the answer does not state it.
        lifetime: Duration = or(Duration::from_hours(1), lifetime()),
    }
}

/// The kinds of RSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaForm {
    /// The System Context of `JumpCloud`.
    SystemContext,
    /// The signature of draft-cavage-http-signatures.
    Cavage,
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

impl Carrier {
    fn reader() -> Reader<Self> {
        let names = vec![
            (
                "header",
                "The header that carries the token alone.",
                visible().map(|name| Self::Header(name.value)),
            ),
            ("cookie", "The cookie that carries the token.", visible().map(|name| Self::Cookie(name.value))),
        ];
        let plain = word(&[("bearer", false), ("token", true)]);
        let plain = plain.map(|is_token| if is_token { Self::Token } else { Self::Bearer });
        text_or(plain, one_of("way to send it", names))
    }
}

/// Reads the list of what is signed.
fn signed_headers() -> Reader<Vec<Spanned<String>>> {
    visible()
        .list_of(1)
        .check(|headers| headers.is_empty().then_some("must not be empty: nothing would be signed"))
}

/// Reads the lifetime of what an upstream issues.
fn lifetime() -> Reader<Duration> {
    duration(Duration::from_secs(1)..=Duration::from_hours(365 * 24))
}

/// A text with a default.
fn text(default: &str, reader: Reader<Spanned<String>>) -> Key<Spanned<String>> {
    or(Spanned::synthetic(default.to_owned()), reader)
}

const FORMS: [(&str, RsaForm); 2] = [("system-context", RsaForm::SystemContext), ("cavage", RsaForm::Cavage)];
const PRESETS: [(&str, Preset); 4] = [
    ("jumpserver", Preset::JumpServer),
    ("foresight", Preset::Foresight),
    ("ops-token", Preset::OpsToken),
    ("ops-cookie", Preset::OpsCookie),
];
