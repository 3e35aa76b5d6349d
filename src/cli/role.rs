//! `claviger role`: shows the roles that ship, and those of the configuration, as they are written.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::table::table;
use super::{Output, eprint};
use crate::config::{self, Declared, Pack, did_you_mean, file};

/// A subcommand of `role`.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// List the roles that ship with claviger, and those of the configuration
    List,
    /// Show what a role allows and denies
    Show {
        /// The name of the role in grants: `jumpserver:read-only`, or that of a role of the configuration
        #[arg(value_name = "ROLE")]
        name: String,
    },
}

/// Runs the subcommand. It needs no configuration: without one, only the roles that ship are known.
pub(super) fn run(path: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let configured = configured_roles(path)?;
    let packs: Vec<Pack> = Pack::all().collect();
    match verb {
        Verb::List => list(&packs, &configured, output),
        Verb::Show { name } => show(&packs, &configured, name, output)?,
    }
    Ok(true)
}

/// The roles of the file at `path`; empty if there is no such file.
fn configured_roles(path: &Path) -> anyhow::Result<Declared<file::Role>> {
    if std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        eprint(&format!(
            "there is no configuration at {}: only the roles that ship are known\n",
            path.display()
        ));
        return Ok(Declared::default());
    }
    Ok(config::load(path)?.checked()?.roles)
}

/// The full names of the roles that ship.
fn shipped_names(packs: &[Pack]) -> impl Iterator<Item = (String, String)> {
    packs.iter().flat_map(|pack| {
        let names = pack.roles.names();
        names.map(|name| (format!("{}:{name}", pack.product), pack.describe_role(name)))
    })
}

fn list(packs: &[Pack], configured: &Declared<file::Role>, output: Output) {
    let shipped = shipped_names(packs).map(|(name, about)| (name, "ships", about));
    let configured = configured.names().map(|name| (name.to_owned(), "in the configuration", String::new()));
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (name, source, about) in shipped.chain(configured) {
        values.push(json!({ "name": name, "ships": source == "ships", "about": about }));
        rows.push([name, source.to_owned(), sentence(&about)]);
    }
    output.print(&Value::from(values), &table(&["role", "where", "about"], rows, "there are no roles"));
}

/// The first sentence of a text.
fn sentence(text: &str) -> String {
    let line = text.replace('\n', " ");
    line.split_once(". ").map_or_else(|| line.clone(), |(first, _)| format!("{first}."))
}

/// One role, with the deny rules that are added to it.
struct RoleView<'r> {
    /// The name of the role in grants and on the trail.
    name: String,
    about: String,
    role: &'r file::Role,
    with: Option<(String, &'r file::Role)>,
}

fn show(packs: &[Pack], configured: &Declared<file::Role>, name: &str, output: Output) -> anyhow::Result<()> {
    let shipped = name.split_once(':').and_then(|(product, short)| {
        let pack = packs.iter().find(|pack| pack.product == product)?;
        let role = pack.roles.find(short)?;
        let with = pack.goes_with(short).map(|with| (format!("{product}:{}", with.name.value), with));
        let about = format!("{}\n\n{}", pack.describe_role(short), pack.about);
        Some(RoleView { name: name.to_owned(), about, role, with })
    });
    let configured_role = || {
        let role = configured.find(name)?;
        Some(RoleView { name: name.to_owned(), about: String::new(), role, with: None })
    };
    let Some(view) = shipped.or_else(configured_role) else {
        let known: Vec<String> = shipped_names(packs).map(|(name, _)| name).collect();
        let known = known.iter().map(String::as_str).chain(configured.names());
        match did_you_mean(name, known) {
            Some(meant) => bail!("there is no role `{name}`; did you mean `{meant}`?"),
            None => bail!("there is no role `{name}`; `claviger role list` names those there are"),
        }
    };
    output.print(&view.json(), &view.text());
    Ok(())
}

impl RoleView<'_> {
    /// The rules of one kind, each with its name on the trail.
    fn rules(&self, deny: bool) -> impl Iterator<Item = (String, &file::Rule)> {
        let (kind, rules) = if deny { ("deny", &self.role.deny) } else { ("allow", &self.role.allow) };
        let with = self.with.iter().filter(move |_| deny).map(|(name, role)| (name.as_str(), &role.deny));
        std::iter::once((self.name.as_str(), rules)).chain(with).flat_map(move |(name, rules)| {
            rules.iter().enumerate().map(move |(at, rule)| (format!("{name}.{kind}[{at}]"), rule))
        })
    }

    fn json(&self) -> Value {
        let rules = |deny| self.rules(deny).map(|(name, rule)| json_rule(&name, rule)).collect::<Vec<_>>();
        let with = self.with.as_ref().map(|(name, _)| name);
        json!({
            "name": self.name, "about": self.about, "with": with, "allow": rules(false), "deny": rules(true),
        })
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", self.name);
        for line in self.about.lines() {
            let line = format!("    {line}");
            out.push_str(line.trim_end());
            out.push('\n');
        }
        if let Some((with, _)) = &self.with {
            // Writing into a string cannot fail.
            writeln!(out, "\nThe denials of {with} go with it.").unwrap_or_default();
        }
        for (deny, heading) in [(false, "allows"), (true, "denies, whatever allows it")] {
            writeln!(out, "\n{heading}").unwrap_or_default();
            let mut rules = self.rules(deny).peekable();
            if rules.peek().is_none() {
                out.push_str("    nothing\n");
            }
            for (name, rule) in rules {
                writeln!(out, "    {name}: {}", conditions(rule)).unwrap_or_default();
                for path in &rule.paths {
                    writeln!(out, "        {}", path.value).unwrap_or_default();
                }
            }
        }
        out
    }
}

/// The conditions of a rule, apart from its path.
fn conditions(rule: &file::Rule) -> String {
    let mut text = match methods(rule).as_slice() {
        [] => "any method".to_owned(),
        some => some.join(" "),
    };
    for (place, conditions) in [("query", &rule.query), ("body", &rule.body)] {
        for condition in conditions {
            let (name, pattern) = (&condition.name.value, &condition.pattern.value);
            write!(text, ", {place} {name} = {pattern:?}").unwrap_or_default();
        }
    }
    if rule.shadow {
        text.push_str(", shadow: not enforced");
    }
    text
}

/// The methods of a rule; empty for any.
fn methods(rule: &file::Rule) -> Vec<&str> {
    let named: Vec<&str> = rule.methods.iter().flatten().map(|method| method.value.as_str()).collect();
    if named.contains(&"*") { Vec::new() } else { named }
}

fn json_rule(name: &str, rule: &file::Rule) -> Value {
    let members = |conditions: &[file::Condition]| -> Map<String, Value> {
        let pair = |condition: &file::Condition| {
            (condition.name.value.clone(), condition.pattern.value.clone().into())
        };
        conditions.iter().map(pair).collect()
    };
    let methods = methods(rule);
    json!({
        "rule": name,
        "methods": if methods.is_empty() { vec!["*"] } else { methods },
        "paths": rule.paths.iter().map(|path| path.value.as_str()).collect::<Vec<_>>(),
        "query": members(&rule.query),
        "body": members(&rule.body),
        "mode": if rule.shadow { "shadow" } else { "enforce" },
    })
}
