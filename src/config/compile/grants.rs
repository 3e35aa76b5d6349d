//! Compiles `[consumers.…]`, `[roles.…]` and `[[grants]]`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;

use super::role_packs::Packs;
use super::unknown;
use super::upstreams::{ROOT_ORG, Upstreams};
use crate::config::file::{self, File};
use crate::config::{Problem, Problems, Span, Spanned};
use crate::custody::UnsealedStore;
use crate::gateway::Snapshot;
use crate::ids::{CredentialId, UpstreamId};
use crate::inbound::{Consumer, Directory, TokenRecord};
use crate::name::Name;
use crate::origin::Origin;
use crate::policy::{Condition, Glob, Grant, PathPattern, Policy, Role, Rule};
use crate::spelling::NamePattern;
use crate::upstream::Upstream;

/// The compiled rules of access: which consumer may do what.
pub(super) struct Access {
    pub(super) directory: Directory,
    pub(super) policy: Policy,
}

pub(super) fn compile(
    file: &File,
    problems: &mut Problems,
    upstreams: &mut Upstreams,
    (stored, former, now): (Option<&UnsealedStore>, Option<&Snapshot>, SystemTime),
) -> Access {
    let directory = directory(file, problems, (stored, former));
    let roles: HashMap<&str, Arc<Role>> =
        file.roles.iter().map(|(name, role)| (name, Arc::new(compile_role(name, role, problems)))).collect();
    let packs = Packs::default();
    let mut work = GrantCompiler { file, problems, upstreams, roles: &roles, packs, stored, now };
    let mut grants = Vec::with_capacity(file.grants.len());
    for grant in &file.grants {
        if let Some(compiled) = work.compile(grant)
            && let Some(consumer) = directory.id_of(&grant.consumer.value)
        {
            grants.push((consumer, compiled));
        }
    }
    Access { directory, policy: Policy::new(grants) }
}

/// The consumers of the file, then those of the store. If both have a name, the file sets the limits, the store says
/// whether it is disabled, and the tokens of both are valid.
fn directory(
    file: &File,
    problems: &mut Problems,
    (stored, former): (Option<&UnsealedStore>, Option<&Snapshot>),
) -> Directory {
    let mut entries: Vec<(Consumer, Vec<TokenRecord>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut seen: HashMap<[u8; 32], Span> = HashMap::new();
    for (name, consumer) in file.consumers.iter() {
        let mut tokens = Vec::new();
        for digest in &consumer.token_sha256 {
            match seen.insert(digest.value, digest.span) {
                None => tokens.push(digest.value.into()),
                Some(first) => {
                    let problem = Problem::error(digest.span, "this token is declared twice");
                    problems.push(problem.related(first, "the first is here"));
                }
            }
        }
        let consumer = Consumer {
            requests_per_minute: consumer.requests_per_minute,
            concurrency: consumer.concurrency,
            ..Consumer::new(consumer.name.value)
        };
        places.insert(name, entries.len());
        entries.push((consumer, tokens));
    }
    if let Some(stored) = stored {
        super::store_rows::consumers(&stored.rows, &mut entries, &mut places, |digest| {
            seen.contains_key(digest)
        });
    }
    let keys = stored.map(|stored| super::store_rows::access_keys(stored, former, &places));
    Directory::new(entries).unwrap_or_default().with_keys(keys.unwrap_or_default())
}

pub(super) fn compile_role(name: &str, role: &file::Role, problems: &mut Problems) -> Role {
    for wanted in
        role.allow.iter().flat_map(|rule| &rule.body).filter(|wanted| wanted.name.value.contains('*'))
    {
        let title =
            format!("`{}` is a pattern, and an allowing rule names a member exactly", wanted.name.value);
        problems.push(Problem::error(wanted.name.span, title).help("write the member's whole name"));
    }
    let mut rules = |kind: &str, rules: &[file::Rule]| -> Vec<Rule> {
        let numbered = rules.iter().enumerate();
        let kept = numbered.map(|(at, rule)| {
            futile_conditions(rule, kind == "allow", problems);
            if kind == "allow" {
                futile_methods(rule, problems);
            }
            compile_rule(format!("{name}.{kind}[{at}]"), rule, problems)
        });
        kept.collect()
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
    let mut paths = Vec::new();
    for path in &rule.paths {
        match PathPattern::parse(&path.value) {
            Ok(pattern) => paths.push(pattern),
            Err(title) => problems.push(Problem::error(path.span, title)),
        }
    }
    let methods = rule.methods.iter().flatten();
    let any = methods.clone().any(|method| method.value == "*");
    let methods =
        methods.filter(|_| !any).filter_map(|method| Method::from_bytes(method.value.as_bytes()).ok());
    let conditions = |conditions: &[file::Condition]| -> Vec<Condition> {
        let read = |wanted: &file::Condition| {
            (NamePattern::new(&wanted.name.value), Glob::new(&wanted.pattern.value))
        };
        conditions.iter().map(read).collect()
    };
    let (query, body) = (conditions(&rule.query), conditions(&rule.body));
    Rule { name: name.into(), shadow: rule.shadow, methods: methods.collect(), paths, query, body }
}

struct GrantCompiler<'a> {
    file: &'a File,
    problems: &'a mut Problems,
    upstreams: &'a mut Upstreams,
    roles: &'a HashMap<&'a str, Arc<Role>>,
    packs: Packs,
    stored: Option<&'a UnsealedStore>,
    now: SystemTime,
}

impl GrantCompiler<'_> {
    /// Compiles a grant; `None` if something that it names is missing.
    fn compile(&mut self, grant: &file::Grant) -> Option<Grant> {
        let file = self.file;
        if !file.consumers.declares(&grant.consumer.value) {
            let nearest = file.consumers.did_you_mean(&grant.consumer.value);
            match self.stored {
                None => self.problems.push(unknown("consumer", &grant.consumer, nearest)),
                // A consumer that was removed at run time must not stop the next change from taking effect.
                Some(stored) if stored.consumer(&grant.consumer.value).is_none() => {
                    let title = format!("neither file nor store has a consumer `{}`", grant.consumer.value);
                    let problem = Problem::warning(grant.consumer.span, title);
                    self.problems.push(problem.help("claviger consumer add, or remove the grant"));
                }
                Some(_) => {}
            }
        }
        let roles: Vec<Arc<Role>> = grant.roles.iter().filter_map(|role| self.role(role)).collect();
        let Some(declared) = file.upstreams.find(&grant.upstream.value) else {
            if !file.upstreams.declares(&grant.upstream.value) {
                let nearest = file.upstreams.did_you_mean(&grant.upstream.value);
                self.problems.push(unknown("upstream", &grant.upstream, nearest));
            }
            return None;
        };
        self.foreign_roles(grant, declared);
        let upstream = *self.upstreams.places.get(&grant.upstream.value)?;
        let orgs = self.orgs(grant, declared, upstream);
        let credential = self.credential(grant, declared, upstream)?;
        let expires = grant.expires.as_ref().map(|at| SystemTime::from(at.value));
        if let (Some(at), Some(end)) = (&grant.expires, expires)
            && end <= self.now
        {
            self.problems
                .push(Problem::warning(at.span, "this grant has expired").help("remove it, or extend it"));
        }
        Some(Grant { upstream, roles, orgs, credential, expires })
    }

    fn role(&mut self, role: &Spanned<String>) -> Option<Arc<Role>> {
        if let Some(found) = self.roles.get(role.value.as_str()) {
            return Some(Arc::clone(found));
        }
        if role.value.contains(':') {
            let found = self.packs.role(&role.value);
            if found.is_none() {
                self.problems.push(Packs::unknown(role));
            }
            return found;
        }
        if !self.file.roles.declares(&role.value) {
            self.problems.push(unknown("role", role, self.file.roles.did_you_mean(&role.value)));
        }
        None
    }

    /// Reports shipped roles for another product: they would allow nothing, and what they deny would pass.
    fn foreign_roles(&mut self, grant: &file::Grant, declared: &file::Upstream) {
        let Some(product) = declared.profile.value.product() else { return };
        for role in grant.roles.iter().filter(|role| Packs::is_of_another(role, product)) {
            let title = format!("`{}` is not for an upstream whose profile is `{product}`", role.value);
            let problem = Problem::error(role.span, title).help("name roles of the upstream's own product");
            self.problems.push(problem.related(declared.profile.span, "the profile"));
        }
    }

    fn orgs(
        &mut self,
        grant: &file::Grant,
        declared: &file::Upstream,
        upstream: UpstreamId,
    ) -> Vec<Arc<str>> {
        let pin = self.upstreams.get(upstream).and_then(|upstream| upstream.org.as_ref());
        let Some(pin) = pin else {
            if let Some(org) = grant.orgs.first() {
                let title = "this upstream's product has no organisations";
                self.problems.push(Problem::error(org.span, title).help("remove `orgs`"));
            }
            return Vec::new();
        };
        // claviger sends only the id, never an alias or a declared name.
        let id = |org: &Spanned<String>| pin.id_of(&org.value).into();
        if !grant.orgs.is_empty() {
            return grant.orgs.iter().map(id).collect();
        }
        match &declared.org {
            Some(org) if pin.id_of(&org.value) == ROOT_ORG => {
                let title = "the root organisation sees across all others: a grant must name it itself";
                let help = format!("write `orgs = [\"{ROOT_ORG}\"]` in this grant, if that is meant");
                self.problems
                    .push(Problem::error(grant.span, title).help(help).related(org.span, "the default"));
                Vec::new()
            }
            Some(org) => vec![id(org)],
            None => {
                let title =
                    "a call without an organisation lands in the default one, wherever it was meant for";
                let help = "write `orgs = [\"…\"]` in this grant, or `org = \"…\"` in the upstream";
                self.problems.push(Problem::error(grant.span, title).help(help));
                Vec::new()
            }
        }
    }

    /// The index of the credential; its first use binds it to the upstream's origin.
    fn credential(
        &mut self,
        grant: &file::Grant,
        declared: &file::Upstream,
        upstream: UpstreamId,
    ) -> Option<CredentialId> {
        let Some(wanted) = grant.credential.as_ref().or(declared.credential.as_ref()) else {
            let help = "write `credential = \"…\"` in this grant or in the upstream";
            self.problems
                .push(Problem::error(grant.span, "there is no credential for this grant").help(help));
            return None;
        };
        let in_file = self.file.credentials.declares(&wanted.value);
        if !in_file && let Some(stored) = self.stored {
            self.in_store(stored, wanted, declared.name.value.as_str());
        } else if !in_file {
            if let Some(nearest) = self.file.credentials.did_you_mean(&wanted.value) {
                self.problems.push(unknown("credential", wanted, Some(nearest)));
            } else {
                // It may be a secret that was pasted instead of a name.
                self.problems.hide(wanted.span);
                let problem = Problem::error(wanted.span, "there is no credential of this name");
                self.problems.push(problem.help("name one that is declared under `[credentials.…]`"));
            }
            return None;
        }
        let next = CredentialId::new(self.upstreams.credentials.len());
        let (credential, bound) = *self.upstreams.credentials.entry(wanted.value).or_insert((next, upstream));
        let origins = |id: UpstreamId| self.upstreams.get(id).map(Upstream::origins);
        if let (Some(here), Some(there)) = (origins(upstream), origins(bound))
            && here != there
        {
            let join = |origins: &[Origin]| {
                origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
            };
            let (here, there) = (join(&here), join(&there));
            let title =
                format!("the credential `{}` is bound to {there} and cannot go to {here}", wanted.value);
            let help = "declare another credential for this upstream, even if the key is the same";
            self.problems.push(Problem::error(wanted.span, title).help(help));
        }
        self.check_credential(wanted, declared, upstream);
        Some(credential)
    }

    /// Reports a credential of a kind that the upstream's scheme cannot use.
    fn check_credential(&mut self, wanted: &Spanned<Name>, declared: &file::Upstream, upstream: UpstreamId) {
        let Some(credential) = self.file.credentials.find(&wanted.value) else { return };
        let Some(upstream) = self.upstreams.get(upstream) else { return };
        let (given, fitting) = (credential.kind, upstream.scheme.kind());
        if given != fitting {
            let (scheme, given, fitting) = (upstream.scheme.as_str(), given.as_str(), fitting.as_str());
            let title = format!(
                "the scheme `{scheme}` cannot put on `{}`, a credential of kind `{given}`",
                wanted.value
            );
            let help = format!("name one of kind `{fitting}`, or give the upstream another scheme");
            let problem = Problem::error(wanted.span, title).help(help);
            self.problems.push(problem.related(declared.scheme.span, "the scheme"));
        }
    }

    /// Checks a credential that the file does not declare: the store may hold it for this upstream. If it is missing,
    /// the next change must still take effect.
    fn in_store(&mut self, stored: &UnsealedStore, wanted: &Spanned<Name>, upstream: &str) {
        let title = match stored.credential(&wanted.value) {
            None => format!("neither file nor store has a credential `{}`", wanted.value),
            Some(row) if row.upstream != upstream => {
                format!("the credential `{}` was added for the upstream `{}`", wanted.value, row.upstream)
            }
            Some(_) => return,
        };
        let help = format!("claviger credential add {} --upstream {upstream} --kind …", wanted.value);
        self.problems.push(Problem::warning(wanted.span, title).help(help));
    }
}
