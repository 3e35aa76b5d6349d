//! An upstream, compiled: where it is, what its product wants, how its credential is put on.

use std::time::Instant;

use crate::name::Name;
use crate::origin::Origin;
use crate::policy::{OrgPin, PathPattern};
use crate::scheme::Scheme;
use crate::target::Target;
use crate::transport::link_rewrite::LinkRewriter;
use crate::transport::{Endpoint, Health, OutboundSettings, RequestHeaders};

/// Everything that the gateway knows of one upstream.
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// What its product wants of a request, there.
    pub manners: OutboundSettings,
    /// What of a consumer's header lines it receives.
    pub request_headers: RequestHeaders,
    /// Where else it is reached, with what is wanted there: the host is another.
    pub others: Vec<(Endpoint, OutboundSettings)>,
    /// How the health of its endpoints is looked at, where it is.
    pub health: Option<Health>,
    /// How its product is told the organisation, where it has such.
    pub org: Option<OrgPin>,
    /// Whether a path without a slash at its end gets one before it is judged.
    pub trailing_slash: bool,
    /// The paths that get none in any case, since the product knows them only without.
    pub slashless: Vec<PathPattern>,
    /// Whether its 401 comes before anything is done, so that a write may be made again once a login is renewed.
    pub repeat_after_401: bool,
    /// Which of its links are rewritten.
    pub links: LinkRewriter,
    /// How the credential is put on.
    pub scheme: Scheme,
}

/// One way to an upstream.
#[derive(Clone, Copy)]
pub struct Destination<'u> {
    /// Where.
    pub endpoint: &'u Endpoint,
    /// What is wanted of a request there.
    pub manners: &'u OutboundSettings,
}

impl Upstream {
    /// The target with the slash at the end of its path that the product wants.
    #[must_use]
    pub fn with_its_slash(&self, target: Target) -> Target {
        let path = target.path();
        let lacks = self.trailing_slash
            && !path.ends_with('/')
            && !self.slashless.iter().any(|known| known.matches(path));
        if lacks { target.with_trailing_slash() } else { target }
    }

    /// The origins that its credential may be sent to, in an order of their own: those of its endpoints, or
    /// the one where tokens are given for it.
    #[must_use]
    pub fn credential_origins(&self) -> Vec<Origin> {
        match self.scheme.token_endpoint() {
            Some(elsewhere) => vec![elsewhere.origin.clone()],
            None => self.origins(),
        }
    }

    /// The origins of its endpoints, in an order of their own.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        let mut origins: Vec<Origin> = self.destinations().map(|way| way.endpoint.origin.clone()).collect();
        origins.sort_unstable();
        origins
    }

    /// Every way to it.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'_>> + Clone {
        let first = Destination { endpoint: &self.endpoint, manners: &self.manners };
        let others = self.others.iter().map(|(endpoint, manners)| Destination { endpoint, manners });
        std::iter::once(first).chain(others)
    }

    /// The way that a call goes: of two endpoints picked at random the one that has less to do, among those
    /// that are up; all count as up where none is. One that is down is tried once that is due.
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

    /// Another way than `former`, which leads nowhere; none where there is no other.
    #[must_use]
    pub fn alternative(&self, former: Destination<'_>) -> Option<Destination<'_>> {
        pick(self.destinations().filter(|way| way.endpoint.origin != former.endpoint.origin))
    }
}

fn pick<'u>(ways: impl Iterator<Item = Destination<'u>> + Clone) -> Option<Destination<'u>> {
    let up = ways.clone().filter(|way| way.endpoint.standing.is_up());
    less_loaded(up).or_else(|| less_loaded(ways))
}

/// Of two picked at random the one that has less to do: to ask all would send everybody to the same one.
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
