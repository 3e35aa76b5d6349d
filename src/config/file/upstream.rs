//! `[upstreams.…]`: the products that calls are forwarded to.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::scheme::Scheme;
use crate::config::Spanned;
use crate::config::decode::{
    Absent, Key, Node, Reader, Section, boolean, declared_name, duration, line, name, optional, or, path,
    required, section, url, visible, word,
};
use crate::config::problem::Problem;
use crate::name::Name;
use crate::transport::parse_network;
use crate::transport::request_headers::check_added;

section! {
    /// A product that calls are forwarded to.
    pub struct Upstream {
        /// The name of the upstream in routes and grants.
        name: Spanned<Name> = declared_name(),
        /// The product, which sets the defaults of what follows: `jumpserver`, `jumpcloud`, `foresight` or `plain`.
        profile: Spanned<Profile> = required(word(&PROFILES).located()),
        /// The URL of the upstream: https, except on this machine; a path here is put before every path.
        endpoint: Option<Spanned<String>> = endpoint(),
        /// The URLs of several endpoints instead, all with the same path.
        endpoints: Option<Vec<Spanned<String>>> = optional(
            url().list_of(1).check(|urls| urls.is_empty().then_some("must not be empty"))
        ),
        /// How the health of endpoints is checked: `{ path, interval }`.
        health: Option<Spanned<Health>> = optional(Health::reader().located()).by("by profile"),
        /// The networks to which its name may lead although they are link-local, of this machine, or similar.
        allow_addresses: Vec<IpNet> = or(Vec::new(), network().list()),
        /// The organisation of grants that name none.
        org: Option<Spanned<String>> = optional(visible()),
        /// The names that may stand for ids of organisations, here and in a caller's `X-JMS-ORG`.
        org_names: Vec<(Spanned<String>, Spanned<String>)> = or(Vec::new(), visible().pairs()),
        /// The credential of grants that name none.
        credential: Option<Spanned<Name>> = optional(name()),
        /// The upstream's authority or its own certificate, in PEM, instead of the public authorities.
        ca_file: Option<Spanned<PathBuf>> = optional(path()),
        /// Whether to `add` a slash to paths without one, or to `keep` them.
        trailing_slash: Option<bool> = optional(word(&[("add", true), ("keep", false)])).by("by profile"),
        /// The patterns of paths that never get a slash.
        slashless: Option<Vec<Spanned<String>>> = optional(line().list()).by("by profile"),
        /// Whether its 401 comes before anything is done, so that a write may be repeated after a new login.
        repeat_after_401: Option<bool> = optional(boolean()).by("by profile"),
        /// The top-level members of JSON answers whose links are led through the gateway; `[]`: none.
        link_members: Option<Vec<Spanned<String>>> = optional(line().list()).by("by profile"),
        /// Whether the endpoint's own path is part of what is signed.
        sign_base_path: bool = or(true, boolean()),
        /// What happens to cookies in both directions: `strip` or `pass`.
        pass_cookies: bool = or(false, word(&[("strip", false), ("pass", true)])).called("cookies"),
        /// The request headers that reach it beside the usual ones, such as `x-acme-*`; none that say who
        /// calls or from where.
        pass_headers: Vec<Spanned<String>> = or(Vec::new(), pass_header().list()),
        /// The patterns of paths where a part of a body may be asked for although calls are not signed.
        range_paths: Vec<Spanned<String>> = or(Vec::new(), line().list()),
        /// What the upstream learns of the caller; `consumer`: the consumer's address, in `X-Forwarded-For`.
        forwarded_for: bool = or(false, word(&[("none", false), ("consumer", true)])),
        /// The time for which an idle connection is kept: less than the upstream keeps it.
        pool_idle: Option<Duration> = optional(duration(Duration::ZERO..=Duration::from_hours(24))).by("by profile"),
        /// Whether the upstream may be reached by http beyond this machine: the credential is then readable on the way.
        insecure_plaintext: bool = or(false, boolean()),
        /// How the credential is put on a call.
        scheme: Spanned<Scheme> = required(Scheme::reader().located()),
    }
}

/// The URLs of all endpoints, at least one.
pub(in crate::config) fn urls(upstream: &Upstream) -> impl Iterator<Item = &Spanned<String>> {
    upstream.endpoint.iter().chain(upstream.endpoints.iter().flatten())
}

section! {
    /// The settings of the health checks of an upstream's endpoints.
    pub struct Health {
        /// The path, below the endpoint; asked without a credential; anything below 500 is good.
        path: Option<Spanned<String>> = optional(line()).by("by profile"),
        /// The interval of the checks; an endpoint that is alone is checked only if no call
        /// was answered meanwhile; `"0s"`: never.
        interval: Duration = or(HEALTH_INTERVAL, duration(Duration::ZERO..=Duration::from_hours(1)).check(|interval| {
            let is_short = !interval.is_zero() && *interval < Duration::from_secs(1);
            is_short.then_some("must be \"0s\", for never, or at least 1s")
        })),
    }
}

/// The interval of health checks if the file does not set it.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// The profile of an upstream product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The bastion `JumpServer`.
    JumpServer,
    /// The directory `JumpCloud`.
    JumpCloud,
    /// The platform `Foresight`.
    Foresight,
    /// No product in particular.
    Plain,
}

impl Profile {
    /// The product of the profile; `None` for [`Profile::Plain`], which may stand for any product.
    #[must_use]
    pub fn product(self) -> Option<&'static str> {
        let word = PROFILES.iter().find(|(_, profile)| *profile == self).map(|(word, _)| *word);
        word.filter(|_| self != Self::Plain)
    }
}

const PROFILES: [(&str, Profile); 4] = [
    ("jumpserver", Profile::JumpServer),
    ("jumpcloud", Profile::JumpCloud),
    ("foresight", Profile::Foresight),
    ("plain", Profile::Plain),
];

/// Reads an upstream, which has either one endpoint or several.
pub(super) fn reader() -> Reader<Upstream> {
    Upstream::reader().then(|node, upstream| match &upstream.endpoint {
        Some(endpoint) if upstream.endpoints.is_some() => {
            let problem = Problem::error(endpoint.span, "`endpoint` and `endpoints` are both given");
            Err(node.report(problem.help("keep one of them")))
        }
        Some(_) | None => Ok(upstream),
    })
}

/// The key `endpoint`, which must be there unless `endpoints` is.
fn endpoint() -> Key<Option<Spanned<String>>> {
    let reader = url();
    Key::new((reader.shape.clone(), Absent::RefusedWithout("endpoints")), move |table, key| {
        let read = |node: &Node<'_>| reader.read(node);
        if table.has("endpoints") { table.optional(key, read) } else { table.required(key, read).map(Some) }
    })
}

fn network() -> Reader<IpNet> {
    const HELP: &str = "write an address and a number of bits, as in \"169.254.0.0/16\"";
    line().then(|node, text| {
        let problem = || node.report(node.problem("is no range of addresses").help(HELP));
        parse_network(&text.value).ok_or_else(problem)
    })
}

/// Reads the name of a header to pass on, or a pattern of such names.
fn pass_header() -> Reader<Spanned<String>> {
    visible().then(|node, name| match check_added(&name.value) {
        Ok(()) => Ok(name),
        Err(why) => {
            let problem = Problem::error(node.span(), format!("`{}` {why}", name.value));
            Err(node.report(problem.help("name headers of your own, as in \"x-acme-*\"")))
        }
    })
}
