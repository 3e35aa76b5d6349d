//! Compiles the scheme `client-credentials`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::compile::defaults::Defaults;
use crate::config::compile::endpoints::{Place, endpoint, outbound, require_tls};
use crate::config::compile::inputs::Scope;
use crate::config::file;
use crate::origin::Origin;
use crate::scheme::{ClientCredentials, Scheme, TokenSource};
use crate::target::Target;
use crate::tls;
use crate::transport::Destination;

/// Compiles the scheme; `None` if something is wrong, which is reported.
pub(super) fn compile(
    scope: &mut Scope<'_>,
    upstream: &file::Upstream,
    settings: &file::ClientCredentials,
) -> Option<Scheme> {
    let defaults = Defaults::of(upstream.profile.value);
    let help = "write it as in `token_url = \"https://login.example.com/oauth2/token\"`";
    let span = settings.token_url.as_ref().map_or(upstream.scheme.span, |url| url.span);
    let Some(url) = settings.token_url.as_ref().map(|url| url.value.as_str()).or(defaults.token_url) else {
        return scope.problems.refuse(span, "nothing says where tokens are given", help);
    };
    let split = Origin::split(url).and_then(|(origin, path)| {
        let path = if path.is_empty() { "/" } else { path };
        Some((origin, Target::canonical(path.as_bytes()).ok()?.as_str().to_owned()))
    });
    let Some((origin, target)) = split else {
        return scope.problems.refuse(span, "`token_url` is no http or https URL", help);
    };
    let place = Place { origin, base: String::new(), span };
    require_tls(upstream, &place, scope.problems);
    // Problems with the file of certificate authorities were reported with the endpoint.
    let tls = tls::client_config(upstream.ca_file.as_ref().map(|path| path.value.as_path())).ok()?;
    let endpoint = endpoint(scope, upstream, &place, (tls, Duration::ZERO))?;
    let scope = settings.scope.as_ref().map(|scope| scope.value.as_str()).or(defaults.scope);
    Some(Scheme::Issued(TokenSource::Client(Arc::new(ClientCredentials {
        destination: Destination { settings: outbound(&place.origin, "", "application/json"), endpoint },
        target,
        scope: scope.map(str::to_owned),
        auth: settings.auth,
        lifetime: settings.lifetime,
    }))))
}
