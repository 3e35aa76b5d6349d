//! What another configuration would decide otherwise of the calls on the trail.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use http::Method;
use serde_json::json;

use super::{Decided, Which, each_decided};
use crate::cli::store::table::table;
use crate::cli::{Output, load, say, tell_problems};
use crate::clock::{Clock as _, SystemClock};
use crate::gateway::Snapshot;
use crate::policy::{Action, Members};
use crate::target::Target;

/// A change, for all calls that it is the same for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    consumer: String,
    upstream: String,
    method: String,
    path: String,
    org: Option<String>,
    /// What was decided then.
    then: String,
    /// What would be decided now, and by which rule or with which code.
    now: String,
    why: String,
}

/// The new decision.
enum Now {
    Allowed(String),
    Denied(String),
    /// A rule looks at the body, which the trail has not.
    Unknown,
}

pub(super) fn run(path: &Path, new: &Path, which: &Which, output: Output) -> anyhow::Result<bool> {
    let compiled = match load(new) {
        Ok((_, compiled, _)) => compiled,
        Err(problems) => {
            tell_problems(&problems);
            return Ok(false);
        }
    };
    let now = SystemClock.now();
    let (mut changes, mut calls): (BTreeMap<Change, u64>, u64) = (BTreeMap::new(), 0);
    each_decided(path, which, |call| {
        calls += 1;
        let decided = decided_anew(&compiled.snapshot, &call, now);
        let (now, why) = match decided {
            Now::Allowed(_) if call.was_allowed() => return,
            Now::Denied(_) if !call.was_allowed() => return,
            Now::Allowed(rule) => ("allowed", rule),
            Now::Denied(why) => ("denied", why),
            Now::Unknown => ("unknown", "a rule looks at the body".into()),
        };
        let path = call.target.split('?').next().unwrap_or_default().to_owned();
        let Decided { consumer, upstream, method, org, decision: then, .. } = call;
        let change = Change { consumer, upstream, method, path, org, then, now: now.into(), why };
        *changes.entry(change).or_default() += 1;
    })?;
    let none = changes.is_empty();
    match output {
        Output::Json => {
            let changes: Vec<_> = changes.iter().map(|(change, calls)| json!({
                "consumer": change.consumer, "upstream": change.upstream, "method": change.method, "path": change.path,
                "org": change.org, "then": change.then, "now": change.now, "why": change.why, "calls": calls,
            })).collect();
            say(&format!("{}\n", json!({"calls": calls, "changes": changes})));
        }
        Output::Text => {
            let row = |(change, calls): (Change, u64)| {
                let (what, org) =
                    (format!("{} {}", change.method, change.path), change.org.unwrap_or_else(|| "-".into()));
                let how = format!("{} -> {}", change.then, change.now);
                [change.consumer, change.upstream, what, org, how, change.why, calls.to_string()]
            };
            let rows = changes.into_iter().map(row).collect();
            let headings = ["consumer", "upstream", "call", "org", "decision", "by", "calls"];
            say(&table(
                headings,
                rows,
                &format!("all {calls} calls on the trail would be decided as they were"),
            ));
        }
    }
    Ok(none)
}

fn decided_anew(snapshot: &Snapshot, call: &Decided, now: SystemTime) -> Now {
    let Some(consumer) = snapshot.directory.place(&call.consumer) else {
        return Now::Denied("no such consumer".into());
    };
    let named = snapshot.upstreams.iter().position(|upstream| upstream.name.as_str() == call.upstream);
    let Some(upstream) = named else { return Now::Denied("no such upstream".into()) };
    let target = Target::canonical(call.target.as_bytes()).ok();
    let (Ok(method), Some(target)) = (Method::from_bytes(call.method.as_bytes()), target) else {
        return Now::Denied("the trail has not all of it".into());
    };
    let pins = snapshot.upstreams.get(upstream).is_some_and(|upstream| upstream.org.is_some());
    let org = call.org.clone().filter(|_| pins);
    let action = Action { upstream, method, target, org, body: Members::none() };
    if snapshot.policy.looks_at_body(consumer, &action) {
        return Now::Unknown;
    }
    match snapshot.policy.ruling(consumer, &action, now) {
        Ok(allowed) => Now::Allowed(allowed.rule.to_string()),
        Err(forbidden) => Now::Denied(
            forbidden.rule.map_or_else(|| forbidden.code.as_str().to_owned(), |rule| rule.to_string()),
        ),
    }
}
