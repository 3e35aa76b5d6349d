//! Compiles `scheme` of `[upstreams.…]`.

mod client_credentials;
mod login;

use http::HeaderName;

use super::defaults::Defaults;
use super::inputs::Scope;
use crate::config::file::{self, Profile, RsaForm};
use crate::config::{Problem, Problems, Spanned};
use crate::scheme::{AccessKey, Rsa, Scheme, TokenPlacement, credential_header};

/// The headers that every request has exactly once, so that they can be signed.
const ALWAYS_SENT: [&str; 4] = ["date", "accept", "host", "x-forwarded-proto"];

pub(super) fn compile(scope: &mut Scope<'_>, upstream: &file::Upstream) -> Option<Scheme> {
    let problems = &mut *scope.problems;
    match &upstream.scheme.value {
        file::Scheme::AccessKey(settings) => access_key(upstream, settings, problems),
        file::Scheme::Header(file::Header { name }) => match credential_header(&name.value) {
            Ok(header) => Some(Scheme::Secret(TokenPlacement::Header(header))),
            Err(title) => {
                let help = "write the header that the product documents for its keys: \"x-api-key\"";
                problems.refuse(name.span, title, help)
            }
        },
        file::Scheme::Bearer => Some(Scheme::Secret(TokenPlacement::Bearer)),
        file::Scheme::Token => Some(Scheme::Secret(TokenPlacement::Token)),
        file::Scheme::Login(settings) => login::compile(upstream, settings, problems),
        file::Scheme::Rsa(settings) => rsa(upstream, settings, problems),
        file::Scheme::ClientCredentials(settings) => client_credentials::compile(scope, upstream, settings),
    }
}

fn access_key(
    upstream: &file::Upstream,
    settings: &file::AccessKey,
    problems: &mut Problems,
) -> Option<Scheme> {
    let algorithm = &settings.algorithm;
    if algorithm.value != "hmac-sha256" {
        let title = format!("the algorithm `{}` is not one that JumpServer verifies", algorithm.value);
        problems.push(Problem::error(algorithm.span, title).help("write \"hmac-sha256\", or leave it out"));
    }
    let Some(headers) = &settings.headers else {
        return Some(Scheme::AccessKey(AccessKey::default()));
    };
    signing(upstream, headers, problems, AccessKey::new).map(Scheme::AccessKey)
}

fn rsa(upstream: &file::Upstream, settings: &file::Rsa, problems: &mut Problems) -> Option<Scheme> {
    let scheme = match (settings.form, &settings.headers) {
        (RsaForm::SystemContext, None) => Some(Rsa::system_context()),
        (RsaForm::Cavage, None) => Rsa::cavage(&["(request-target)", "date"]).ok(),
        (RsaForm::Cavage, Some(headers)) => signing(upstream, headers, problems, Rsa::cavage),
        (RsaForm::SystemContext, Some(headers)) => {
            let span = headers.first().map_or(upstream.scheme.span, |name| name.span);
            let title = "System Context signs the request line and the date, and nothing else";
            let help = "leave `headers` out, or write `form = \"cavage\"`";
            problems.refuse(span, title, help)
        }
    };
    scheme.map(Scheme::Rsa)
}

/// Builds a scheme that signs these headers.
fn signing<T>(
    upstream: &file::Upstream,
    headers: &[Spanned<String>],
    problems: &mut Problems,
    make: impl Fn(&[&str]) -> Result<T, String>,
) -> Option<T> {
    let names: Vec<&str> = headers.iter().map(|name| name.value.as_str()).collect();
    let span = headers.first().map_or(upstream.scheme.span, |name| name.span);
    let scheme = make(&names).map_err(|title| problems.push(Problem::error(span, title))).ok()?;
    if let Some(problem) = not_always_sent(headers, upstream.profile.value) {
        problems.push(problem);
    }
    Some(scheme)
}

/// The problem with a signed header that not every request has: each request without it would fail.
fn not_always_sent(headers: &[Spanned<String>], profile: Profile) -> Option<Problem> {
    let org = Defaults::of(profile).org.map(|pin| pin.header);
    let sent: Vec<&str> = ALWAYS_SENT.into_iter().chain(org.as_ref().map(HeaderName::as_str)).collect();
    let mut headers = headers.iter().filter(|name| name.value != "(request-target)");
    let absent = headers.find(|name| !sent.contains(&name.value.as_str()))?;
    let help = format!("what the gateway always sends: {}", sent.join(", "));
    Some(Problem::error(absent.span, format!("`{}` is not on every request", absent.value)).help(help))
}
