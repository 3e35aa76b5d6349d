//! Shows which calls on the trail another configuration would decide differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use http::Method;
use serde_json::{Value, json};

use super::calls::{Decided, Which, each_decided};
use crate::cli::table::table;
use crate::cli::{Output, load};
use crate::clock::{Clock as _, SystemClock};
use crate::code::Code;
use crate::config::Compiled;
use crate::gateway::Snapshot;
use crate::gateway::decide::{Caller as _, Named};
use crate::policy::{Action, BodyMembers, BodyUnreadable, Ruling};
use crate::query::is_sensitive_name;
use crate::target::Target;

/// One line of the report; it stands for all calls that share it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    consumer: String,
    upstream: String,
    method: String,
    path: String,
    org: Option<String>,
    /// The decision at the time of the call.
    then: String,
    /// The decision now; `None` if it cannot be determined.
    now: Option<&'static str>,
    /// The rule or the code of the decision, or why it cannot be determined.
    why: String,
}

/// The decision of the other configuration.
enum Now {
    Allowed(String),
    Denied(String),
    /// The decision cannot be determined, for this reason.
    Unknown(&'static str),
}

/// The compared configurations, and the time of the comparison.
struct Comparison {
    new: Snapshot,
    /// The configuration in force; `None` if it cannot be read, as with a copied trail.
    current: Option<Snapshot>,
    now: SystemTime,
}

pub(super) fn run(path: &Path, new: &Path, which: &Which, output: Output) -> anyhow::Result<bool> {
    let (_, Compiled { snapshot: new, .. }, _) = load(new)?;
    let current = load(path).ok().map(|(_, compiled, _)| compiled.snapshot);
    let comparison = Comparison { new, current, now: SystemClock.now() };
    let (mut changes, mut unknown) = (BTreeMap::<Difference, u64>::new(), BTreeMap::<Difference, u64>::new());
    let mut calls: u64 = 0;
    each_decided(path, which, |call| {
        calls += 1;
        let (now, why) = match comparison.decide(&call) {
            Now::Allowed(_) if call.was_allowed() => return,
            Now::Denied(_) if !call.was_allowed() => return,
            Now::Allowed(rule) => (Some("allowed"), rule),
            Now::Denied(why) => (Some("denied"), why),
            Now::Unknown(why) => (None, why.into()),
        };
        let differences = if now.is_some() { &mut changes } else { &mut unknown };
        let path = call.target.split('?').next().unwrap_or_default().to_owned();
        let Decided { consumer, upstream, method, org, decision: then, .. } = call;
        *differences
            .entry(Difference { consumer, upstream, method, path, org, then, now, why })
            .or_default() += 1;
    })?;
    let none = changes.is_empty();
    let json = json!({
        "calls": calls, "changes": changes.iter().map(as_json).collect::<Vec<_>>(),
        "unknown": unknown.iter().map(as_json).collect::<Vec<_>>(),
    });
    output.print(&json, &text(calls, changes, unknown));
    Ok(none)
}

fn as_json((difference, calls): (&Difference, &u64)) -> Value {
    json!({
        "consumer": difference.consumer, "upstream": difference.upstream, "method": difference.method, "path": difference.path,
        "org": difference.org, "then": difference.then, "now": difference.now.unwrap_or("unknown"), "why": difference.why, "calls": calls,
    })
}

fn text(calls: u64, changes: BTreeMap<Difference, u64>, unknown: BTreeMap<Difference, u64>) -> String {
    let row = |(difference, calls): (Difference, u64)| {
        let call = format!("{} {}", difference.method, difference.path);
        let decision = difference
            .now
            .map_or_else(|| difference.then.clone(), |now| format!("{} -> {now}", difference.then));
        let org = difference.org.unwrap_or_else(|| "-".into());
        [difference.consumer, difference.upstream, call, org, decision, difference.why, calls.to_string()]
    };
    let open: u64 = unknown.values().sum();
    let none = if open == 0 {
        format!("all {calls} calls on the trail would be decided as before")
    } else {
        format!(
            "no call on the trail is known to be decided differently; {} would be decided as before",
            calls - open
        )
    };
    let headings = ["consumer", "upstream", "call", "org", "decision", "by", "calls"];
    let mut text = table(&headings, changes.into_iter().map(row), &none);
    if open > 0 {
        let headings = ["consumer", "upstream", "call", "org", "decision then", "unknown, because", "calls"];
        // Writing into a string cannot fail.
        writeln!(text, "\n{open} of {calls} calls cannot be decided again:").unwrap_or_default();
        text.push_str(&table(&headings, unknown.into_iter().map(row), ""));
    }
    text
}

impl Comparison {
    /// The decision of the other configuration on the call, at its time or now.
    fn decide(&self, call: &Decided) -> Now {
        let new = &self.new;
        // If the configuration in force does not declare it either, it may be known to another store.
        let missing = |declares: fn(&Snapshot, &Decided) -> bool, what: &str| {
            if self.current.as_ref().is_none_or(|current| declares(current, call)) {
                Now::Denied(format!("no such {what}"))
            } else {
                Now::Unknown(GONE)
            }
        };
        let Some(consumer) = Named::find(new, &call.consumer) else {
            // A file without that store cannot know a consumer of the store.
            return missing(
                |current, call| Named::find(current, &call.consumer).is_some_and(|it| !it.is_stored()),
                "consumer",
            );
        };
        let Some(upstream) = new.upstream_id(&call.upstream) else {
            return missing(|current, call| current.upstream_id(&call.upstream).is_some(), "upstream");
        };
        if !new.routes.lead_to(upstream) {
            return Now::Denied(Code::NoRoute.as_str().into());
        }
        let Some(action) = action(new, call) else {
            return Now::Unknown("the trail does not have the whole call");
        };
        let masked = |name: &str| is_sensitive_name(name) && action.target.query().contains("=***");
        if new.policy.looks_at_query(consumer.consumer(), &action, masked) {
            return Now::Unknown("a rule looks at a value that the trail masks");
        }
        let then = call.time.parse::<jiff::Timestamp>().map_or(self.now, SystemTime::from);
        match decide_again(new, &consumer, call, then) {
            Now::Allowed(rule) => self.expired(&consumer, call).unwrap_or(Now::Allowed(rule)),
            other @ (Now::Denied(_) | Now::Unknown(_)) => other,
        }
    }

    /// The result if the grant has expired since the call. If this configuration ends the grant earlier than the one in
    /// force, the result is a denial.
    fn expired(&self, consumer: &Named, call: &Decided) -> Option<Now> {
        let has_expired = |snapshot: &Snapshot, consumer: &Named| {
            let action = action(snapshot, call)?;
            let decision = snapshot.policy.decide(consumer.consumer(), action, self.now);
            (decision.ruling().effect == Err(Code::GrantExpired)).then_some(())
        };
        has_expired(&self.new, consumer)?;
        let current = self.current.as_ref();
        let in_force =
            current.and_then(|current| has_expired(current, &Named::find(current, &call.consumer)?));
        Some(match in_force {
            Some(()) => Now::Unknown("the grant has expired since, in both configurations"),
            None => Now::Denied(Code::GrantExpired.as_str().into()),
        })
    }
}

/// The reason if a consumer or upstream is in no configuration.
const GONE: &str = "it no longer exists, or belongs to another store";

/// The action that was asked for, without its body; `None` if the trail lacks some of it.
fn action(snapshot: &Snapshot, call: &Decided) -> Option<Action> {
    let upstream = snapshot.upstream_id(&call.upstream)?;
    let target = Target::canonical(call.target.as_bytes()).ok()?;
    let method = Method::from_bytes(call.method.as_bytes()).ok()?;
    let pin = snapshot.upstream(upstream).and_then(|upstream| upstream.org.as_ref());
    let org = pin.and_then(|pin| Some(pin.id_of(call.org.as_deref()?).to_owned()));
    Some(Action { upstream, method, target, org, body: BodyMembers::none() })
}

/// The decision at `time`, if it does not depend on the body, which the trail does not hold.
fn decide_again(snapshot: &Snapshot, consumer: &Named, call: &Decided, time: SystemTime) -> Now {
    const UNKNOWN: Now = Now::Unknown("a rule looks at the body");
    let decide = |body: BodyMembers| {
        let action = Action { body, ..action(snapshot, call)? };
        Some(snapshot.policy.decide(consumer.consumer(), action, time))
    };
    let rule = |ruling: &Ruling| ruling.rule.as_ref().map(ToString::to_string);
    // A read rarely has a body.
    let reads = ["GET", "HEAD", "OPTIONS"].contains(&call.method.as_str());
    // If a body cannot be judged, every denial that reads it matches, and no permission does.
    if let Some(decision) = decide(BodyMembers::unreadable(BodyUnreadable::Long))
        && decision.ruling().effect.is_ok()
    {
        return Now::Allowed(rule(decision.ruling()).unwrap_or_default());
    }
    let Some(decision) = decide(BodyMembers::none()) else { return UNKNOWN };
    let (policy, ruling) = (&snapshot.policy, decision.ruling());
    match ruling.effect {
        Ok(_) if reads => Now::Allowed(rule(ruling).unwrap_or_default()),
        Err(Code::Denied) if policy.body_may_allow(consumer.consumer(), decision.action(), time) => UNKNOWN,
        Err(code) => Now::Denied(rule(ruling).unwrap_or_else(|| code.as_str().to_owned())),
        Ok(_) => UNKNOWN,
    }
}
