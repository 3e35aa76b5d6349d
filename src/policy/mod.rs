//! Whether this consumer may do this: consumer and action → [`Allowed`] or [`Denial`]; with a proven
//! identity, [`Permit`].
//!
//! Deny by default, deny wins. Policy neither reads clocks nor logs; what it decided is a value.

mod body;
mod org;
mod pattern;
mod rule;

pub use body::{BodyMembers, BodyUnreadable};
pub use org::{Named, OrgPin, Override, take_org};
pub use pattern::{Glob, PathPattern};
pub use rule::{Asked, Condition, Rule};

use std::collections::HashMap;
use std::hash::Hash;
use std::iter;
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;

use crate::code::Code;
use crate::inbound::Identity;
use crate::spelling;
use crate::target::Target;

/// A named set of rules.
#[derive(Debug)]
pub struct Role {
    /// What it allows.
    pub allow: Vec<Rule>,
    /// What it forbids, whatever allows it.
    pub deny: Vec<Rule>,
}

/// What one consumer may do at one upstream.
#[derive(Debug)]
pub struct Grant {
    /// The upstream's place in the snapshot.
    pub upstream: usize,
    /// The rules it brings.
    pub roles: Vec<Arc<Role>>,
    /// The organisations it is for, the default first; empty where the upstream has none.
    pub orgs: Vec<Arc<str>>,
    /// The credential's place in the snapshot.
    pub credential: usize,
    /// When it ends.
    pub expires: Option<SystemTime>,
}

impl Grant {
    /// By which two grants are known to say the same. Roles count by which they are, not by what they say.
    fn key(&self) -> impl Eq + Hash + use<> {
        let roles: Vec<*const Role> = self.roles.iter().map(Arc::as_ptr).collect();
        (self.upstream, roles, self.orgs.clone(), self.credential, self.expires)
    }
}

/// Every grant, by consumer and upstream (their places), in file order.
#[derive(Debug, Default)]
pub struct Policy {
    /// What the consumer at each place may: consumers who may the same share it, so that of many who call
    /// each decision finds it near.
    shares: Vec<u32>,
    /// Grants to one upstream beside each other.
    grants: Vec<Vec<Grant>>,
    /// Whether any rule looks at bodies.
    has_body_rules: bool,
    /// Whether any rule is a shadow.
    has_shadows: bool,
}

/// What is asked for.
#[derive(Debug)]
pub struct Action {
    /// The upstream's place in the snapshot.
    pub upstream: usize,
    /// The method.
    pub method: Method,
    /// The target, as the upstream knows it.
    pub target: Target,
    /// The organisation that the caller named, if any.
    pub org: Option<String>,
    /// What rules see of the body; [`BodyMembers::none`] where none that could hold looks at it.
    pub body: BodyMembers,
}

impl Action {
    /// What rules judge of it.
    fn asked(&self) -> Asked<'_> {
        Asked::new(&self.method, &self.target, &self.body)
    }
}

/// A decision to allow. Only [`Policy::decide`] makes one; it cannot be copied. Nothing leaves by it alone:
/// the consumer may be one that an operator only asked about.
///
/// ```compile_fail,E0451
/// use claviger::policy::{Action, Allowed};
/// fn forge(action: Action) -> Allowed {
///     Allowed { consumer: 0, action, org: None, credential: 0, rule: "".into(), shadow: None }
/// }
/// ```
/// ```
/// fn read(allowed: &claviger::policy::Allowed) -> (&claviger::policy::Action, usize) {
///     (allowed.action(), allowed.credential())
/// }
/// ```
#[derive(Debug)]
pub struct Allowed {
    /// The place of the consumer that it was decided for.
    consumer: usize,
    action: Action,
    org: Option<Arc<str>>,
    credential: usize,
    rule: Arc<str>,
    shadow: Option<Arc<str>>,
}

impl Allowed {
    /// The permit of the consumer that it was decided for; `None` for any other.
    #[must_use]
    pub fn permit(self, identity: Identity) -> Option<Permit> {
        (identity.consumer() == self.consumer).then_some(Permit { identity, allowed: self })
    }

    /// What is allowed.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// In which organisation, where the upstream has such.
    #[must_use]
    pub fn org(&self) -> Option<&Arc<str>> {
        self.org.as_ref()
    }

    /// With which credential: its place in the snapshot.
    #[must_use]
    pub fn credential(&self) -> usize {
        self.credential
    }

    /// By which rule.
    #[must_use]
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Which rule would forbid it, were it no shadow.
    #[must_use]
    pub fn shadow(&self) -> Option<&Arc<str>> {
        self.shadow.as_ref()
    }
}

/// What a proven consumer is allowed. It is made of an [`Allowed`] and the [`Identity`] that it was decided
/// for; it cannot be copied, and what is sent upstream is taken from it.
///
/// ```compile_fail,E0451
/// use claviger::policy::{Allowed, Permit};
/// fn forge(identity: claviger::inbound::Identity, allowed: Allowed) -> Permit {
///     Permit { identity, allowed }
/// }
/// ```
/// ```compile_fail,E0599
/// fn twice(permit: claviger::policy::Permit) -> (claviger::policy::Permit, claviger::policy::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
/// ```
/// use claviger::policy::{Allowed, Permit};
/// fn prove(identity: claviger::inbound::Identity, allowed: Allowed) -> Option<Permit> {
///     allowed.permit(identity)
/// }
/// fn once(permit: Permit) -> Permit {
///     let _read = (permit.identity(), permit.action(), permit.org(), permit.credential(), permit.rule());
///     permit
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    identity: Identity,
    allowed: Allowed,
}

impl Permit {
    /// Who may.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.allowed.action
    }

    /// In which organisation, where the upstream has such.
    #[must_use]
    pub fn org(&self) -> Option<&Arc<str>> {
        self.allowed.org.as_ref()
    }

    /// With which credential: its place in the snapshot.
    #[must_use]
    pub fn credential(&self) -> usize {
        self.allowed.credential
    }

    /// By which rule.
    #[must_use]
    pub fn rule(&self) -> &Arc<str> {
        &self.allowed.rule
    }

    /// Which rule would forbid it, were it no shadow.
    #[must_use]
    pub fn shadow(&self) -> Option<&Arc<str>> {
        self.allowed.shadow.as_ref()
    }
}

/// A decision to refuse, with what was found out on the way.
#[derive(Debug)]
pub struct Denial {
    /// What the caller is told.
    pub code: Code,
    /// The rule that forbids, if one does.
    pub rule: Option<Arc<str>>,
    /// The rule that would allow it, were it no shadow.
    pub shadow: Option<Arc<str>>,
    /// The organisation that was meant.
    pub org: Option<String>,
    /// What was asked for.
    pub action: Action,
}

impl Policy {
    /// The policy of these grants, each of the consumer at this place. Their order matters: the credential
    /// is that of the first allowing one.
    #[must_use]
    pub fn new(mut grants: Vec<(usize, Grant)>) -> Self {
        grants.sort_by_key(|(consumer, grant)| (*consumer, grant.upstream));
        let (mut policy, mut known) = (Self { grants: vec![Vec::new()], ..Self::default() }, HashMap::new());
        let mut grants = grants.into_iter().peekable();
        while let Some((consumer, first)) = grants.next() {
            let mut own = vec![first];
            own.extend(iter::from_fn(|| grants.next_if(|(next, _)| *next == consumer)).map(|(_, next)| next));
            let share = *known.entry(own.iter().map(Grant::key).collect::<Vec<_>>()).or_insert_with(|| {
                policy.grants.push(own);
                u32::try_from(policy.grants.len() - 1).unwrap_or(0)
            });
            policy.shares.resize(consumer, 0);
            policy.shares.push(share);
        }
        let rules = policy.grants.iter().flatten().flat_map(|grant| &grant.roles);
        for rule in rules.flat_map(|role| role.allow.iter().chain(&role.deny)) {
            policy.has_body_rules |= !rule.body.is_empty();
            policy.has_shadows |= rule.shadow;
        }
        policy
    }

    /// Decides for the consumer at this place.
    ///
    /// # Errors
    /// [`Denial`]: no grant, an expired one, an organisation that is not granted, a rule that
    /// forbids, or none that allows.
    pub fn decide(&self, consumer: usize, action: Action, now: SystemTime) -> Result<Allowed, Box<Denial>> {
        match self.evaluate(consumer, &action, now) {
            Ok(Ruling { org, credential, rule, shadow }) => {
                Ok(Allowed { consumer, action, org, credential, rule, shadow })
            }
            Err(Forbidden { code, rule, org, shadow }) => {
                Err(Box::new(Denial { code, rule, shadow, org, action }))
            }
        }
    }

    /// Whether a rule that could hold for this looks at the body, which must then be read before deciding. `bodied` says
    /// that there is one: a read with members in its body is refused where a rule looks at bodies of the same path.
    #[must_use]
    pub fn needs_body(&self, consumer: usize, action: &Action, bodied: bool) -> bool {
        if !self.has_body_rules {
            return false;
        }
        let asked = action.asked();
        self.grants_of(consumer, action).iter().flat_map(|grant| &grant.roles).any(|role| {
            let read = |rule: &Rule| bodied && rule.looks_at_body_of_read(&asked);
            let allows = |rule: &Rule| !rule.body.is_empty() && rule.may_allow(&asked) || read(rule);
            let denies = |rule: &Rule| !rule.body.is_empty() && rule.may_deny(&asked) || read(rule);
            role.deny.iter().any(denies) || role.allow.iter().any(allows)
        })
    }

    /// Why a call was refused, where rules look at its body or its query and could not see all of what servers may.
    #[must_use]
    pub fn why_unjudged(&self, consumer: usize, action: &Action) -> Option<String> {
        if self.has_body_rules
            && let Some(why) = self.why_body_unjudged(consumer, action)
        {
            return Some(why);
        }
        let asked = action.asked();
        let granted = self.grants_of(consumer, action).iter().flat_map(|grant| &grant.roles);
        let mut rules = granted.flat_map(|role| role.allow.iter().chain(&role.deny));
        let looks = rules.any(|rule| rule.looks_at_query(&asked));
        looks.then(|| asked.why_query_unknown()).flatten().map(String::from)
    }

    fn why_body_unjudged(&self, consumer: usize, action: &Action) -> Option<String> {
        if let Some(why) = action.body.why_unread() {
            return Some(why.to_string());
        }
        let asked = action.asked();
        let granted = self.grants_of(consumer, action).iter().flat_map(|grant| &grant.roles);
        let mut rules = granted.flat_map(|role| role.allow.iter().chain(&role.deny));
        if asked.is_read_with_body() {
            let looks = rules.any(|rule| rule.looks_at_body_of_read(&asked));
            return looks.then(|| "a rule looks at bodies of this path, and a read has one".to_owned());
        }
        let doubled = rules.any(|rule| rule.is_in_conflict(&asked));
        let why = || asked.why_query_unknown().unwrap_or("the query has a member of the same name");
        doubled.then(|| format!("a rule looks at the body, and {}", why()))
    }

    /// Whether an allowing rule that looks at the body could hold for this, whatever else does: of a body that is
    /// not known it cannot be said that nothing allows it.
    #[must_use]
    pub fn body_may_allow(&self, consumer: usize, action: &Action, now: SystemTime) -> bool {
        let asked = action.asked();
        let live = || {
            let grants = self.grants_of(consumer, action).iter();
            grants.filter(|grant| grant.expires.is_none_or(|end| now < end))
        };
        let org = action.org.as_deref().or_else(|| live().next()?.orgs.first().map(|org| &**org));
        let applies =
            |grant: &&Grant| org.is_none_or(|org| grant.orgs.iter().any(|granted| **granted == *org));
        let mut rules = live().filter(applies).flat_map(|grant| &grant.roles).flat_map(|role| &role.allow);
        rules.any(|rule| !rule.shadow && !rule.body.is_empty() && rule.may_allow(&asked))
    }

    /// Whether a rule for the path of this looks at a query member whose name `is_hidden`.
    #[must_use]
    pub fn looks_at_query(&self, consumer: usize, action: &Action, is_hidden: impl Fn(&str) -> bool) -> bool {
        let paths = spelling::paths(action.target.path());
        let granted = self.grants_of(consumer, action).iter().flat_map(|grant| &grant.roles);
        let mut rules = granted.flat_map(|role| role.allow.iter().chain(&role.deny));
        rules.any(|rule| {
            rule.query.iter().any(|(name, _)| is_hidden(name.as_str()))
                && rule.paths.iter().any(|pattern| pattern.may_match(&paths))
        })
    }

    fn evaluate(&self, consumer: usize, action: &Action, now: SystemTime) -> Result<Ruling, Forbidden> {
        let mut ruling = self.enforced(consumer, action, now);
        if self.has_shadows {
            let shadow = self.shadow(consumer, action, now, &ruling);
            match &mut ruling {
                Ok(allowed) => allowed.shadow = shadow,
                Err(forbidden) => forbidden.shadow = shadow,
            }
        }
        ruling
    }

    fn grants_of(&self, consumer: usize, action: &Action) -> &[Grant] {
        let share =
            self.shares.get(consumer).and_then(|share| self.grants.get(usize::try_from(*share).ok()?));
        let all = share.map(Vec::as_slice).unwrap_or_default();
        let from = all.partition_point(|grant| grant.upstream < action.upstream);
        let to = all.partition_point(|grant| grant.upstream <= action.upstream);
        all.get(from..to).unwrap_or_default()
    }

    /// The first shadow that would decide otherwise: one that forbids what is allowed, or allows what nothing allows.
    fn shadow(
        &self,
        consumer: usize,
        action: &Action,
        now: SystemTime,
        ruling: &Result<Ruling, Forbidden>,
    ) -> Option<Arc<str>> {
        let org = match ruling {
            Ok(allowed) => allowed.org.as_deref(),
            Err(forbidden) => forbidden.org.as_deref(),
        };
        let live = |grant: &&Grant| grant.expires.is_none_or(|end| now < end);
        let applies =
            |grant: &&Grant| org.is_none_or(|org| grant.orgs.iter().any(|granted| **granted == *org));
        let grants = self.grants_of(consumer, action).iter().filter(live).filter(applies);
        let mut roles = grants.flat_map(|grant| &grant.roles);
        let asked = action.asked();
        let told = |rule: &Rule| rule.name.clone();
        match ruling {
            Ok(_) => roles
                .find_map(|role| role.deny.iter().find(|rule| rule.shadow && rule.denies(&asked)).map(told)),
            Err(Forbidden { code: Code::Denied, .. }) => roles
                .find_map(|role| role.allow.iter().find(|rule| rule.shadow && rule.allows(&asked)).map(told)),
            Err(_) => None,
        }
    }

    /// What the rules that are no shadows decide.
    fn enforced(&self, consumer: usize, action: &Action, now: SystemTime) -> Result<Ruling, Forbidden> {
        let forbidden = |code, rule, org| Forbidden { code, rule, org, shadow: None };
        let every = self.grants_of(consumer, action);
        let live = || every.iter().filter(|grant| grant.expires.is_none_or(|end| now < end));
        let Some(first) = live().next() else {
            let code = if every.is_empty() { Code::Denied } else { Code::GrantExpired };
            return Err(forbidden(code, None, action.org.clone()));
        };
        let org: Option<&Arc<str>> = match &action.org {
            Some(named) => {
                let granted = live().flat_map(|grant| &grant.orgs).find(|org| ***org == **named);
                Some(granted.ok_or_else(|| forbidden(Code::OrgOverride, None, Some(named.clone())))?)
            }
            None => first.orgs.first(),
        };
        let applies = |grant: &&Grant| org.is_none_or(|org| grant.orgs.contains(org));
        let told = || org.map(ToString::to_string);
        let asked = action.asked();
        let roles = || live().filter(applies).flat_map(|grant| &grant.roles);
        let denying = roles().flat_map(|role| &role.deny);
        for rule in denying {
            if !rule.shadow && rule.denies(&asked) {
                return Err(forbidden(Code::DeniedByRule, Some(rule.name.clone()), told()));
            }
        }
        let looks = |rule: &Rule| !rule.shadow && rule.looks_at_body_of_read(&asked);
        let only_by_body =
            asked.is_read_with_body() && roles().any(|role| role.allow.iter().chain(&role.deny).any(looks));
        for grant in live().filter(applies) {
            for rule in grant.roles.iter().flat_map(|role| &role.allow) {
                let counts = !rule.shadow && (!only_by_body || rule.is_for_bodies_of_reads());
                if counts && rule.allows(&asked) {
                    let (credential, rule) = (grant.credential, rule.name.clone());
                    return Ok(Ruling { org: org.cloned(), credential, rule, shadow: None });
                }
            }
        }
        Err(forbidden(Code::Denied, None, told()))
    }
}

/// Why it may be done.
#[derive(Debug)]
struct Ruling {
    org: Option<Arc<str>>,
    credential: usize,
    rule: Arc<str>,
    /// Which rule would forbid it, were it no shadow.
    shadow: Option<Arc<str>>,
}

/// Why it may not be done.
#[derive(Debug)]
struct Forbidden {
    code: Code,
    /// The rule that forbids, if one does.
    rule: Option<Arc<str>>,
    /// The organisation that was meant.
    org: Option<String>,
    /// The rule that would allow it, were it no shadow.
    shadow: Option<Arc<str>>,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
