//! Compiles `[[routes]]`: the longest prefix wins.

use std::collections::HashMap;

use super::inputs::{Scope, unknown};
use crate::config::{Problem, Span};
use crate::ids::UpstreamId;
use crate::name::Name;
use crate::route::{Route, Routes, without_port};
use crate::target::Target;

/// Compiles the routes; `places` has the index of each upstream.
pub(super) fn compile(scope: &mut Scope<'_>, places: &HashMap<Name, UpstreamId>) -> Routes {
    let (file, problems) = (scope.file, &mut *scope.problems);
    let mut routes: Vec<Route> = Vec::new();
    let mut seen: HashMap<(Option<String>, String), Span> = HashMap::new();
    for route in &file.routes {
        let upstream = places.get(&route.upstream.value).copied();
        if upstream.is_none() && !file.upstreams.declares(&route.upstream.value) {
            problems.push(unknown("upstream", &route.upstream, &file.upstreams));
        }
        let Some(prefix) = prefix(&route.prefix.value) else {
            let title = "no request path can begin with this prefix in canonical form";
            problems
                .push(Problem::error(route.prefix.span, title).help("write whole segments: \"/jumpserver\""));
            continue;
        };
        if let Some(host) = &route.host
            && let alone = without_port(&host.value)
            && alone != host.value
        {
            let title = "a route's host is a name or an address alone, without a port";
            problems.push(Problem::error(host.span, title).help(format!("write \"{alone}\"")));
        }
        let host = route.host.as_ref().map(|host| host.value.to_ascii_lowercase());
        if let Some(first) = seen.insert((host.clone(), prefix.clone()), route.span) {
            let problem = Problem::error(route.span, "two routes for the same host and prefix");
            problems.push(problem.related(first, "the first is here"));
        }
        if let Some(upstream) = upstream {
            routes.push(Route { host, label: route.prefix.value.as_str().into(), prefix, upstream });
        }
    }
    if file.routes.is_empty() {
        let problem = Problem::warning(Span::NOWHERE, "there is no route: every call will be 404 no_route");
        problems.push(problem.help("add `[[routes]]` with `prefix = \"/\"` and an `upstream`"));
    }
    Routes::new(routes)
}

/// Brings a prefix into canonical form, without a slash at its end.
pub(super) fn prefix(text: &str) -> Option<String> {
    let target = Target::canonical(text.as_bytes()).ok()?;
    (target.query().is_empty() && !text.contains('?')).then(|| target.path().trim_end_matches('/').to_owned())
}
