//! A compiled upstream: its endpoints, its product's requirements, and its authentication scheme.

use std::time::Instant;

use crate::name::Name;
use crate::origin::Origin;
use crate::policy::{OrgPin, PathPattern};
use crate::scheme::Scheme;
use crate::target::Target;
use crate::transport::link_rewrite::LinkRewriter;
use crate::transport::{Destination, Health, RequestHeaders};

/// The compiled configuration of one upstream.
#[derive(Clone)]
pub struct Upstream {
    /// The upstream's name.
    pub name: Name,
    /// The first destination.
    pub first: Destination,
    /// The other destinations.
    pub others: Vec<Destination>,
    /// The rules for the header fields that the upstream receives.
    pub request_headers: RequestHeaders,
    /// The health check settings; `None` without health checks.
    pub health: Option<Health>,
    /// How the organisation is pinned in a request; `None` if the product has none.
    pub org: Option<OrgPin>,
    /// Whether a path without a trailing slash gets one before the decision.
    pub trailing_slash: bool,
    /// The paths that never get a trailing slash, since the product knows them only without.
    pub slashless: Vec<PathPattern>,
    /// Whether the upstream sends a 401 before it executes anything. A write may then be repeated after
    /// a token refresh.
    pub repeat_after_401: bool,
    /// The rules for link rewriting.
    pub links: LinkRewriter,
    /// The scheme that adds the credential to a request.
    pub scheme: Scheme,
}

impl Upstream {
    /// Adds the trailing slash to the target's path, if the product requires it.
    #[must_use]
    pub fn with_its_slash(&self, target: Target) -> Target {
        let path = target.path();
        let lacks = self.trailing_slash
            && !path.ends_with('/')
            && !self.slashless.iter().any(|known| known.matches(path));
        if lacks { target.with_trailing_slash() } else { target }
    }

    /// Returns the origins that may receive the credential, sorted. These are the upstream's endpoints, or the token
    /// endpoint if there is one.
    #[must_use]
    pub fn credential_origins(&self) -> Vec<Origin> {
        match self.scheme.token_endpoint() {
            Some(elsewhere) => vec![elsewhere.origin.clone()],
            None => self.origins(),
        }
    }

    /// Returns the origins of the upstream's endpoints, sorted.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        let mut origins: Vec<Origin> = self.destinations().map(|each| each.endpoint.origin.clone()).collect();
        origins.sort_unstable();
        origins
    }

    /// Iterates over all destinations of the upstream.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Picks the destination of a call. Two endpoints that are up are picked at random, and the one with fewer calls in
    /// flight is used. If no endpoint is up, all are candidates. An endpoint that is down is tried once when its
    /// back-off has ended.
    #[must_use]
    pub fn pick(&self) -> &Destination {
        if self.others.is_empty() {
            return &self.first;
        }
        let now = Instant::now();
        let is_due = |Destination { endpoint, .. }: &&Destination| {
            !endpoint.is_checked && endpoint.state.try_half_open(now)
        };
        self.destinations().find(is_due).or_else(|| pick(self.destinations())).unwrap_or(&self.first)
    }

    /// Returns a destination other than `former`, which failed; `None` if there is no other.
    #[must_use]
    pub fn alternative(&self, former: &Destination) -> Option<&Destination> {
        pick(self.destinations().filter(|other| other.endpoint.origin != former.endpoint.origin))
    }
}

fn pick<'u>(all: impl Iterator<Item = &'u Destination> + Clone) -> Option<&'u Destination> {
    let up = all.clone().filter(|each| each.endpoint.state.is_up());
    less_loaded(up).or_else(|| less_loaded(all))
}

/// Picks two at random and returns the one with fewer calls in flight. Comparing all would send every worker to
/// the same one.
fn less_loaded<'u>(mut all: impl Iterator<Item = &'u Destination> + Clone) -> Option<&'u Destination> {
    let count = all.clone().count();
    if count < 2 {
        return all.next();
    }
    let first = fastrand::usize(..count);
    let second = (first + fastrand::usize(1..count)) % count;
    let (one, other) = (all.clone().nth(first)?, all.nth(second)?);
    let load = |destination: &Destination| destination.endpoint.state.in_flight();
    Some(if load(other) < load(one) { other } else { one })
}
