//! `claviger role`: shows the roles that ship, and those of the configuration, as they are written.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::table;
use super::{Output, eprint, print, tell_problems};
use crate::config::{self, Declared, Pack, did_you_mean, file};

/// What may be asked.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// List the roles that ship, and those of the configuration
    List,
    /// Show what a role allows and denies
    Show {
        /// The role, as grants name it: `jumpserver:read-only`, or one of the configuration's own
        #[arg(value_name = "ROLE")]
        name: String,
    },
}

/// Runs the subcommand. It needs no configuration: without one, only the roles that ship are known.
pub(super) fn run(path: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let Some(own) = configured_roles(path) else { return Ok(false) };
    let packs: Vec<Pack> = Pack::all().collect();
    match verb {
        Verb::List => list(&packs, &own, output),
        Verb::Show { name } => show(&packs, &own, name, output)?,
    }
    Ok(true)
}

/// The roles of the file at `path`; empty if there is no such file, and `None` if it cannot be read.
fn configured_roles(path: &Path) -> Option<Declared<file::Role>> {
    if std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        eprint(&format!("no configuration at {}: only the roles that ship are known\n", path.display()));
        return Some(Declared::default());
    }
    match config::read_file(path) {
        Ok((file, problems)) if !problems.has_errors() => Some(file.roles),
        Ok((_, problems)) | Err(problems) => {
            tell_problems(&problems);
            None
        }
    }
}

fn list(packs: &[Pack], own: &Declared<file::Role>, output: Output) {
    let own = own.names().map(|name| (name.to_owned(), "in the configuration", String::new()));
    let shipped = packs.iter().flat_map(|pack| {
        let named = pack.roles.names();
        named.map(|name| (format!("{}:{name}", pack.product), "ships", pack.describe_role(name)))
    });
    let roles = shipped.chain(own);
    match output {
        Output::Json => {
            let roles: Vec<Value> = roles
                .map(|(name, from, about)| json!({ "name": name, "ships": from == "ships", "about": about }))
                .collect();
            print(&format!("{}\n", Value::from(roles)));
        }
        Output::Text => {
            let rows = roles.map(|(name, from, about)| [name, from.to_owned(), sentence(&about)]).collect();
            print(&table::table(["role", "where", "about"], rows, "there are no roles"));
        }
    }
}

/// The first sentence of a text.
fn sentence(text: &str) -> String {
    let line = text.replace('\n', " ");
    line.split_once(". ").map_or_else(|| line.clone(), |(first, _)| format!("{first}."))
}

/// One role, with the deny rules that are added to it.
struct Shown<'r> {
    /// The name of the role in grants and on the trail.
    name: String,
    about: String,
    role: &'r file::Role,
    with: Option<(String, &'r file::Role)>,
}

fn show(packs: &[Pack], own: &Declared<file::Role>, name: &str, output: Output) -> anyhow::Result<()> {
    let known = || {
        let shipped = packs.iter();
        let shipped =
            shipped.flat_map(|pack| pack.roles.names().map(|role| format!("{}:{role}", pack.product)));
        shipped.chain(own.names().map(str::to_owned)).collect::<Vec<_>>()
    };
    let shipped = name.split_once(':').and_then(|(product, short)| {
        let pack = packs.iter().find(|pack| pack.product == product)?;
        let role = pack.roles.find(short)?;
        let with = pack.goes_with(short).map(|with| (format!("{product}:{}", with.name.value), with));
        let about = format!("{}\n\n{}", pack.describe_role(short), pack.about);
        Some(Shown { name: name.to_owned(), about, role, with })
    });
    let own = || {
        let role = own.find(name)?;
        Some(Shown { name: name.to_owned(), about: String::new(), role, with: None })
    };
    let Some(shown) = shipped.or_else(own) else {
        let known = known();
        match did_you_mean(name, known.iter().map(String::as_str)) {
            Some(meant) => bail!("there is no role `{name}`; did you mean `{meant}`?"),
            None => bail!("there is no role `{name}`; `claviger role list` names those there are"),
        }
    };
    match output {
        Output::Json => print(&format!("{}\n", shown.json())),
        Output::Text => print(&shown.text()),
    }
    Ok(())
}

impl Shown<'_> {
    /// The rules of one kind, each with its name on the trail.
    fn rules(&self, deny: bool) -> impl Iterator<Item = (String, &file::Rule)> {
        let own =
            std::iter::once((self.name.as_str(), if deny { &self.role.deny } else { &self.role.allow }));
        let with = self.with.iter().filter(move |_| deny).map(|(name, role)| (name.as_str(), &role.deny));
        let kind = if deny { "deny" } else { "allow" };
        own.chain(with).flat_map(move |(name, rules)| {
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
        for (deny, heading, none) in
            [(false, "allows", "nothing"), (true, "denies, whatever allows it", "nothing")]
        {
            writeln!(out, "\n{heading}").unwrap_or_default();
            let mut rules = self.rules(deny).peekable();
            if rules.peek().is_none() {
                writeln!(out, "    {none}").unwrap_or_default();
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
        for wanted in conditions {
            write!(text, ", {place} {} = {:?}", wanted.name.value, wanted.pattern.value).unwrap_or_default();
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
        conditions
            .iter()
            .map(|wanted| (wanted.name.value.clone(), wanted.pattern.value.clone().into()))
            .collect()
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
