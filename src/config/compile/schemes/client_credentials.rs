//! Compiles `scheme.client-credentials`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::config::compile::upstreams::require_tls;
use crate::config::file::{self, Profile};
use crate::config::{Problem, Problems};
use crate::origin::Origin;
use crate::scheme::{ClientCredentials, Scheme, TokenSource};
use crate::target::Target;
use crate::tls;
use crate::transport::{Destination, Endpoint, EndpointState, OutboundSettings};

/// Compiles the scheme; `None` if something is wrong, which is reported.
pub(super) fn compile(
    upstream: &file::Upstream,
    settings: &file::ClientCredentials,
    problems: &mut Problems,
    timeout: Duration,
) -> Option<Scheme> {
    let (usual, scope) = match upstream.profile.value {
        Profile::JumpCloud => (Some("https://admin-oauth.id.jumpcloud.com/oauth2/token"), Some("api")),
        Profile::JumpServer | Profile::Foresight | Profile::Plain => (None, None),
    };
    let help = "write it as in `token_url = \"https://login.example.com/oauth2/token\"`";
    let span = settings.token_url.as_ref().map_or(upstream.scheme.span, |url| url.span);
    let Some(url) = settings.token_url.as_ref().map(|url| url.value.as_str()).or(usual) else {
        problems.push(Problem::error(span, "nothing says where tokens are given").help(help));
        return None;
    };
    let split = Origin::split(url).and_then(|(origin, path)| {
        let path = if path.is_empty() { "/" } else { path };
        Some((origin, Target::canonical(path.as_bytes()).ok()?.as_str().to_owned()))
    });
    let Some((origin, target)) = split else {
        problems.push(Problem::error(span, "`token_url` is no http or https URL").help(help));
        return None;
    };
    require_tls(upstream, (&origin, span), problems);
    // Problems with the file of certificate authorities were reported with the endpoint.
    let tls = tls::client_config(upstream.ca_file.as_ref().map(|path| path.value.as_path())).ok()?;
    let outbound = OutboundSettings {
        host: HeaderValue::try_from(origin.authority()).unwrap_or_else(|_| HeaderValue::from_static("-")),
        base: String::new(),
        sign_base_path: true,
        org_header: None,
        accept: HeaderValue::from_static("application/json"),
        forwarded_for: false,
        scheme: HeaderValue::from_static(if origin.tls { "https" } else { "http" }),
    };
    let endpoint = match Endpoint::new(origin, tls, timeout, Duration::ZERO) {
        Ok(endpoint) => {
            let standing = Arc::new(EndpointState::new(&upstream.name.value, &endpoint.origin));
            let allowed = upstream.allow_addresses.as_slice().into();
            endpoint.with_state(standing, false, false).with_allowed(allowed)
        }
        Err(error) => {
            let title = format!("no certificate could carry this host name: {error}");
            problems.push(Problem::error(span, title));
            return None;
        }
    };
    let scope = settings.scope.as_ref().map(|scope| scope.value.as_str()).or(scope);
    Some(Scheme::Issued(TokenSource::Client(Arc::new(ClientCredentials {
        destination: Destination { endpoint, settings: outbound },
        target,
        scope: scope.map(str::to_owned),
        auth: settings.auth,
        lifetime: settings.lifetime,
    }))))
}
