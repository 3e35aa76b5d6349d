//! Compiles where an upstream is reached: its endpoints, and their health checks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use rustls::ClientConfig;

use super::defaults::Defaults;
use super::inputs::{AUTHORITY, Scope};
use super::routes::prefix;
use crate::config::file::{HEALTH_INTERVAL, Profile, Upstream, urls};
use crate::config::{Problem, Problems, Span, Spanned};
use crate::origin::Origin;
use crate::target::Target;
use crate::tls;
use crate::transport::{Endpoint, EndpointState, Health, OutboundSettings, is_allowed};

/// The endpoints of one upstream.
pub(super) struct Endpoints {
    pub(super) first: Endpoint,
    pub(super) others: Vec<Endpoint>,
    /// The base path that all endpoints share.
    pub(super) base: String,
    pub(super) health: Option<Health>,
}

/// The address of an endpoint, and where the file names it.
pub(super) struct Place {
    pub(super) origin: Origin,
    /// The base path, without a slash at its end.
    pub(super) base: String,
    pub(super) span: Span,
}

/// Compiles the endpoints; those that the snapshot in force has too keep their state.
pub(super) fn compile(scope: &mut Scope<'_>, upstream: &Upstream) -> Option<Endpoints> {
    let (places, all_good) = places(upstream, scope.problems);
    let base = places.first().map(|place| place.base.clone()).unwrap_or_default();
    let health = health(upstream, &base, scope.problems);
    let tls = authorities(upstream, scope.problems)?;
    let former = scope.inputs.base.former();
    let former = former.and_then(|former| former.upstreams.iter().find(|it| it.name == upstream.name.value));
    let is_one_of_several = places.len() > 1;
    let pool_idle = upstream.pool_idle.unwrap_or(Defaults::of(upstream.profile.value).pool_idle);
    let mut endpoints = Vec::with_capacity(places.len());
    for place in places {
        let is_same = |endpoint: &Endpoint| endpoint.origin == place.origin;
        let known = former.and_then(|former| former.destinations().find(|it| is_same(&it.endpoint)));
        let state = known.map(|known| Arc::clone(&known.endpoint.state));
        let endpoint = endpoint(scope, upstream, &place, (Arc::clone(&tls), pool_idle))?;
        let state = state.unwrap_or_else(|| Arc::clone(&endpoint.state));
        endpoints.push(endpoint.with_state(state, is_one_of_several, is_one_of_several && health.is_some()));
    }
    let others = endpoints.split_off(1.min(endpoints.len()));
    let first = endpoints.pop().filter(|_| all_good)?;
    Some(Endpoints { first, others, base, health })
}

/// The addresses of all endpoints, and whether all of them can be used.
fn places(upstream: &Upstream, problems: &mut Problems) -> (Vec<Place>, bool) {
    let mut places: Vec<Place> = Vec::new();
    let mut all_good = true;
    for url in urls(upstream) {
        let Some(place) = place(upstream, url, problems) else {
            all_good = false;
            continue;
        };
        let same = places.iter().find(|known| known.origin == place.origin);
        let problem = match (same, places.first().filter(|first| first.base != place.base)) {
            (Some(same), _) => {
                let problem = Problem::error(url.span, "two endpoints at the same place");
                problem.related(same.span, "the first is here")
            }
            (None, Some(first)) => {
                let (base, other) = (&place.base, &first.base);
                let title = format!("its base path is `{base}`, and that of the first is `{other}`");
                let help =
                    "all endpoints of an upstream have the same: it is part of what is signed and judged";
                Problem::error(url.span, title).help(help).related(first.span, "the first")
            }
            (None, None) => {
                places.push(place);
                continue;
            }
        };
        problems.push(problem);
        all_good = false;
    }
    (places, all_good)
}

/// The origin and the base path of an endpoint's URL.
fn place(upstream: &Upstream, url: &Spanned<String>, problems: &mut Problems) -> Option<Place> {
    let span = url.span;
    let Some((origin, path)) = Origin::split(&url.value) else {
        let help = "write scheme, host and perhaps a port and a base path: \"https://jms.example.com\"";
        return problems.refuse(span, "the endpoint is no http or https URL", help);
    };
    let Some(base) = prefix(if path.is_empty() { "/" } else { path }) else {
        problems.push(Problem::error(span, "the endpoint's base path has no canonical form"));
        return None;
    };
    let place = Place { origin, base, span };
    require_tls(upstream, &place, problems);
    let host = &place.origin.host;
    if upstream.profile.value == Profile::JumpServer && host.contains('_') {
        let title = "JumpServer answers 400 to every request for a host name with an underscore";
        problems
            .push(Problem::error(span, title).help("give the host another name, in DNS or in /etc/hosts"));
    }
    let is_denied =
        |address: &IpAddr| !is_allowed(*address, place.origin.is_loopback(), &upstream.allow_addresses);
    if let Some(address) = host.parse::<IpAddr>().ok().filter(is_denied) {
        let title = "an address of this kind is not called unless that is meant";
        let help = format!("write `allow_addresses = [\"{address}\"]` in this upstream, if it is");
        problems.push(Problem::error(span, title).help(help));
    }
    Some(place)
}

fn authorities(upstream: &Upstream, problems: &mut Problems) -> Option<Arc<ClientConfig>> {
    let ca_file = upstream.ca_file.as_ref();
    let tls = tls::client_config(ca_file.map(|path| path.value.as_path())).map_err(|error| {
        let title = format!("the authority of this upstream cannot be used: {error}");
        let span = ca_file.map(|path| path.span).or(urls(upstream).next().map(|url| url.span));
        problems.push(Problem::error(span.unwrap_or(Span::NOWHERE), title).help(AUTHORITY));
    });
    tls.ok()
}

/// Makes an endpoint, which keeps idle connections for this time.
pub(super) fn endpoint(
    scope: &mut Scope<'_>,
    upstream: &Upstream,
    place: &Place,
    (tls, pool_idle): (Arc<ClientConfig>, Duration),
) -> Option<Endpoint> {
    match Endpoint::new(place.origin.clone(), tls, scope.file.limits.upstream_timeout, pool_idle) {
        Ok(endpoint) => {
            let state = Arc::new(EndpointState::new(&upstream.name.value, &place.origin));
            let endpoint = endpoint.with_state(state, false, false);
            Some(endpoint.with_allowed(upstream.allow_addresses.as_slice().into()))
        }
        Err(error) => {
            let title = format!("no certificate could carry this host name: {error}");
            scope.problems.push(Problem::error(place.span, title));
            None
        }
    }
}

/// The settings of requests that carry nothing but the body and an `Accept` line.
pub(super) fn outbound(origin: &Origin, base: &str, accept: &'static str) -> OutboundSettings {
    OutboundSettings {
        host: HeaderValue::try_from(origin.authority()).unwrap_or_else(|_| HeaderValue::from_static("-")),
        base: base.to_owned(),
        sign_base_path: true,
        org_header: None,
        accept: HeaderValue::from_static(accept),
        forwarded_for: false,
        scheme: HeaderValue::from_static(if origin.tls { "https" } else { "http" }),
    }
}

/// Whether others on the network can read what is sent there.
pub(super) fn is_plaintext(origin: &Origin) -> bool {
    !origin.tls && !origin.is_loopback()
}

/// Reports an upstream to which a credential would be sent in plaintext without the operator's consent.
pub(super) fn require_tls(upstream: &Upstream, place: &Place, problems: &mut Problems) {
    if is_plaintext(&place.origin) && !upstream.insecure_plaintext {
        let title = "the credential and every answer would cross the network in plaintext";
        let help =
            "use https, or set `insecure_plaintext = true` on this upstream if the network itself is trusted";
        problems.push(Problem::error(place.span, title).help(help));
    }
}

fn health(upstream: &Upstream, base: &str, problems: &mut Problems) -> Option<Health> {
    let settings = upstream.health.as_ref();
    let interval = settings.map_or(HEALTH_INTERVAL, |settings| settings.value.interval);
    if interval.is_zero() {
        return None;
    }
    let path = settings.and_then(|settings| settings.value.path.as_ref());
    let usual = Defaults::of(upstream.profile.value).health;
    let Some(text) = path.map(|path| path.value.as_str()).or(usual) else {
        let help = "write it as in `health = { path = \"/health\" }`";
        return problems.refuse(settings?.span, "the health check has no path", help);
    };
    let target = Target::canonical(text.as_bytes()).ok();
    let target = target.and_then(|target| Uri::try_from(target.with_base(base).as_str()).ok());
    if let (None, Some(path)) = (&target, path) {
        let problem = Problem::error(path.span, "the path of the health check has no canonical form");
        problems.push(problem.help("write the path below the endpoint: \"/api/health/\""));
    }
    Some(Health { target: target?, interval })
}
