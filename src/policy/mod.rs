//! Decides whether a consumer may make a call: consumer and action → [`Allowed`] or [`Denial`]; with a proven identity,
//! [`Permit`].
//!
//! Policy denies by default, and a denial overrides any permission. It neither reads clocks nor logs; its decision is a
//! value.

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
    /// The rules that allow calls.
    pub allow: Vec<Rule>,
    /// The rules that deny calls; they override `allow`.
    pub deny: Vec<Rule>,
}

/// The permissions of one consumer at one upstream.
#[derive(Debug)]
pub struct Grant {
    /// The index of the upstream in the snapshot.
    pub upstream: usize,
    /// The roles whose rules apply.
    pub roles: Vec<Arc<Role>>,
    /// The organisations that the grant covers, the default first; empty if the upstream has no organisations.
    pub orgs: Vec<Arc<str>>,
    /// The index of the credential in the snapshot.
    pub credential: usize,
    /// When the grant expires; `None` if it never does.
    pub expires: Option<SystemTime>,
}

impl Grant {
    /// The key by which equal grants are found. Two roles count as equal only if they are the same object.
    fn key(&self) -> impl Eq + Hash + use<> {
        let roles: Vec<*const Role> = self.roles.iter().map(Arc::as_ptr).collect();
        (self.upstream, roles, self.orgs.clone(), self.credential, self.expires)
    }
}

/// All grants, by the indices of consumer and upstream in the snapshot, in file order.
#[derive(Debug, Default)]
pub struct Policy {
    /// For the consumer at each index, an index into `grants`. Consumers with equal grants share an entry, which keeps
    /// the data small and in the CPU's caches.
    shares: Vec<u32>,
    /// The grants of one share, with the grants to one upstream next to each other.
    grants: Vec<Vec<Grant>>,
    /// Whether any rule has a condition on the body.
    has_body_rules: bool,
    /// Whether any rule is a shadow rule.
    has_shadows: bool,
}

/// The call that a consumer asks for.
#[derive(Debug)]
pub struct Action {
    /// The index of the upstream in the snapshot.
    pub upstream: usize,
    /// The method of the request.
    pub method: Method,
    /// The target as the upstream receives it.
    pub target: Target,
    /// The organisation that the caller named, if any.
    pub org: Option<String>,
    /// The body as rules see it; [`BodyMembers::none`] if no rule that could match reads it.
    pub body: BodyMembers,
}

impl Action {
    /// The parts of the action that rules judge.
    fn asked(&self) -> Asked<'_> {
        Asked::new(&self.method, &self.target, &self.body)
    }
}

/// A decision to allow. Only [`Policy::decide`] makes one, and it cannot be copied. It alone does not let a call leave:
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
    /// The index of the consumer that the decision is for.
    consumer: usize,
    action: Action,
    org: Option<Arc<str>>,
    credential: usize,
    rule: Arc<str>,
    shadow: Option<Arc<str>>,
}

impl Allowed {
    /// Makes the permit of the consumer that the decision is for; `None` for any other consumer.
    #[must_use]
    pub fn permit(self, identity: Identity) -> Option<Permit> {
        (identity.consumer() == self.consumer).then_some(Permit { identity, allowed: self })
    }

    /// The action that is allowed.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The organisation of the call, if the upstream has organisations.
    #[must_use]
    pub fn org(&self) -> Option<&Arc<str>> {
        self.org.as_ref()
    }

    /// The index of the credential in the snapshot.
    #[must_use]
    pub fn credential(&self) -> usize {
        self.credential
    }

    /// The name of the rule that allows the call.
    #[must_use]
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// The name of the shadow rule that would deny the call if it were enforced.
    #[must_use]
    pub fn shadow(&self) -> Option<&Arc<str>> {
        self.shadow.as_ref()
    }
}

/// The proof of what a proven consumer may do. It is made of an [`Allowed`] and the matching [`Identity`] and cannot be
/// copied. The call that is sent upstream is taken from it.
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
    /// The consumer that may make the call.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The action that is allowed.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.allowed.action
    }

    /// The organisation of the call, if the upstream has organisations.
    #[must_use]
    pub fn org(&self) -> Option<&Arc<str>> {
        self.allowed.org.as_ref()
    }

    /// The index of the credential in the snapshot.
    #[must_use]
    pub fn credential(&self) -> usize {
        self.allowed.credential
    }

    /// The name of the rule that allows the call.
    #[must_use]
    pub fn rule(&self) -> &Arc<str> {
        &self.allowed.rule
    }

    /// The name of the shadow rule that would deny the call if it were enforced.
    #[must_use]
    pub fn shadow(&self) -> Option<&Arc<str>> {
        self.allowed.shadow.as_ref()
    }
}

/// A decision to refuse, with what policy found on the way.
#[derive(Debug)]
pub struct Denial {
    /// The code that the caller receives.
    pub code: Code,
    /// The rule that denies the call, if one does.
    pub rule: Option<Arc<str>>,
    /// The shadow rule that would allow the call if it were enforced.
    pub shadow: Option<Arc<str>>,
    /// The organisation that the call meant.
    pub org: Option<String>,
    /// The action that was refused.
    pub action: Action,
}

impl Policy {
    /// Builds the policy from pairs of a consumer's index and a grant. Their order matters: the first grant that allows
    /// a call decides its credential.
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

    /// Decides on `action` for the consumer at this index.
    ///
    /// # Errors
    /// [`Denial`] if no valid grant exists, the organisation is not granted, a rule denies the call, or no rule allows
    /// it.
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

    /// Whether a rule that could match this action reads the body, which must then be read before the decision.
    /// `bodied` means that the request has a body. A read with members in its body is refused where a rule reads bodies
    /// of the same path.
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

    /// The reason for a refusal, if rules read the body or the query and could not see all that a server may read
    /// there.
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

    /// Whether an allowing rule with a body condition could match, whatever the other rules decide. While the body is
    /// unknown, a denial because no rule allows the call would be premature.
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

    /// Whether a rule for this path reads a query member for whose name `is_hidden` is true.
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

    /// The first shadow rule that would change the decision: it denies an allowed call, or allows one that no rule
    /// allows.
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
        let name = |rule: &Rule| rule.name.clone();
        match ruling {
            Ok(_) => roles
                .find_map(|role| role.deny.iter().find(|rule| rule.shadow && rule.denies(&asked)).map(name)),
            Err(Forbidden { code: Code::Denied, .. }) => roles
                .find_map(|role| role.allow.iter().find(|rule| rule.shadow && rule.allows(&asked)).map(name)),
            Err(_) => None,
        }
    }

    /// The decision of the enforced rules, without the shadow rules.
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
        let named = || org.map(ToString::to_string);
        let asked = action.asked();
        let roles = || live().filter(applies).flat_map(|grant| &grant.roles);
        let denying = roles().flat_map(|role| &role.deny);
        for rule in denying {
            if !rule.shadow && rule.denies(&asked) {
                return Err(forbidden(Code::DeniedByRule, Some(rule.name.clone()), named()));
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
        Err(forbidden(Code::Denied, None, named()))
    }
}

/// The reason why a call is allowed.
#[derive(Debug)]
struct Ruling {
    org: Option<Arc<str>>,
    credential: usize,
    rule: Arc<str>,
    /// The shadow rule that would deny the call if it were enforced.
    shadow: Option<Arc<str>>,
}

/// The reason why a call is refused.
#[derive(Debug)]
struct Forbidden {
    code: Code,
    /// The rule that denies the call, if one does.
    rule: Option<Arc<str>>,
    /// The organisation that the call meant.
    org: Option<String>,
    /// The shadow rule that would allow the call if it were enforced.
    shadow: Option<Arc<str>>,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
