//! A compiled upstream: its endpoints, its product's requirements, and its authentication scheme.

use std::time::Instant;

use crate::name::Name;
use crate::origin::Origin;
use crate::policy::{OrgPin, PathPattern};
use crate::scheme::Scheme;
use crate::target::Target;
use crate::transport::link_rewrite::LinkRewriter;
use crate::transport::{Endpoint, Health, OutboundSettings, RequestHeaders};

/// The compiled configuration of one upstream.
pub struct Upstream {
    /// The upstream's name.
    pub name: Name,
    /// The first endpoint.
    pub endpoint: Endpoint,
    /// The outbound settings for the first endpoint.
    pub manners: OutboundSettings,
    /// The rules for the header fields that the upstream receives.
    pub request_headers: RequestHeaders,
    /// The other endpoints, each with its outbound settings, since the host differs.
    pub others: Vec<(Endpoint, OutboundSettings)>,
    /// The health check settings; `None` without health checks.
    pub health: Option<Health>,
    /// How the organisation is pinned in a request; `None` if the product has none.
    pub org: Option<OrgPin>,
    /// Whether a path without a trailing slash gets one before the decision.
    pub trailing_slash: bool,
    /// The paths that never get a trailing slash, since the product knows them only without.
    pub slashless: Vec<PathPattern>,
    /// Whether the upstream sends a 401 before it executes anything. A write may then be repeated after a token
    /// refresh.
    pub repeat_after_401: bool,
    /// The rules for link rewriting.
    pub links: LinkRewriter,
    /// The scheme that adds the credential to a request.
    pub scheme: Scheme,
}

/// One destination of an upstream: an endpoint with its settings.
#[derive(Clone, Copy)]
pub struct Destination<'u> {
    /// The endpoint to connect to.
    pub endpoint: &'u Endpoint,
    /// The outbound settings for this endpoint.
    pub manners: &'u OutboundSettings,
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
        let mut origins: Vec<Origin> = self.destinations().map(|way| way.endpoint.origin.clone()).collect();
        origins.sort_unstable();
        origins
    }

    /// Iterates over all destinations of the upstream.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'_>> + Clone {
        let first = Destination { endpoint: &self.endpoint, manners: &self.manners };
        let others = self.others.iter().map(|(endpoint, manners)| Destination { endpoint, manners });
        std::iter::once(first).chain(others)
    }

    /// Picks the destination of a call. Two endpoints that are up are picked at random, and the one with fewer calls in
    /// flight is used. If no endpoint is up, all are candidates. An endpoint that is down is tried once when its
    /// back-off has ended.
    #[must_use]
    pub fn pick(&self) -> Destination<'_> {
        let first = Destination { endpoint: &self.endpoint, manners: &self.manners };
        if self.others.is_empty() {
            return first;
        }
        let now = Instant::now();
        let due =
            |way: &Destination<'_>| !way.endpoint.is_checked && way.endpoint.standing.try_half_open(now);
        self.destinations().find(due).or_else(|| pick(self.destinations())).unwrap_or(first)
    }

    /// Returns a destination other than `former`, which failed; `None` if there is no other.
    #[must_use]
    pub fn alternative(&self, former: Destination<'_>) -> Option<Destination<'_>> {
        pick(self.destinations().filter(|way| way.endpoint.origin != former.endpoint.origin))
    }
}

fn pick<'u>(ways: impl Iterator<Item = Destination<'u>> + Clone) -> Option<Destination<'u>> {
    let up = ways.clone().filter(|way| way.endpoint.standing.is_up());
    less_loaded(up).or_else(|| less_loaded(ways))
}

/// Picks two at random and returns the one with fewer calls in flight. Comparing all would send every worker to the
/// same one.
fn less_loaded<'u>(mut ways: impl Iterator<Item = Destination<'u>> + Clone) -> Option<Destination<'u>> {
    let count = ways.clone().count();
    if count < 2 {
        return ways.next();
    }
    let first = fastrand::usize(..count);
    let second = (first + fastrand::usize(1..count)) % count;
    let (one, other) = (ways.clone().nth(first)?, ways.nth(second)?);
    let load = |way: &Destination<'_>| way.endpoint.standing.in_flight();
    Some(if load(&other) < load(&one) { other } else { one })
}
