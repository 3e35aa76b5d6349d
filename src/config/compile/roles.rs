//! Compiles `[roles.…]`: named sets of rules.

use http::Method;

use super::inputs::patterns;
use crate::config::{Problem, Problems, Spanned, file};
use crate::policy::{Condition, Glob, Role, Rule};
use crate::spelling::NamePattern;

/// Compiles a role; `name` stands before the names of its rules on the trail.
pub(super) fn compile(name: &str, role: &file::Role, problems: &mut Problems) -> Role {
    let members = role.allow.iter().flat_map(|rule| &rule.body).map(|condition| &condition.name);
    for member in members.filter(|member| member.value.contains('*')) {
        let title = format!("`{}` is a pattern, and an allowing rule names a member exactly", member.value);
        problems.push(Problem::error(member.span, title).help("write the member's whole name"));
    }
    let mut rules = |kind: &str, rules: &[file::Rule]| -> Vec<Rule> {
        let compile = |(at, rule)| {
            futile_conditions(rule, kind == "allow", problems);
            if kind == "allow" {
                futile_methods(rule, problems);
            }
            compile_rule(format!("{name}.{kind}[{at}]"), rule, problems)
        };
        rules.iter().enumerate().map(compile).collect()
    };
    Role { allow: rules("allow", &role.allow), deny: rules("deny", &role.deny) }
}

/// Warns of methods that are never forwarded, whatever a rule allows.
fn futile_methods(rule: &file::Rule, problems: &mut Problems) {
    let never = |method: &&Spanned<String>| matches!(method.value.as_str(), "CONNECT" | "TRACE");
    for method in rule.methods.iter().flatten().filter(never) {
        let title = format!("`{}` is never forwarded: to allow it allows nothing", method.value);
        problems.push(Problem::warning(method.span, title).help("remove it"));
    }
}

/// Reports conditions that no call can meet: the rule would silently have no effect.
fn futile_conditions(rule: &file::Rule, allows: bool, problems: &mut Problems) {
    for (kind, conditions) in [("query", &rule.query), ("body", &rule.body)] {
        for file::Condition { name, pattern } in conditions {
            let blank_ends = name.value.trim() != name.value;
            let why = match kind {
                _ if name.value.is_empty() => "a member without a name is never looked at",
                "body" if !name.value.is_ascii() => "a body with a member name beyond ASCII is not judged",
                "body" if blank_ends || name.value.contains(char::is_control) => {
                    "a body with blanks at the ends of a member name, or controls in it, is not judged"
                }
                _ => "",
            };
            if !why.is_empty() {
                let title = format!("this condition on the {kind} can never hold: {why}");
                problems.push(Problem::error(name.span, title));
            }
            // An allow rule needs a value that is not blank; a deny rule never tests an empty query value either.
            if pattern.value.trim().is_empty() && (allows || kind == "query") {
                let title =
                    format!("this condition on the {kind} can never hold: an empty value counts as absent");
                problems.push(Problem::error(pattern.span, title).help("write \"*\" for any value"));
            }
        }
    }
}

fn compile_rule(name: String, rule: &file::Rule, problems: &mut Problems) -> Rule {
    let paths = patterns(&rule.paths, problems);
    let methods = rule.methods.iter().flatten();
    let any = methods.clone().any(|method| method.value == "*");
    let methods =
        methods.filter(|_| !any).filter_map(|method| Method::from_bytes(method.value.as_bytes()).ok());
    let condition = |file::Condition { name, pattern }: &file::Condition| -> Condition {
        (NamePattern::new(&name.value), Glob::new(&pattern.value))
    };
    let conditions = |conditions: &[file::Condition]| conditions.iter().map(condition).collect();
    let (query, body) = (conditions(&rule.query), conditions(&rule.body));
    Rule { name: name.into(), shadow: rule.shadow, methods: methods.collect(), paths, query, body }
}
