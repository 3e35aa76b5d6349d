//! Compiles where an upstream is reached: its endpoints, and their health checks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;

use super::upstreams::{Defaults, require_tls};
use crate::config::file::{self, HEALTH_INTERVAL, Profile};
use crate::config::{Problem, Problems, Span, Spanned};
use crate::gateway::Snapshot;
use crate::origin::Origin;
use crate::target::Target;
use crate::tls;
use crate::transport::{Endpoint, EndpointState, Health, is_allowed};
use crate::upstream::Upstream;

/// The endpoints of one upstream.
pub(super) struct Endpoints {
    pub(super) first: Endpoint,
    pub(super) others: Vec<Endpoint>,
    /// The base path that all endpoints share.
    pub(super) base: String,
    pub(super) health: Option<Health>,
}

impl Endpoints {
    /// The endpoints that are in force.
    pub(super) fn reuse(held: &Upstream) -> Self {
        Self {
            first: held.first.endpoint.clone(),
            others: held.others.iter().map(|other| other.endpoint.clone()).collect(),
            base: held.first.settings.base.clone(),
            health: held.health.clone(),
        }
    }

    /// Compiles the endpoints; those that are in `former` too keep their state.
    pub(super) fn compile(
        upstream: &file::Upstream,
        problems: &mut Problems,
        timeout: Duration,
        former: Option<&Snapshot>,
    ) -> Option<Self> {
        let mut places: Vec<(&Spanned<String>, Origin, String)> = Vec::new();
        let mut bad = false;
        for url in upstream.urls() {
            let Some((origin, base)) = place(upstream, url, problems) else {
                bad = true;
                continue;
            };
            let position = places.len();
            if let Some((first, _, _)) = places.iter().find(|(_, known, _)| *known == origin) {
                let problem = Problem::error(url.span, "two endpoints at the same place");
                problems.push(problem.related(first.span, "the first is here"));
            } else if let Some((first, _, other)) = places.first().filter(|(_, _, other)| *other != base) {
                let title = format!("its base path is `{base}`, and that of the first is `{other}`");
                let help =
                    "all endpoints of an upstream have the same: it is part of what is signed and judged";
                problems.push(Problem::error(url.span, title).help(help).related(first.span, "the first"));
            } else {
                places.push((url, origin, base));
            }
            bad |= places.len() == position;
        }
        let base = places.first().map(|(_, _, base)| base.clone()).unwrap_or_default();
        let health = health(upstream, &base, problems);
        let tls = authorities(upstream, problems)?;
        let former =
            former.and_then(|former| former.upstreams.iter().find(|known| known.name == upstream.name.value));
        let is_one_of_several = places.len() > 1;
        let is_checked = is_one_of_several && health.is_some();
        let mut endpoints = Vec::with_capacity(places.len());
        for (url, origin, _) in places {
            let standing = standing(upstream, &origin, former);
            let endpoint = endpoint(upstream, (url, origin), problems, (&tls, timeout))?;
            endpoints.push(endpoint.with_state(standing, is_one_of_several, is_checked));
        }
        let others = endpoints.split_off(1.min(endpoints.len()));
        let first = endpoints.pop().filter(|_| !bad)?;
        Some(Self { first, others, base, health })
    }
}

/// The origin and the base path of an endpoint's URL.
fn place(
    upstream: &file::Upstream,
    url: &Spanned<String>,
    problems: &mut Problems,
) -> Option<(Origin, String)> {
    let span = url.span;
    let Some((origin, path)) = Origin::split(&url.value) else {
        let help = "write scheme, host and perhaps a port and a base path: \"https://jms.example.com\"";
        problems.push(Problem::error(span, "the endpoint is no http or https URL").help(help));
        return None;
    };
    let base = match path {
        "" | "/" => String::new(),
        path => match Target::canonical(path.as_bytes()) {
            Ok(target) if target.query().is_empty() && !path.contains('?') => {
                target.path().trim_end_matches('/').to_owned()
            }
            _ => {
                problems.push(Problem::error(span, "the endpoint's base path has no canonical form"));
                return None;
            }
        },
    };
    require_tls(upstream, (&origin, span), problems);
    if upstream.profile.value == Profile::JumpServer && origin.host.contains('_') {
        let title = "JumpServer answers 400 to every request for a host name with an underscore";
        problems
            .push(Problem::error(span, title).help("give the host another name, in DNS or in /etc/hosts"));
    }
    let literal = origin.host.parse::<IpAddr>().ok();
    let denied =
        literal.filter(|address| !is_allowed(*address, origin.is_loopback(), &upstream.allow_addresses));
    if let Some(address) = denied {
        let title = "an address of this kind is not called unless that is meant";
        let help = format!("write `allow_addresses = [\"{address}\"]` in this upstream, if it is");
        problems.push(Problem::error(span, title).help(help));
    }
    Some((origin, base))
}

fn authorities(upstream: &file::Upstream, problems: &mut Problems) -> Option<Arc<ClientConfig>> {
    let ca_file = upstream.ca_file.as_ref();
    let tls = tls::client_config(ca_file.map(|path| path.value.as_path())).map_err(|error| {
        let title = format!("the authority of this upstream cannot be used: {error}");
        let span = ca_file.map(|path| path.span).or(upstream.urls().next().map(|url| url.span));
        let span = span.unwrap_or(Span::NOWHERE);
        problems.push(Problem::error(span, title).help(super::AUTHORITY));
    });
    tls.ok()
}

fn endpoint(
    upstream: &file::Upstream,
    (url, origin): (&Spanned<String>, Origin),
    problems: &mut Problems,
    (tls, timeout): (&Arc<ClientConfig>, Duration),
) -> Option<Endpoint> {
    let pool_idle = upstream.pool_idle.unwrap_or(Defaults::of(upstream.profile.value).pool_idle);
    match Endpoint::new(origin, Arc::clone(tls), timeout, pool_idle) {
        Ok(endpoint) => Some(endpoint.with_allowed(upstream.allow_addresses.as_slice().into())),
        Err(error) => {
            let title = format!("no certificate could carry this host name: {error}");
            problems.push(Problem::error(url.span, title));
            None
        }
    }
}

/// The state of the endpoint at `origin`: the present one, unless the endpoint is new.
fn standing(upstream: &file::Upstream, origin: &Origin, former: Option<&Upstream>) -> Arc<EndpointState> {
    let held = former.and_then(|held| held.destinations().find(|way| way.endpoint.origin == *origin));
    match held {
        Some(way) => Arc::clone(&way.endpoint.state),
        None => Arc::new(EndpointState::new(&upstream.name.value, origin)),
    }
}

fn health(upstream: &file::Upstream, base: &str, problems: &mut Problems) -> Option<Health> {
    let settings = upstream.health.as_ref();
    let interval = settings.map_or(HEALTH_INTERVAL, |settings| settings.value.interval);
    if interval.is_zero() {
        return None;
    }
    let path = settings.and_then(|settings| settings.value.path.as_ref());
    let usual = Defaults::of(upstream.profile.value).health;
    let Some(text) = path.map(|path| path.value.as_str()).or(usual) else {
        if let Some(settings) = settings {
            let help = "write it as in `health = { path = \"/health\" }`";
            problems.push(Problem::error(settings.span, "nothing says where the health is told").help(help));
        }
        return None;
    };
    let target = Target::canonical(text.as_bytes()).ok();
    let target = target.and_then(|target| Uri::try_from(target.with_base(base).as_str()).ok());
    if let (None, Some(path)) = (&target, path) {
        let problem = Problem::error(path.span, "the path of the health check has no canonical form");
        problems.push(problem.help("write the path below the endpoint: \"/api/health/\""));
    }
    Some(Health { target: target?, interval })
}
