//! The least role that allows what a consumer did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::{Which, each_decided};
use crate::cli::{Output, say};
use crate::name::Name;
use crate::printable::printable_value;
use crate::query::decode_query;
use crate::target::Target;

/// What is wanted of the query: names and values.
type Conditions = Vec<(String, String)>;

/// What was done at one upstream.
#[derive(Default)]
struct Done {
    /// The methods by path and conditions.
    methods: BTreeMap<(Conditions, String), BTreeSet<String>>,
    /// How often in each organisation.
    orgs: BTreeMap<String, u64>,
    calls: u64,
    /// What no rule can say exactly.
    unsaid: BTreeSet<String>,
}

impl Done {
    fn add(&mut self, method: &str, target: &Target) {
        let conditions = match method {
            "GET" | "HEAD" | "OPTIONS" => Ok(Conditions::new()),
            _ => conditions(target),
        };
        let path = target.path();
        let unsaid = match conditions {
            Ok(conditions) if !path.contains(['*', '\\']) => {
                let methods = self.methods.entry((conditions, path.to_owned())).or_default();
                methods.insert(method.to_owned());
                return;
            }
            // A rule that says less would allow more.
            Ok(_) => "a pattern cannot say its path exactly".into(),
            Err(name) => format!("a condition cannot say `{name}` exactly"),
        };
        self.unsaid.insert(format!("{method} {target}: {unsaid}"));
    }
}

/// What a write must name, so that it is not allowed for everything where it named one thing.
///
/// # Errors
/// The name of a member that no condition can say.
fn conditions(target: &Target) -> Result<Conditions, String> {
    let mut conditions = Conditions::new();
    for (name, value) in target.query_members() {
        let (name, value) = (decode_query(name).into_owned(), decode_query(value).into_owned());
        let twice = conditions.iter().any(|(other, _)| *other == name);
        if twice || name.is_empty() || value.trim().is_empty() || value.contains(['*', '\u{fffd}']) {
            return Err(name);
        }
        conditions.push((name, value));
    }
    conditions.sort();
    Ok(conditions)
}

pub(super) fn run(path: &Path, consumer: &str, which: &Which, output: Output) -> anyhow::Result<bool> {
    let mut done: BTreeMap<String, Done> = BTreeMap::new();
    each_decided(path, which, |call| {
        if call.consumer == consumer && call.was_allowed() {
            let done = done.entry(call.upstream).or_default();
            done.calls += 1;
            if let Some(org) = call.org {
                *done.orgs.entry(org).or_default() += 1;
            }
            match Target::canonical(call.target.as_bytes()) {
                Ok(target) => done.add(&call.method, &target),
                Err(_) => drop(done.unsaid.insert(format!("{} {}: it was cut", call.method, call.target))),
            }
        }
    })?;
    anyhow::ensure!(!done.is_empty(), "the trail has no call of `{consumer}` that was allowed in this time");
    let text: String = done.iter().map(|(upstream, done)| shown(path, (consumer, upstream), done)).collect();
    let calls: u64 = done.values().map(|done| done.calls).sum();
    match output {
        Output::Text => say(&text),
        Output::Json => say(&format!("{}\n", json!({"consumer": consumer, "calls": calls, "toml": text}))),
    }
    Ok(true)
}

/// The role and the grant, to be put into the file.
fn shown(path: &Path, (consumer, upstream): (&str, &str), done: &Done) -> String {
    let role: String = format!("learned-{consumer}-{upstream}").chars().take(64).collect();
    let role = if Name::parse(&role).is_some() { role } else { "learned".into() };
    // One rule for all paths with the same methods and conditions.
    let mut rules: BTreeMap<(&Conditions, &BTreeSet<String>), Vec<&str>> = BTreeMap::new();
    for ((conditions, path), methods) in &done.methods {
        rules.entry((conditions, methods)).or_default().push(path);
    }
    let mut text = format!(
        "# What {consumer} did at {upstream}: {} calls. The trail has no bodies: conditions on them are to be added.\n",
        done.calls
    );
    for unsaid in &done.unsaid {
        // Writing into a string cannot fail.
        writeln!(text, "# Left out: {unsaid}").unwrap_or_default();
    }
    writeln!(text, "[roles.{}]\nallow = [", quoted(&role)).unwrap_or_default();
    for ((conditions, methods), paths) in rules {
        let methods: Vec<String> = methods.iter().map(|method| quoted(method)).collect();
        let paths: Vec<String> = paths.into_iter().map(quoted).collect();
        let query: Vec<String> =
            conditions.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
        let query =
            if query.is_empty() { String::new() } else { format!(", query = {{ {} }}", query.join(", ")) };
        writeln!(text, "  {{ methods = [{}], paths = [{}]{query} }},", methods.join(", "), paths.join(", "))
            .unwrap_or_default();
    }
    let orgs = orgs(path, (consumer, upstream), done);
    let orgs = if orgs.is_empty() { String::new() } else { format!("orgs = [{}]\n", orgs.join(", ")) };
    let (consumer, upstream, role) = (quoted(consumer), quoted(upstream), quoted(&role));
    writeln!(text, "]\n[[grants]]\nconsumer = {consumer}\nupstream = {upstream}\nroles = [{role}]\n{orgs}")
        .unwrap_or_default();
    text
}

/// The organisations that were used, quoted: first the one that is meant where none is named, which the grant
/// in force tells; else that of most calls.
fn orgs(path: &Path, (consumer, upstream): (&str, &str), done: &Done) -> Vec<String> {
    let file = crate::cli::audit::settings(path).ok();
    let meant = file.as_ref().and_then(|file| {
        let grant = file
            .grants
            .iter()
            .find(|grant| grant.consumer.value == consumer && grant.upstream.value == upstream)?;
        grant.orgs.first().map(|org| org.value.as_str())
    });
    let mut orgs: Vec<(&String, &u64)> = done.orgs.iter().collect();
    orgs.sort_by_key(|(org, calls)| (Some(org.as_str()) != meant, std::cmp::Reverse(**calls)));
    orgs.into_iter().map(|(org, _)| quoted(org)).collect()
}

/// A basic string of TOML, on one line: JSON's is one, where what it leaves as it is can be shown.
fn quoted(text: &str) -> String {
    printable_value(&json!(text).to_string()).into_owned()
}
