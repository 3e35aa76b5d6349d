//! Finds the upstream for a host and a path prefix.

use std::sync::Arc;

use crate::ids::UpstreamId;
use crate::target::Target;

/// One configured route.
#[derive(Debug, Clone)]
pub struct Route {
    /// The host that the route is for, in lower case and without a port; `None` for any host.
    pub host: Option<String>,
    /// Whole leading segments of the canonical path, without a trailing slash; empty for all paths.
    pub prefix: String,
    /// The prefix as a label of metrics.
    pub label: Arc<str>,
    /// The upstream that the route leads to.
    pub upstream: UpstreamId,
}

/// The routes in the order in which they are tried: routes with a host first, then the longest prefix first.
#[derive(Debug, Default)]
pub struct Routes(Vec<Route>);

/// The route of a request, and its target as the upstream receives it.
#[derive(Debug)]
pub struct Routed<'r> {
    /// The route that matched.
    pub route: &'r Route,
    /// The target without the route's prefix.
    pub target: Target,
}

impl Routes {
    /// Sorts `routes` into the order in which they are tried.
    #[must_use]
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(route.prefix.len())));
        Self(routes)
    }

    /// Whether any route leads to this upstream.
    #[must_use]
    pub fn lead_to(&self, upstream: UpstreamId) -> bool {
        self.0.iter().any(|route| route.upstream == upstream)
    }

    /// Finds the route for `host` (a `Host` value, with or without a port) and `target`.
    #[must_use]
    pub fn find(&self, host: &str, target: &Target) -> Option<Routed<'_>> {
        let host = without_port(host);
        self.0.iter().find_map(|route| {
            if route.host.as_deref().is_some_and(|expected| !expected.eq_ignore_ascii_case(host)) {
                return None;
            }
            let target = target.strip_prefix(&route.prefix)?;
            Some(Routed { route, target })
        })
    }
}

/// The host of a `Host` value without its port.
#[must_use]
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn host_first_then_longest_prefix_by_whole_segments() {
        let route = |host: Option<&str>, prefix: &str, upstream: usize| Route {
            host: host.map(String::from),
            prefix: prefix.into(),
            label: prefix.into(),
            upstream: UpstreamId::new(upstream),
        };
        let routes = Routes::new(vec![
            route(None, "", 0),
            route(None, "/jms", 1),
            route(None, "/jms/eu", 2),
            route(Some("only.example"), "/api", 3),
        ]);
        let found = |host: &str, path: &str| {
            let target = Target::canonical(path.as_bytes()).unwrap();
            let found = routes.find(host, &target).unwrap();
            (found.route.upstream.index(), found.target.to_string())
        };
        assert_eq!(found("h", "/x"), (0, "/x".into()));
        assert_eq!(found("h:1", "/jms/x?y=1"), (1, "/x?y=1".into()));
        assert_eq!(found("h", "/jms"), (1, "/".into()));
        assert_eq!(found("h", "/jmsx/"), (0, "/jmsx/".into()));
        assert_eq!(found("h", "/jms/eu/x"), (2, "/x".into()));
        assert_eq!(found("ONLY.example:7070", "/api/x"), (3, "/x".into()));
        assert_eq!(found("[::1]:80", "/api/x"), (0, "/api/x".into()));
    }
}
