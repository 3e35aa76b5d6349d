//! Compiles `scheme.login`: the preset of a product's login, and what the file sets instead.

use std::sync::Arc;

use http::HeaderName;
use serde_json::Value;

use crate::config::compile::defaults::Defaults;
use crate::config::file::{self, Preset};
use crate::config::{Problem, Problems, Span, Spanned};
use crate::scheme::issued::login::{FailureMarker, Login, Refresh, TokenLocation};
use crate::scheme::{Pointer, Scheme, TokenPlacement, TokenSource, credential_header};
use crate::target::Target;

/// The preset of a product's login.
#[derive(Default)]
struct PresetFields {
    path: Option<&'static str>,
    token: Option<&'static str>,
    cookie: Option<&'static str>,
    /// The name of the cookie that carries the token.
    sent_as: Option<&'static str>,
    expires: Option<&'static str>,
    /// The member that is false if the login failed.
    failed: Option<&'static str>,
}

impl PresetFields {
    fn of(preset: Option<Preset>) -> Self {
        let ops = Self { path: Some("/api/login"), failed: Some("/ok"), ..Self::default() };
        let (token, cookie) = (Some("/token"), Some("access_token"));
        match preset {
            None => Self::default(),
            Some(Preset::JumpServer) => Self {
                path: Some("/api/v1/authentication/auth/"),
                token,
                expires: Some("/date_expired"),
                ..Self::default()
            },
            Some(Preset::Foresight) => Self { path: Some("/api/v1/admin/auth/"), token, ..Self::default() },
            Some(Preset::OpsToken) => Self { token: Some("/info/access_token"), sent_as: cookie, ..ops },
            Some(Preset::OpsCookie) => Self { cookie, ..ops },
        }
    }
}

/// Compiles the scheme; `None` if something is wrong, which is reported.
pub(super) fn compile(
    upstream: &file::Upstream,
    settings: &file::Login,
    problems: &mut Problems,
) -> Option<Scheme> {
    let known = PresetFields::of(settings.preset.or(Defaults::of(upstream.profile.value).login));
    let mut reading = LoginCompiler { problems, span: upstream.scheme.span };
    let path = reading.path(settings.path.as_ref(), known.path);
    let found = reading.found(settings, &known);
    let expires = reading.pointer(settings.expires.as_ref(), known.expires);
    let failed = reading.failure_marker(settings.failed.as_ref(), known.failed);
    let refresh = settings.refresh.as_ref().and_then(|refresh| reading.refresh(refresh));
    let found = found?;
    let carrier = reading.token_placement(settings.send.as_ref(), &found, &known);
    if matches!(carrier, Some(TokenPlacement::Cookie(_))) && upstream.pass_cookies {
        let title = "consumers would receive the cookie of the login";
        let help = "leave out `cookies = \"pass\"` on this upstream";
        let span = settings.send.as_ref().map_or(reading.span, |send| send.span);
        reading.problems.push(Problem::error(span, title).help(help));
    }
    Some(Scheme::Issued(TokenSource::Login(Arc::new(Login {
        path: path?,
        form: settings.body,
        username: settings.username.value.clone(),
        password: settings.password.value.clone(),
        found,
        carrier: carrier?,
        expires,
        lifetime: settings.lifetime,
        failed,
        refresh,
    }))))
}

struct LoginCompiler<'p> {
    problems: &'p mut Problems,
    /// The span of the scheme, for missing settings.
    span: Span,
}

impl LoginCompiler<'_> {
    fn path(&mut self, setting: Option<&Spanned<String>>, known: Option<&str>) -> Option<String> {
        const HELP: &str = "write the path below the endpoint: \"/api/login\"";
        let Some(setting) = setting else {
            let help = "write `path = \"/api/login\"`, or `preset = \"ops-token\"` or another";
            let known = known.map(str::to_owned);
            return known.or_else(|| self.problems.refuse(self.span, "nothing says where to log in", help));
        };
        match Target::canonical(setting.value.as_bytes()) {
            Ok(target) if target.as_str() == setting.value => Some(setting.value.clone()),
            Ok(_) | Err(_) => {
                self.problems.refuse(setting.span, "this path has no canonical form, or another", HELP)
            }
        }
    }

    /// The JSON pointer that the file sets, or the known one; `None` if there is neither, or it is invalid.
    fn pointer(&mut self, setting: Option<&Spanned<String>>, known: Option<&str>) -> Option<Pointer> {
        let Some(setting) = setting else { return known.and_then(Pointer::parse) };
        let help = "write the members on the way, each after a slash: \"/info/access_token\"";
        let title = || format!("`{}` is no JSON pointer", setting.value);
        Pointer::parse(&setting.value).or_else(|| self.problems.refuse(setting.span, title(), help))
    }

    fn found(&mut self, settings: &file::Login, known: &PresetFields) -> Option<TokenLocation> {
        let (token, cookie) = (settings.token.as_ref(), settings.cookie.as_ref());
        match (token, cookie) {
            (Some(_), Some(cookie)) => {
                self.problems.refuse(cookie.span, "`token` and `cookie` are both given", "keep one of them")
            }
            (None, Some(cookie)) => self.cookie(&cookie.value, cookie.span).map(TokenLocation::Cookie),
            (Some(_), None) => self.pointer(token, None).map(TokenLocation::Token),
            (None, None) => match (known.token.and_then(Pointer::parse), known.cookie) {
                (Some(pointer), _) => Some(TokenLocation::Token(pointer)),
                (None, Some(cookie)) => Some(TokenLocation::Cookie(cookie.to_owned())),
                (None, None) => {
                    let help =
                        "write `token = \"/token\"` for a member of the answer, or `cookie = \"session\"`";
                    self.problems.refuse(self.span, "nothing says what the login gives", help)
                }
            },
        }
    }

    fn cookie(&mut self, name: &str, span: Span) -> Option<String> {
        let help = "write it as the answer sets it: \"access_token\"";
        // Cookie names have the same syntax as header names.
        let valid = HeaderName::from_bytes(name.as_bytes()).ok().map(|_| name.to_owned());
        let title = || format!("`{name}` cannot be the name of a cookie");
        valid.or_else(|| self.problems.refuse(span, title(), help))
    }

    fn token_placement(
        &mut self,
        setting: Option<&Spanned<file::Carrier>>,
        found: &TokenLocation,
        known: &PresetFields,
    ) -> Option<TokenPlacement> {
        let Some(setting) = setting else {
            return Some(match (found, known.sent_as) {
                (TokenLocation::Cookie(name), _) => TokenPlacement::Cookie(name.clone()),
                (TokenLocation::Token(_), Some(name)) => TokenPlacement::Cookie(name.to_owned()),
                (TokenLocation::Token(_), None) => TokenPlacement::Bearer,
            });
        };
        match &setting.value {
            file::Carrier::Bearer => Some(TokenPlacement::Bearer),
            file::Carrier::Token => Some(TokenPlacement::Token),
            file::Carrier::Cookie(name) => self.cookie(name, setting.span).map(TokenPlacement::Cookie),
            file::Carrier::Header(name) => match credential_header(name) {
                Ok(header) => Some(TokenPlacement::Header(header)),
                Err(title) => {
                    self.problems.refuse(setting.span, title, "write the header that the product documents")
                }
            },
        }
    }

    fn failure_marker(
        &mut self,
        setting: Option<&file::Failed>,
        known: Option<&str>,
    ) -> Option<FailureMarker> {
        let Some(setting) = setting else {
            let known = known.and_then(Pointer::parse);
            return known.map(|pointer| FailureMarker { pointer, equals: Value::Bool(false) });
        };
        let pointer = self.pointer(Some(&setting.pointer), None)?;
        Some(FailureMarker { pointer, equals: setting.equals.clone() })
    }

    fn refresh(&mut self, setting: &file::Refresh) -> Option<Refresh> {
        let path = self.path(Some(&setting.path), None);
        let token = self.pointer(Some(&setting.token), None)?;
        Some(Refresh { path: path?, token, member: setting.member.value.clone() })
    }
}
