//! Compiles `[consumers.…]`, `[roles.…]` and `[[grants]]`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::defaults::ROOT_ORG;
use super::inputs::{Scope, unknown};
use super::role_packs::Packs;
use super::upstreams::Upstreams;
use super::{roles, store_rows};
use crate::config::file;
use crate::config::{Problem, Span, Spanned};
use crate::custody::UnsealedStore;
use crate::ids::{CredentialId, UpstreamId};
use crate::inbound::{Consumer, Directory, TokenRecord};
use crate::name::Name;
use crate::origin::Origin;
use crate::policy::{Grant, Policy, Role};
use crate::upstream::Upstream;

/// The compiled rules of access: which consumer may do what.
pub(super) struct Access {
    pub(super) directory: Directory,
    pub(super) policy: Policy,
}

pub(super) fn compile(scope: &mut Scope<'_>, upstreams: &mut Upstreams) -> Access {
    let directory = directory(scope);
    let compile = |(name, role)| (name, Arc::new(roles::compile(name, role, scope.problems)));
    let roles: HashMap<&str, Arc<Role>> = scope.file.roles.iter().map(compile).collect();
    let file = scope.file;
    let mut compiler = GrantCompiler { scope, upstreams, roles, packs: Packs::default() };
    let grants = file.grants.iter().filter_map(|grant| {
        let permission = compiler.compile(grant)?;
        Some((directory.id_of(&grant.consumer.value)?, permission))
    });
    let policy = Policy::new(grants.collect());
    Access { directory, policy }
}

/// The consumers of the file, then those of the store. If both have a name, the file sets the limits, the store says
/// whether it is disabled, and the tokens of both are valid.
fn directory(scope: &mut Scope<'_>) -> Directory {
    let mut entries: Vec<(Consumer, Vec<TokenRecord>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut seen: HashMap<[u8; 32], Span> = HashMap::new();
    for (name, consumer) in scope.file.consumers.iter() {
        let mut tokens = Vec::new();
        for digest in &consumer.token_sha256 {
            match seen.insert(digest.value, digest.span) {
                None => tokens.push(digest.value.into()),
                Some(first) => {
                    let problem = Problem::error(digest.span, "this token is declared twice");
                    scope.problems.push(problem.related(first, "the first is here"));
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
    let Some(stored) = scope.inputs.stored else { return Directory::new(entries).unwrap_or_default() };
    store_rows::consumers(&stored.rows, &mut entries, &mut places, |digest| seen.contains_key(digest));
    let keys = store_rows::access_keys(stored, scope.inputs.base.former(), &places);
    Directory::new(entries).unwrap_or_default().with_keys(keys)
}

struct GrantCompiler<'a, 's> {
    scope: &'a mut Scope<'s>,
    upstreams: &'a mut Upstreams,
    roles: HashMap<&'a str, Arc<Role>>,
    packs: Packs,
}

impl GrantCompiler<'_, '_> {
    /// Compiles a grant; `None` if something that it names is missing.
    fn compile(&mut self, grant: &file::Grant) -> Option<Grant> {
        let file = self.scope.file;
        if !file.consumers.declares(&grant.consumer.value) {
            match self.scope.inputs.stored {
                None => self.scope.problems.push(unknown("consumer", &grant.consumer, &file.consumers)),
                // A consumer that was removed at run time must not stop the next change from taking effect.
                Some(stored) if stored.rows.consumer(&grant.consumer.value).is_none() => {
                    let title = format!("neither file nor store has a consumer `{}`", grant.consumer.value);
                    let problem = Problem::warning(grant.consumer.span, title);
                    self.scope.problems.push(problem.help("claviger consumer add, or remove the grant"));
                }
                Some(_) => {}
            }
        }
        let roles: Vec<Arc<Role>> = grant.roles.iter().filter_map(|role| self.role(role)).collect();
        let Some(declared) = file.upstreams.find(&grant.upstream.value) else {
            if !file.upstreams.declares(&grant.upstream.value) {
                self.scope.problems.push(unknown("upstream", &grant.upstream, &file.upstreams));
            }
            return None;
        };
        self.foreign_roles(grant, declared);
        let upstream = *self.upstreams.places.get(&grant.upstream.value)?;
        let orgs = self.orgs(grant, declared, upstream);
        let credential = self.credential(grant, declared, upstream)?;
        let expires = grant.expires.as_ref().map(|at| SystemTime::from(at.value));
        if let (Some(at), Some(end)) = (&grant.expires, expires)
            && end <= self.scope.inputs.now
        {
            self.scope
                .problems
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
                self.scope.problems.push(Packs::unknown(role));
            }
            return found;
        }
        if !self.scope.file.roles.declares(&role.value) {
            self.scope.problems.push(unknown("role", role, &self.scope.file.roles));
        }
        None
    }

    /// Reports shipped roles for another product: they would allow nothing, and what they deny would pass.
    fn foreign_roles(&mut self, grant: &file::Grant, declared: &file::Upstream) {
        let Some(product) = declared.profile.value.product() else { return };
        for role in grant.roles.iter().filter(|role| Packs::is_of_another(role, product)) {
            let title = format!("`{}` is not for an upstream whose profile is `{product}`", role.value);
            let problem = Problem::error(role.span, title).help("name roles of the upstream's own product");
            self.scope.problems.push(problem.related(declared.profile.span, "the profile"));
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
                self.scope.problems.push(Problem::error(org.span, title).help("remove `orgs`"));
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
                self.scope
                    .problems
                    .push(Problem::error(grant.span, title).help(help).related(org.span, "the default"));
                Vec::new()
            }
            Some(org) => vec![id(org)],
            None => {
                let title =
                    "a call without an organisation lands in the default one, wherever it was meant for";
                let help = "write `orgs = [\"…\"]` in this grant, or `org = \"…\"` in the upstream";
                self.scope.problems.refuse(grant.span, title, help).unwrap_or_default()
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
        let Some(named) = grant.credential.as_ref().or(declared.credential.as_ref()) else {
            let help = "write `credential = \"…\"` in this grant or in the upstream";
            let title = "there is no credential for this grant";
            return self.scope.problems.refuse(grant.span, title, help);
        };
        let in_file = self.scope.file.credentials.declares(&named.value);
        if !in_file && let Some(stored) = self.scope.inputs.stored {
            self.in_store(stored, named, declared.name.value.as_str());
        } else if !in_file {
            if self.scope.file.credentials.did_you_mean(&named.value).is_some() {
                self.scope.problems.push(unknown("credential", named, &self.scope.file.credentials));
            } else {
                // It may be a secret that was pasted instead of a name.
                self.scope.problems.hide(named.span);
                let problem = Problem::error(named.span, "there is no credential of this name");
                self.scope.problems.push(problem.help("name one that is declared under `[credentials.…]`"));
            }
            return None;
        }
        let next = CredentialId::new(self.upstreams.credentials.len());
        let (credential, bound) = *self.upstreams.credentials.entry(named.value).or_insert((next, upstream));
        let origins = |id: UpstreamId| self.upstreams.get(id).map(Upstream::origins);
        if let (Some(here), Some(there)) = (origins(upstream), origins(bound))
            && here != there
        {
            let join = |origins: &[Origin]| {
                origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
            };
            let (here, there) = (join(&here), join(&there));
            let title =
                format!("the credential `{}` is bound to {there} and cannot go to {here}", named.value);
            let help = "declare another credential for this upstream, even if the key is the same";
            self.scope.problems.push(Problem::error(named.span, title).help(help));
        }
        self.check_credential(named, declared, upstream);
        Some(credential)
    }

    /// Reports a credential of a kind that the upstream's scheme cannot use.
    fn check_credential(&mut self, named: &Spanned<Name>, declared: &file::Upstream, upstream: UpstreamId) {
        let Some(credential) = self.scope.file.credentials.find(&named.value) else { return };
        let Some(upstream) = self.upstreams.get(upstream) else { return };
        let (found, fitting) = (credential.kind, upstream.scheme.kind());
        if found != fitting {
            let (scheme, found, fitting) = (upstream.scheme.as_str(), found.as_str(), fitting.as_str());
            let title = format!(
                "the scheme `{scheme}` cannot put on `{}`, a credential of kind `{found}`",
                named.value
            );
            let help = format!("name one of kind `{fitting}`, or give the upstream another scheme");
            let problem = Problem::error(named.span, title).help(help);
            self.scope.problems.push(problem.related(declared.scheme.span, "the scheme"));
        }
    }

    /// Checks a credential that the file does not declare: the store may hold it for this upstream. If it is missing,
    /// the next change must still take effect.
    fn in_store(&mut self, stored: &UnsealedStore, named: &Spanned<Name>, upstream: &str) {
        let title = match stored.rows.credential(&named.value) {
            None => format!("neither file nor store has a credential `{}`", named.value),
            Some(row) if row.upstream != upstream => {
                format!("the credential `{}` was added for the upstream `{}`", named.value, row.upstream)
            }
            Some(_) => return,
        };
        let help = format!("claviger credential add {} --upstream {upstream} --kind …", named.value);
        self.scope.problems.push(Problem::warning(named.span, title).help(help));
    }
}
