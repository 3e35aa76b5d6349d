//! Compiles `[upstreams.…]`: a profile's defaults, and what the file sets instead.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::endpoints::Endpoints;
use super::schemes;
use crate::config::file::{self, File, Profile};
use crate::config::{Problem, Problems, Span};
use crate::gateway::Snapshot;
use crate::ids::{CredentialId, UpstreamId};
use crate::name::Name;
use crate::origin::Origin;
use crate::policy::{Glob, OrgPin, PathPattern};
use crate::scheme::Scheme;
use crate::transport::link_rewrite::LinkRewriter;
use crate::transport::{Destination, Endpoint, OutboundSettings, RequestHeaders};
use crate::upstream::Upstream;

/// The organisation of `JumpServer` that sees all others.
pub(super) const ROOT_ORG: &str = "00000000-0000-0000-0000-000000000000";

/// The aliases of `JumpServer` for organisations, with their ids.
const JUMPSERVER_ORGS: &[(&str, &str)] = &[
    ("default", "00000000-0000-0000-0000-000000000002"),
    ("root", ROOT_ORG),
    ("system", "00000000-0000-0000-0000-000000000004"),
];

/// Paths that Django of `JumpServer` 4.10.16 knows without a slash at the end, and files that its nginx serves. A list
/// requested as `.json`, `.csv` or `.xlsx` ends in that suffix, with or without a slash.
const JUMPSERVER_SLASHLESS: &[&str] = &[
    "/api/swagger.*",
    "/api/**/*.json",
    "/api/**/*.csv",
    "/api/**/*.xlsx",
    "/core/auth/oauth2-provider/.well-known/**",
    "/core/flower/**",
    "/media/**",
    "/static/**",
    "/download/**",
    "/**/*.wav",
];

/// The upstreams, and the look-up tables that compiling needs.
pub(super) struct Upstreams {
    pub(super) compiled: Vec<Upstream>,
    /// From the name of an upstream to its index in `compiled`.
    pub(super) places: HashMap<Name, UpstreamId>,
    pub(super) plaintext: Vec<String>,
    /// From the name of a credential to its index, and the index of the upstream that it is bound to.
    pub(super) credentials: HashMap<Name, (CredentialId, UpstreamId)>,
}

impl Upstreams {
    /// The compiled upstream with this id.
    pub(super) fn get(&self, id: UpstreamId) -> Option<&Upstream> {
        self.compiled.get(id.index())
    }
}

/// The defaults of a product, which the file can override.
pub(super) struct Defaults {
    slash: bool,
    /// Patterns of the paths that the product knows only without a slash at their end.
    slashless: &'static [&'static str],
    /// Whether the product answers 401 before it changes anything.
    repeat_after_401: bool,
    links: &'static [&'static str],
    /// Headers that the product's clients send besides those that every upstream receives.
    client_headers: &'static [&'static str],
    pub(super) org: Option<OrgPin>,
    accept: &'static str,
    /// Shorter than the time after which the product closes idle connections.
    pub(super) pool_idle: Duration,
    /// The path of the product's public health check.
    pub(super) health: Option<&'static str>,
}

impl Defaults {
    pub(super) fn of(profile: Profile) -> Self {
        let pin = |header, query, words| {
            Some(OrgPin { header: HeaderName::from_static(header), query, words, names: Vec::new() })
        };
        let pages: &[&str] = &["next", "previous"];
        let (slash, links, org) = match profile {
            Profile::JumpServer => (true, pages, pin("x-jms-org", Some("oid"), JUMPSERVER_ORGS)),
            Profile::JumpCloud => (false, [].as_slice(), pin("x-org-id", None, &[])),
            Profile::Foresight => (true, pages, None),
            Profile::Plain => (false, [].as_slice(), None),
        };
        let (accept, pool_idle) = match profile {
            Profile::JumpServer => ("application/json", Duration::from_millis(1500)),
            Profile::JumpCloud | Profile::Foresight | Profile::Plain => ("*/*", Duration::from_secs(4)),
        };
        let repeat_after_401 = match profile {
            Profile::JumpServer => true,
            Profile::JumpCloud | Profile::Foresight | Profile::Plain => false,
        };
        let slashless = match profile {
            Profile::JumpServer => JUMPSERVER_SLASHLESS,
            Profile::Foresight => {
                &["/**/*.json", "/**/*.csv", "/**/*.xlsx", "/**/*.yaml", "/media/**", "/static/**"]
            }
            Profile::JumpCloud | Profile::Plain => [].as_slice(),
        };
        let health = match profile {
            Profile::JumpServer => Some("/api/health/"),
            Profile::JumpCloud | Profile::Foresight | Profile::Plain => None,
        };
        let client_headers: &[&str] = match profile {
            // JumpCloud's generated clients use it to ask for the number of all objects.
            Profile::JumpCloud => &["x-total-count"],
            Profile::JumpServer | Profile::Foresight | Profile::Plain => &[],
        };
        Self { slash, slashless, repeat_after_401, links, client_headers, org, accept, pool_idle, health }
    }
}

/// Compiles the upstreams. Files that `kept` has are not read again; `former` holds the present state.
pub(super) fn compile(
    file: &File,
    problems: &mut Problems,
    (kept, former): (Option<&Snapshot>, Option<&Snapshot>),
) -> Upstreams {
    let mut upstreams = Upstreams {
        compiled: Vec::new(),
        places: HashMap::new(),
        plaintext: Vec::new(),
        credentials: HashMap::new(),
    };
    for (name, upstream) in file.upstreams.iter() {
        let kept = kept.and_then(|kept| kept.upstreams.iter().find(|held| held.name.as_str() == name));
        let timeout = file.limits.upstream_timeout;
        let (endpoints, scheme) = match kept {
            Some(held) => (Some(Endpoints::reuse(held)), Some(held.scheme.clone())),
            None => (
                Endpoints::compile(upstream, problems, timeout, former),
                schemes::compile(upstream, problems, timeout),
            ),
        };
        let (org, slashless) = (org_pin(upstream, problems), slashless(upstream, problems));
        if let (Some(endpoints), Some(scheme)) = (endpoints, scheme) {
            let request_headers = request_headers(upstream, &scheme, problems);
            let made = assemble(upstream, endpoints, scheme);
            let compiled = Upstream { request_headers, org, slashless, ..made };
            let elsewhere = compiled.scheme.token_endpoint().map(|elsewhere| &elsewhere.origin);
            if compiled.origins().iter().chain(elsewhere).any(is_plaintext) {
                upstreams.plaintext.push(name.to_owned());
            }
            upstreams.places.insert(upstream.name.value, UpstreamId::new(upstreams.compiled.len()));
            upstreams.compiled.push(compiled);
        }
    }
    upstreams
}

/// The paths to which no slash is added: the file's list, or the product's.
fn slashless(upstream: &file::Upstream, problems: &mut Problems) -> Vec<PathPattern> {
    let Some(given) = &upstream.slashless else {
        let known = Defaults::of(upstream.profile.value).slashless;
        return known.iter().filter_map(|pattern| PathPattern::parse(pattern).ok()).collect();
    };
    let mut patterns = Vec::new();
    for pattern in given {
        match PathPattern::parse(&pattern.value) {
            Ok(pattern) => patterns.push(pattern),
            Err(title) => problems.push(Problem::error(pattern.span, title)),
        }
    }
    patterns
}

/// How the product is given the organisation, with the names that the file declares.
fn org_pin(upstream: &file::Upstream, problems: &mut Problems) -> Option<OrgPin> {
    let mut pin = Defaults::of(upstream.profile.value).org;
    for (name, id) in &upstream.org_names {
        let Some(pin) = &mut pin else {
            let title = "this upstream's product has no organisations";
            problems.push(Problem::error(name.span, title).help("remove `org_names`"));
            return None;
        };
        if pin.id_of(&name.value) == name.value {
            pin.names.push((name.value.clone(), id.value.clone()));
        } else {
            let title = format!("`{}` is the product's own word for an organisation", name.value);
            problems.push(Problem::error(name.span, title).help("remove it: the word is known already"));
        }
    }
    pin
}

fn assemble(
    upstream: &file::Upstream,
    Endpoints { first, others, base, health }: Endpoints,
    scheme: Scheme,
) -> Upstream {
    let defaults = Defaults::of(upstream.profile.value);
    let members: Vec<String> = match &upstream.link_members {
        Some(members) => members.iter().map(|member| member.value.clone()).collect(),
        None => defaults.links.iter().map(ToString::to_string).collect(),
    };
    let settings = |origin: &Origin| OutboundSettings {
        host: HeaderValue::try_from(origin.authority()).unwrap_or_else(|_| HeaderValue::from_static("-")),
        base: base.clone(),
        sign_base_path: upstream.sign_base_path,
        org_header: defaults.org.as_ref().map(|pin| pin.header.clone()),
        accept: HeaderValue::from_static(defaults.accept),
        forwarded_for: upstream.forwarded_for,
        scheme: HeaderValue::from_static(if origin.tls { "https" } else { "http" }),
    };
    let origins = std::iter::once(&first).chain(&others).map(|endpoint| endpoint.origin.clone()).collect();
    let destination = |endpoint: Endpoint| Destination { settings: settings(&endpoint.origin), endpoint };
    Upstream {
        name: upstream.name.value,
        first: destination(first),
        others: others.into_iter().map(destination).collect(),
        request_headers: RequestHeaders::default(),
        health,
        org: defaults.org,
        slashless: Vec::new(),
        trailing_slash: upstream.trailing_slash.unwrap_or(defaults.slash),
        repeat_after_401: upstream.repeat_after_401.unwrap_or(defaults.repeat_after_401),
        links: LinkRewriter { members, origins, base },
        scheme,
    }
}

/// The header lines of a consumer's request that the upstream receives.
fn request_headers(upstream: &file::Upstream, scheme: &Scheme, problems: &mut Problems) -> RequestHeaders {
    let defaults = Defaults::of(upstream.profile.value);
    let credential = scheme.header();
    for name in
        upstream.pass_headers.iter().filter(|name| name.value.eq_ignore_ascii_case(credential.as_str()))
    {
        let title = format!("`{}` never passes: it carries the credential", name.value);
        problems.push(Problem::error(name.span, title).help("leave it out"));
    }
    let mut range_paths = Vec::new();
    for path in &upstream.range_paths {
        match PathPattern::parse(&path.value) {
            Ok(pattern) => range_paths.push(pattern),
            Err(title) => problems.push(Problem::error(path.span, title)),
        }
    }
    let pinned = defaults.org.as_ref().map(|pin| pin.header.as_str().to_owned());
    RequestHeaders {
        of_profile: defaults.client_headers,
        added: upstream.pass_headers.iter().map(|name| Glob::new(&name.value.to_ascii_lowercase())).collect(),
        cookies: upstream.pass_cookies,
        withheld_cookies: pinned.into_iter().chain(scheme.cookies()).collect(),
        credential: Some(credential),
        range_paths: scheme.is_reusable().then_some(range_paths),
    }
}

fn is_plaintext(origin: &Origin) -> bool {
    !origin.tls && !origin.is_loopback()
}

/// Reports an upstream to which a credential would be sent in plaintext without the operator's consent.
pub(super) fn require_tls(
    upstream: &file::Upstream,
    (origin, span): (&Origin, Span),
    problems: &mut Problems,
) {
    if is_plaintext(origin) && !upstream.insecure_plaintext {
        let title = "the credential and every answer would cross the network in clear";
        let help =
            "use https, or set `insecure_plaintext = true` on this upstream if the network itself is trusted";
        problems.push(Problem::error(span, title).help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_a_product_is_one() {
        for profile in [Profile::JumpServer, Profile::JumpCloud, Profile::Foresight, Profile::Plain] {
            for pattern in Defaults::of(profile).slashless {
                assert!(PathPattern::parse(pattern).is_ok(), "{pattern}");
            }
        }
    }

    /// The list of `JumpServer` 4.10.16's own paths: the product knows each of them as it is written.
    #[test]
    fn a_path_of_jumpservers_gets_its_slash_where_it_is_known_with_one() {
        let patterns: Vec<_> =
            JUMPSERVER_SLASHLESS.iter().map(|pattern| PathPattern::parse(pattern)).collect();
        let slashless = |path: &str| patterns.iter().flatten().any(|pattern| pattern.matches(path));
        let table = include_str!("../../../tests/it/cases/packs/jumpserver.paths");
        let paths =
            table.lines().filter_map(|line| line.split(' ').next()).filter(|path| path.starts_with('/'));
        let (with, without): (Vec<_>, Vec<_>) = paths.partition(|path| path.ends_with('/'));
        assert!(with.len() > 700 && without.len() > 5, "{} {}", with.len(), without.len());
        for path in with.iter().filter(|path| **path != "/") {
            assert!(!slashless(path.trim_end_matches('/')), "{path}");
        }
        for path in without {
            assert!(slashless(path), "{path}");
        }
    }
}
