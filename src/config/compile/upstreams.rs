//! `[upstreams.…]`, compiled: a profile's defaults, and what the file says instead.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::schemes;
use crate::config::file::{self, Cookies, File, ForwardedFor, Profile, TrailingSlash};
use crate::config::{Problem, Problems, Span};
use crate::gateway::Snapshot;
use crate::origin::Origin;
use crate::policy::OrgPin;
use crate::scheme::Scheme;
use crate::target::Target;
use crate::tls;
use crate::transport::links::Links;
use crate::transport::{Endpoint, Manners};
use crate::upstream::Upstream;

/// `JumpServer`'s organisation that sees across all others.
pub(super) const ROOT_ORG: &str = "00000000-0000-0000-0000-000000000000";

/// The upstreams, and what else is to be known of them while compiling.
pub(super) struct Upstreams {
    pub(super) compiled: Vec<Upstream>,
    /// Name → place in `compiled`.
    pub(super) places: HashMap<String, usize>,
    pub(super) in_clear: Vec<String>,
    /// Credential's name → its place, and the upstream it is bound to.
    pub(super) credentials: HashMap<String, (usize, usize)>,
}

/// What a product wants unless the file says otherwise.
pub(super) struct Defaults {
    slash: bool,
    links: &'static [&'static str],
    pub(super) org: Option<OrgPin>,
    accept: &'static str,
    /// Below the time after which the product closes idle connections.
    pool_idle: Duration,
}

impl Defaults {
    pub(super) fn of(profile: Profile) -> Self {
        let pin = |header, query| Some(OrgPin { header: HeaderName::from_static(header), query });
        let pages: &[&str] = &["next", "previous"];
        let (slash, links, org) = match profile {
            Profile::JumpServer => (true, pages, pin("x-jms-org", Some("oid"))),
            Profile::JumpCloud => (false, [].as_slice(), pin("x-org-id", None)),
            Profile::Foresight => (true, pages, None),
            Profile::Plain => (false, [].as_slice(), None),
        };
        let (accept, pool_idle) = match profile {
            Profile::JumpServer => ("application/json", Duration::from_millis(1500)),
            Profile::JumpCloud | Profile::Foresight | Profile::Plain => ("*/*", Duration::from_secs(4)),
        };
        Self { slash, links, org, accept, pool_idle }
    }
}

pub(super) fn compile(file: &File, problems: &mut Problems, kept: Option<&Snapshot>) -> Upstreams {
    let mut upstreams = Upstreams {
        compiled: Vec::new(),
        places: HashMap::new(),
        in_clear: Vec::new(),
        credentials: HashMap::new(),
    };
    for (name, upstream) in file.upstreams.iter() {
        let kept = kept.and_then(|kept| kept.upstreams.iter().find(|held| held.name.as_str() == name));
        let timeout = file.limits.upstream_timeout;
        let (endpoint, scheme) = match kept {
            Some(held) => {
                (Some((held.endpoint.clone(), held.manners.base.clone())), Some(held.scheme.clone()))
            }
            None => (endpoint(upstream, problems, timeout), schemes::compile(upstream, problems, timeout)),
        };
        if let (Some((endpoint, base)), Some(scheme), Some(called)) = (endpoint, scheme, super::name(name)) {
            let elsewhere = scheme.elsewhere().map(|elsewhere| &elsewhere.origin);
            if is_in_clear(&endpoint.origin) || elsewhere.is_some_and(is_in_clear) {
                upstreams.in_clear.push(name.to_owned());
            }
            upstreams.places.insert(name.to_owned(), upstreams.compiled.len());
            upstreams.compiled.push(put_together(called, upstream, endpoint, (base, scheme)));
        }
    }
    upstreams
}

fn put_together(
    name: crate::name::Name,
    upstream: &file::Upstream,
    endpoint: Endpoint,
    (base, scheme): (String, Scheme),
) -> Upstream {
    let defaults = Defaults::of(upstream.profile.value);
    let members: Vec<String> = match &upstream.link_members {
        Some(members) => members.iter().map(|member| member.value.clone()).collect(),
        None => defaults.links.iter().map(ToString::to_string).collect(),
    };
    let host =
        HeaderValue::try_from(endpoint.origin.authority()).unwrap_or_else(|_| HeaderValue::from_static("-"));
    let manners = Manners {
        host,
        base: base.clone(),
        sign_base_path: upstream.sign_base_path,
        org_header: defaults.org.as_ref().map(|pin| pin.header.clone()),
        accept: HeaderValue::from_static(defaults.accept),
        cookies: upstream.cookies == Some(Cookies::Pass),
        forwarded_for: upstream.forwarded_for == ForwardedFor::Consumer,
        scheme: HeaderValue::from_static(if endpoint.origin.tls { "https" } else { "http" }),
        identity_coding: !members.is_empty() || scheme.reads_bodies(),
    };
    Upstream {
        name,
        manners,
        org: defaults.org,
        trailing_slash: upstream.trailing_slash.map_or(defaults.slash, |slash| slash == TrailingSlash::Add),
        links: Links { members, origin: endpoint.origin.clone(), base },
        endpoint,
        scheme,
    }
}

fn is_in_clear(origin: &Origin) -> bool {
    !origin.tls && !origin.is_loopback()
}

/// Tells where a credential would be sent in clear unasked.
pub(super) fn check_clear(
    upstream: &file::Upstream,
    (origin, span): (&Origin, Span),
    problems: &mut Problems,
) {
    if is_in_clear(origin) && !upstream.insecure_plaintext.value {
        let title = "the credential and every answer would cross the network in clear";
        let help =
            "use https, or set `insecure_plaintext = true` on this upstream if the network itself is trusted";
        problems.push(Problem::error(span, title).help(help));
    }
}

/// The endpoint and its base path.
fn endpoint(
    upstream: &file::Upstream,
    problems: &mut Problems,
    timeout: Duration,
) -> Option<(Endpoint, String)> {
    let span = upstream.endpoint.span;
    let Some((origin, path)) = Origin::split(&upstream.endpoint.value) else {
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
    check_clear(upstream, (&origin, span), problems);
    if upstream.profile.value == Profile::JumpServer && origin.host.contains('_') {
        let title = "JumpServer answers 400 to every request for a host name with an underscore";
        problems
            .push(Problem::error(span, title).help("give the host another name, in DNS or in /etc/hosts"));
    }
    let ca_file = upstream.ca_file.as_ref();
    let tls = tls::client_config(ca_file.map(|path| path.value.as_path())).map_err(|error| {
        let title = format!("the authority of this upstream cannot be used: {error}");
        problems.push(Problem::error(ca_file.map_or(span, |path| path.span), title).help(super::AUTHORITY));
    });
    let pool_idle = upstream.pool_idle.unwrap_or(Defaults::of(upstream.profile.value).pool_idle);
    match Endpoint::new(origin, tls.ok()?, timeout, pool_idle) {
        Ok(endpoint) => Some((endpoint, base)),
        Err(error) => {
            problems
                .push(Problem::error(span, format!("no certificate could carry this host name: {error}")));
            None
        }
    }
}
