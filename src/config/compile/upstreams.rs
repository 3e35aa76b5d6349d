//! Compiles `[upstreams.…]`: a profile's defaults, and what the file sets instead.

use std::collections::HashMap;

use super::defaults::Defaults;
use super::endpoints::{self, Endpoints, is_plaintext, outbound};
use super::inputs::{Scope, patterns};
use super::schemes;
use crate::config::file::Upstream as Section;
use crate::config::{Problem, Problems};
use crate::ids::{CredentialId, UpstreamId};
use crate::name::Name;
use crate::policy::{Glob, OrgPin, PathPattern};
use crate::scheme::Scheme;
use crate::transport::link_rewrite::LinkRewriter;
use crate::transport::{Destination, Endpoint, OutboundSettings, RequestHeaders};
use crate::upstream::Upstream;

/// The upstreams, and the look-up tables that compiling needs.
pub(super) struct Upstreams {
    pub(super) compiled: Vec<Upstream>,
    /// From the name of an upstream to its index in `compiled`.
    pub(super) places: HashMap<Name, UpstreamId>,
    /// From the name of a credential to its index, and the index of the upstream that it is bound to.
    pub(super) credentials: HashMap<Name, (CredentialId, UpstreamId)>,
}

impl Upstreams {
    /// The compiled upstream with this id.
    pub(super) fn get(&self, id: UpstreamId) -> Option<&Upstream> {
        self.compiled.get(id.index())
    }
}

/// Compiles the upstreams. If only the store is read again, those in force stay.
pub(super) fn compile(scope: &mut Scope<'_>) -> Upstreams {
    let compiled: Vec<Upstream> = match scope.inputs.base.retained() {
        Some(retained) => retained.upstreams.clone(),
        None => scope.file.upstreams.iter().filter_map(|(_, section)| upstream(scope, section)).collect(),
    };
    let ids = (0..).map(UpstreamId::new);
    let places = compiled.iter().map(|upstream| upstream.name).zip(ids).collect();
    Upstreams { compiled, places, credentials: HashMap::new() }
}

/// The upstreams that are reached in plaintext beyond this machine.
pub(super) fn plaintext(upstreams: &[Upstream]) -> Vec<String> {
    let is_readable = |upstream: &&Upstream| {
        let elsewhere = upstream.scheme.token_endpoint().map(|elsewhere| &elsewhere.origin);
        upstream.origins().iter().chain(elsewhere).any(is_plaintext)
    };
    upstreams.iter().filter(is_readable).map(|upstream| upstream.name.to_string()).collect()
}

fn upstream(scope: &mut Scope<'_>, section: &Section) -> Option<Upstream> {
    let (endpoints, scheme) = (endpoints::compile(scope, section), schemes::compile(scope, section));
    let (org, slashless) = (org_pin(section, scope.problems), slashless(section, scope.problems));
    let Endpoints { first, others, base, health } = endpoints?;
    let scheme = scheme?;
    let defaults = Defaults::of(section.profile.value);
    let members: Vec<String> = match &section.link_members {
        Some(members) => members.iter().map(|member| member.value.clone()).collect(),
        None => defaults.link_members.iter().map(ToString::to_string).collect(),
    };
    let origins = std::iter::once(&first).chain(&others).map(|endpoint| endpoint.origin.clone()).collect();
    let destination = |endpoint: Endpoint| {
        let settings = OutboundSettings {
            sign_base_path: section.sign_base_path,
            org_header: defaults.org.as_ref().map(|pin| pin.header.clone()),
            forwarded_for: section.forwarded_for,
            ..outbound(&endpoint.origin, &base, defaults.accept)
        };
        Destination { endpoint, settings }
    };
    Some(Upstream {
        name: section.name.value,
        first: destination(first),
        others: others.into_iter().map(destination).collect(),
        request_headers: request_headers(section, &scheme, scope.problems),
        health,
        org,
        slashless,
        trailing_slash: section.trailing_slash.unwrap_or(defaults.trailing_slash),
        repeat_after_401: section.repeat_after_401.unwrap_or(defaults.repeat_after_401),
        links: LinkRewriter { members, origins, base: base.clone() },
        scheme,
    })
}

/// The paths to which no slash is added: the file's list, or the product's.
fn slashless(section: &Section, problems: &mut Problems) -> Vec<PathPattern> {
    if let Some(texts) = &section.slashless {
        return patterns(texts, problems);
    }
    let known = Defaults::of(section.profile.value).slashless;
    known.iter().filter_map(|pattern| PathPattern::parse(pattern).ok()).collect()
}

/// How the product is given the organisation, with the names that the file declares.
fn org_pin(section: &Section, problems: &mut Problems) -> Option<OrgPin> {
    let mut pin = Defaults::of(section.profile.value).org;
    for (name, id) in &section.org_names {
        let Some(pin) = &mut pin else {
            let title = "this upstream's product has no organisations";
            return problems.refuse(name.span, title, "remove `org_names`");
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

/// The header lines of a consumer's request that the upstream receives.
fn request_headers(section: &Section, scheme: &Scheme, problems: &mut Problems) -> RequestHeaders {
    let defaults = Defaults::of(section.profile.value);
    let credential = scheme.header();
    for name in
        section.pass_headers.iter().filter(|name| name.value.eq_ignore_ascii_case(credential.as_str()))
    {
        let title = format!("`{}` never passes: it carries the credential", name.value);
        problems.push(Problem::error(name.span, title).help("leave it out"));
    }
    let range_paths = patterns(&section.range_paths, problems);
    let pinned = defaults.org.as_ref().map(|pin| pin.header.as_str().to_owned());
    RequestHeaders {
        of_profile: defaults.client_headers,
        added: section.pass_headers.iter().map(|name| Glob::new(&name.value.to_ascii_lowercase())).collect(),
        cookies: section.pass_cookies,
        withheld_cookies: pinned.into_iter().chain(scheme.cookies()).collect(),
        credential: Some(credential),
        range_paths: scheme.is_reusable().then_some(range_paths),
    }
}
