//! Learns the smallest role that allows what a consumer did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::calls::{Decided, Which, each_decided};
use crate::cli::Output;
use crate::cli::audit::context::settings;
use crate::config::file::{Condition, Rule, is_known_method};
use crate::config::{File, Spanned, allowing_rule, denying_rules};
use crate::name::Name;
use crate::policy::PathPattern;
use crate::printable::printable_value;
use crate::query::decode_query;
use crate::spelling;
use crate::target::Target;

/// Conditions on the query or the body: names and values.
type Conditions = Vec<(String, String)>;

/// The conditions on the query, and those on the body.
type CallConditions = (Conditions, Conditions);

/// The calls at one upstream.
#[derive(Default)]
struct LearnedCalls {
    /// The methods, by conditions and path.
    methods: BTreeMap<(CallConditions, String), BTreeSet<String>>,
    /// The number of calls in each organisation.
    orgs: BTreeMap<String, u64>,
    calls: u64,
    /// Calls that no rule can describe exactly.
    omitted: BTreeSet<String>,
    /// Rules whose conditions are not known.
    unknown_rules: BTreeSet<String>,
}

impl LearnedCalls {
    /// Adds a call that `rule` allowed, if the rule is known.
    fn add(&mut self, method: &str, target: &Target, rule: Option<&Rule>) {
        let body = rule.map(|rule| conditions_of(&rule.body)).unwrap_or_default();
        let conditions = match method {
            // For a read, the conditions are those of the rule that allowed it.
            "GET" | "HEAD" | "OPTIONS" => Ok(rule.map(|rule| conditions_of(&rule.query)).unwrap_or_default()),
            _ => conditions(target),
        };
        let path = target.path();
        let omitted = match conditions {
            Ok(_) if !is_known_method(method) => "a rule cannot name its method".into(),
            Ok(conditions) if !path.contains(['*', '\\']) => {
                let conditions = (conditions, body);
                let methods = self.methods.entry((conditions, path.to_owned())).or_default();
                methods.insert(method.to_owned());
                return;
            }
            // A rule with fewer conditions would allow more.
            Ok(_) => "a pattern cannot say its path exactly".into(),
            Err(name) => format!("a condition cannot say `{name}` exactly"),
        };
        self.omitted.insert(format!("{method} {target}: {omitted}"));
    }
}

/// The conditions of a write. Without them, a write to one object would be allowed for all objects.
///
/// # Errors
/// The name of a member that no condition can describe.
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
    let mut done: BTreeMap<String, LearnedCalls> = BTreeMap::new();
    let mut rules = InForce { file: settings(path).ok(), known: BTreeMap::new() };
    each_decided(path, which, |call| {
        if call.consumer == consumer && call.was_allowed() {
            let done = done.entry(call.upstream.clone()).or_default();
            done.calls += 1;
            if let Some(org) = &call.org {
                *done.orgs.entry(org.clone()).or_default() += 1;
            }
            match Target::canonical(call.target.as_bytes()) {
                Ok(target) => {
                    let rule = rules.that_allowed(&call, &target);
                    if rule.is_none() {
                        done.unknown_rules.insert(call.rule.unwrap_or_else(|| "unnamed".into()));
                    }
                    done.add(&call.method, &target, rule);
                }
                Err(_) => drop(done.omitted.insert(format!("{} {}: it was cut", call.method, call.target))),
            }
        }
    })?;
    anyhow::ensure!(!done.is_empty(), "the trail has no call of `{consumer}` that was allowed in this time");
    let file = rules.file.as_ref();
    let text: String =
        done.iter().map(|(upstream, done)| format_rules(file, (consumer, upstream), done)).collect();
    let calls: u64 = done.values().map(|done| done.calls).sum();
    output.print(&json!({"consumer": consumer, "calls": calls, "toml": text}), &text);
    Ok(true)
}

/// The rules of the configuration in force, by their names on the trail.
struct InForce {
    /// The configuration; `None` with a copied trail.
    file: Option<File>,
    known: BTreeMap<String, Option<Rule>>,
}

impl InForce {
    /// The rule that allowed the call; `None` if it is gone, or if another rule has its name now.
    fn that_allowed(&mut self, call: &Decided, target: &Target) -> Option<&Rule> {
        let (file, name) = (self.file.as_ref()?, call.rule.as_deref()?);
        if !self.known.contains_key(name) {
            self.known.insert(name.to_owned(), allowing_rule(file, name));
        }
        let rule = self.known.get(name)?.as_ref()?;
        let methods = rule.methods.as_deref().unwrap_or_default();
        let method =
            methods.is_empty() || methods.iter().any(|one| one.value == "*" || one.value == call.method);
        let is_for =
            |path: &str| PathPattern::parse(path).is_ok_and(|pattern| pattern.matches(target.path()));
        (method && rule.paths.iter().any(|path| is_for(&path.value))).then_some(rule)
    }
}

/// Formats the role and the grant for the configuration file.
fn format_rules(file: Option<&File>, (consumer, upstream): (&str, &str), done: &LearnedCalls) -> String {
    let role: String = format!("learned-{consumer}-{upstream}").chars().take(64).collect();
    let role = if Name::parse(&role).is_some() { role } else { "learned".into() };
    // One rule covers all paths with the same methods and conditions.
    let mut rules: BTreeMap<(&CallConditions, &BTreeSet<String>), Vec<&str>> = BTreeMap::new();
    for ((conditions, path), methods) in &done.methods {
        rules.entry((conditions, methods)).or_default().push(path);
    }
    let mut lines = vec![format!(
        "# What {consumer} did at {upstream}: {} calls. The trail has no bodies: conditions on them are those of the \
         rules that allowed the calls.",
        done.calls,
        upstream = printable_value(upstream)
    )];
    lines.extend(done.unknown_rules.iter().map(|name| {
        let name = printable_value(name);
        format!(
            "# Not in the configuration as it was: {name}. Add its conditions on the body, if it had any."
        )
    }));
    lines.extend(done.omitted.iter().map(|call| format!("# Left out: {}", printable_value(call))));
    lines.push(format!("[roles.{}]\nallow = [", toml_string(&role)));
    lines.extend(rules.into_iter().map(|(((query, body), methods), paths)| {
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        format_rule(Some(&methods), &paths, query, body)
    }));
    lines.push("]".into());
    let denials = denials(file, (consumer, upstream), done);
    if !denials.is_empty() {
        lines.push("deny = [".into());
        lines.extend(denials);
        lines.push("]".into());
    }
    let orgs = orgs(file, (consumer, upstream), done);
    let (consumer, upstream, role) = (toml_string(consumer), toml_string(upstream), toml_string(&role));
    lines.push(format!("[[grants]]\nconsumer = {consumer}\nupstream = {upstream}\nroles = [{role}]"));
    if !orgs.is_empty() {
        lines.push(format!("orgs = [{}]", orgs.join(", ")));
    }
    lines.join("\n") + "\n"
}

/// Formats a rule for a list; `None` for every method.
fn format_rule(methods: Option<&[&str]>, paths: &[&str], query: &Conditions, body: &Conditions) -> String {
    let list = |texts: &[&str]| texts.iter().map(|text| toml_string(text)).collect::<Vec<_>>().join(", ");
    let methods = methods.map(|methods| format!("methods = [{}], ", list(methods))).unwrap_or_default();
    format!("  {{ {methods}paths = [{}]{}{} }},", list(paths), table("query", query), table("body", body))
}

/// The organisations that were used, quoted. The first is the default of the grant in force, or else the
/// organisation with the most calls.
fn orgs(file: Option<&File>, (consumer, upstream): (&str, &str), done: &LearnedCalls) -> Vec<String> {
    let meant = file.and_then(|file| {
        let grant = file
            .grants
            .iter()
            .find(|grant| *grant.consumer.value == *consumer && *grant.upstream.value == *upstream)?;
        grant.orgs.first().map(|org| org.value.as_str())
    });
    let mut orgs: Vec<(&String, &u64)> = done.orgs.iter().collect();
    orgs.sort_by_key(|(org, calls)| (Some(org.as_str()) != meant, std::cmp::Reverse(**calls)));
    orgs.into_iter().map(|(org, _)| toml_string(org)).collect()
}

/// The deny rules in force that may match a call to a learned path by its query or body. Without them, the learned role
/// would allow more than before.
fn denials(file: Option<&File>, (consumer, upstream): (&str, &str), done: &LearnedCalls) -> BTreeSet<String> {
    let Some(file) = file else { return BTreeSet::new() };
    let grants = file.grants.iter();
    let grants =
        grants.filter(|grant| *grant.consumer.value == *consumer && *grant.upstream.value == *upstream);
    let granted: BTreeSet<&str> =
        grants.flat_map(|grant| &grant.roles).map(|role| role.value.as_str()).collect();
    let rules = granted.into_iter().flat_map(|role| denying_rules(file, role));
    rules.filter(|rule| !rule.shadow && is_met(rule, done)).map(|rule| denial(&rule)).collect()
}

/// Whether the rule has conditions on query or body, and its method and path may match a learned call.
fn is_met(rule: &Rule, done: &LearnedCalls) -> bool {
    if rule.query.is_empty() && rule.body.is_empty() {
        return false;
    }
    let names = |method: &String| {
        let named = rule.methods.as_ref();
        named.is_none_or(|named| named.iter().any(|one| one.value == "*" || one.value == *method))
    };
    let patterns: Vec<PathPattern> =
        rule.paths.iter().filter_map(|path| PathPattern::parse(&path.value).ok()).collect();
    done.methods.iter().any(|((_, path), methods)| {
        methods.iter().any(names) && patterns.iter().any(|pattern| pattern.may_match(&spelling::paths(path)))
    })
}

/// Formats a deny rule for a list.
fn denial(rule: &Rule) -> String {
    let (methods, paths) = (rule.methods.as_deref().map(texts), texts(&rule.paths));
    format_rule(methods.as_deref(), &paths, &conditions_of(&rule.query), &conditions_of(&rule.body))
}

fn texts(spanned: &[Spanned<String>]) -> Vec<&str> {
    spanned.iter().map(|text| text.value.as_str()).collect()
}

/// The conditions of a rule in force.
fn conditions_of(conditions: &[Condition]) -> Conditions {
    conditions.iter().map(|one| (one.name.value.clone(), one.pattern.value.clone())).collect()
}

/// Formats conditions as an inline table under `key`; empty if there are none.
fn table(key: &str, conditions: &Conditions) -> String {
    let members =
        conditions.iter().map(|(name, value)| format!("{} = {}", toml_string(name), toml_string(value)));
    let members: Vec<String> = members.collect();
    if members.is_empty() { String::new() } else { format!(", {key} = {{ {} }}", members.join(", ")) }
}

/// Formats a basic TOML string on one line: a JSON string is one, if its plain characters are printable.
fn toml_string(text: &str) -> String {
    printable_value(&json!(text).to_string()).into_owned()
}
