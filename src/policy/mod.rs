//! Decides whether a consumer may make a call: consumer and action → [`Decision`]; with a proven identity, [`Permit`].
//!
//! Policy denies by default, and a denial overrides any permission. It neither reads clocks nor logs; its decision
//! is a value.

mod body;
mod org;
mod pattern;
mod rule;

pub use body::{BodyMembers, BodyUnreadable};
pub use org::{NamedOrg, OrgPin, take_org};
pub use pattern::{Glob, PathPattern};
pub use rule::{Condition, JudgedRequest, Rule};

use std::collections::HashMap;
use std::hash::Hash;
use std::iter;
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;

use crate::code::Code;
use crate::ids::{ConsumerId, CredentialId, UpstreamId};
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
    /// The upstream that the grant is for.
    pub upstream: UpstreamId,
    /// The roles whose rules apply.
    pub roles: Vec<Arc<Role>>,
    /// The organisations that the grant covers, the default first; empty if the upstream has no organisations.
    pub orgs: Vec<Arc<str>>,
    /// The credential that calls use.
    pub credential: CredentialId,
    /// When the grant expires; `None` if it never does.
    pub expires: Option<SystemTime>,
}

impl Grant {
    /// The key by which equal grants are found. Two roles count as equal only if they are the same object.
    fn key(&self) -> impl Eq + Hash + use<> {
        let roles: Vec<*const Role> = self.roles.iter().map(Arc::as_ptr).collect();
        (self.upstream, roles, self.orgs.clone(), self.credential, self.expires)
    }

    fn is_live(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|end| now < end)
    }

    /// Whether the grant covers the organisation of a call, if it has one.
    fn covers(&self, org: Option<&str>) -> bool {
        org.is_none_or(|org| self.orgs.iter().any(|granted| **granted == *org))
    }
}

/// All grants, by consumer and upstream, in file order.
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
    /// The upstream that is called.
    pub upstream: UpstreamId,
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
    fn to_request(&self) -> JudgedRequest<'_> {
        JudgedRequest::new(&self.method, &self.target, &self.body)
    }
}

/// What the enforced rules decide, and by which rule.
#[derive(Debug)]
pub struct Ruling {
    /// The credential of an allowed call, or the code of the refusal.
    pub effect: Result<CredentialId, Code>,
    /// The organisation that the call means, if the upstream has organisations.
    pub org: Option<Arc<str>>,
    /// The rule that allows or denies the call; `None` if no rule does.
    pub rule: Option<Arc<str>>,
    /// The shadow rule that would change the decision if it were enforced.
    pub shadow: Option<Arc<str>>,
}

/// A decision on one action of one consumer. Only [`Policy::decide`] makes one, and it cannot be copied. It alone does
/// not let a call leave: the caller may be an operator who asks about a consumer (`explain`).
///
/// ```compile_fail,E0451
/// use claviger::policy::{Action, Decision, Ruling};
/// fn forge(action: Action, ruling: Ruling) -> Decision {
///     Decision { consumer: claviger::ids::ConsumerId::new(0), action, ruling }
/// }
/// ```
/// ```
/// use claviger::policy::{Action, Decision, Ruling};
/// fn read(decision: &Decision) -> (&Action, &Ruling) {
///     (decision.action(), decision.ruling())
/// }
/// ```
#[derive(Debug)]
pub struct Decision {
    consumer: ConsumerId,
    action: Action,
    ruling: Ruling,
}

impl Decision {
    /// Makes the permit of the consumer that the decision is for; `None` for any other consumer, and for a refusal.
    #[must_use]
    pub fn permit(self, identity: Identity) -> Option<Permit> {
        let credential = self.ruling.effect.ok()?;
        (identity.consumer() == self.consumer).then_some(Permit { identity, credential, decision: self })
    }

    /// The action that was decided on.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The result of the rules.
    #[must_use]
    pub fn ruling(&self) -> &Ruling {
        &self.ruling
    }
}

/// The proof of what a proven consumer may do. It is made of a [`Decision`] to allow and the matching [`Identity`] and
/// cannot be copied. The call that is sent upstream is taken from it.
///
/// ```compile_fail,E0451
/// use claviger::policy::{Decision, Permit};
/// fn forge(identity: claviger::inbound::Identity, decision: Decision) -> Permit {
///     Permit { identity, credential: claviger::ids::CredentialId::new(0), decision }
/// }
/// ```
/// ```compile_fail,E0599
/// fn twice(permit: claviger::policy::Permit) -> (claviger::policy::Permit, claviger::policy::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
/// ```
/// use claviger::policy::{Decision, Permit};
/// fn prove(identity: claviger::inbound::Identity, decision: Decision) -> Option<Permit> {
///     decision.permit(identity)
/// }
/// fn once(permit: Permit) -> Permit {
///     let _read = (permit.identity(), permit.action(), permit.credential(), permit.ruling());
///     permit
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    identity: Identity,
    credential: CredentialId,
    decision: Decision,
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
        &self.decision.action
    }

    /// The credential that the call uses.
    #[must_use]
    pub fn credential(&self) -> CredentialId {
        self.credential
    }

    /// The result of the rules that allow the call.
    #[must_use]
    pub fn ruling(&self) -> &Ruling {
        &self.decision.ruling
    }
}

impl Policy {
    /// Builds the policy from pairs of a consumer and a grant. Their order matters: the first grant that allows
    /// a call decides its credential.
    #[must_use]
    pub fn new(mut grants: Vec<(ConsumerId, Grant)>) -> Self {
        grants.sort_by_key(|(consumer, grant)| (*consumer, grant.upstream));
        let (mut policy, mut known) = (Self { grants: vec![Vec::new()], ..Self::default() }, HashMap::new());
        let mut grants = grants.into_iter().peekable();
        while let Some((consumer, first)) = grants.next() {
            let mut grants_of_one = vec![first];
            let more = iter::from_fn(|| grants.next_if(|(next, _)| *next == consumer));
            grants_of_one.extend(more.map(|(_, grant)| grant));
            let key = grants_of_one.iter().map(Grant::key).collect::<Vec<_>>();
            let share = *known.entry(key).or_insert_with(|| {
                policy.grants.push(grants_of_one);
                u32::try_from(policy.grants.len() - 1).unwrap_or(0)
            });
            policy.shares.resize(consumer.index(), 0);
            policy.shares.push(share);
        }
        let rules = policy.grants.iter().flatten().flat_map(|grant| &grant.roles);
        for rule in rules.flat_map(|role| role.allow.iter().chain(&role.deny)) {
            policy.has_body_rules |= !rule.body.is_empty();
            policy.has_shadows |= rule.shadow;
        }
        policy
    }

    /// Decides on `action` for a consumer. It is refused if no valid grant exists, the organisation is not granted, a rule
    /// denies the call, or no rule allows it.
    #[must_use]
    pub fn decide(&self, consumer: ConsumerId, action: Action, now: SystemTime) -> Decision {
        let mut ruling = self.enforced(consumer, &action, now);
        if self.has_shadows {
            ruling.shadow = self.shadow(consumer, &action, now, &ruling);
        }
        Decision { consumer, action, ruling }
    }

    /// Whether a rule that could match this action reads the body, which must then be read before the decision.
    /// `bodied` means that the request has a body. A read with members in its body is refused where a rule reads bodies
    /// of the same path.
    #[must_use]
    pub fn needs_body(&self, consumer: ConsumerId, action: &Action, bodied: bool) -> bool {
        if !self.has_body_rules {
            return false;
        }
        let request = action.to_request();
        self.grants_of(consumer, action).iter().flat_map(|grant| &grant.roles).any(|role| {
            let read = |rule: &Rule| bodied && rule.reads_body_of_read(&request);
            let allows = |rule: &Rule| !rule.body.is_empty() && rule.may_allow(&request) || read(rule);
            let denies = |rule: &Rule| !rule.body.is_empty() && rule.may_deny(&request) || read(rule);
            role.deny.iter().any(denies) || role.allow.iter().any(allows)
        })
    }

    /// The reason for a refusal, if rules read the body or the query and could not see all that a server
    /// may read there.
    #[must_use]
    pub fn why_unjudged(&self, consumer: ConsumerId, action: &Action) -> Option<String> {
        if self.has_body_rules
            && let Some(why) = self.why_body_unjudged(consumer, action)
        {
            return Some(why);
        }
        let request = action.to_request();
        let reads_query = self.rules_of(consumer, action).any(|rule| rule.reads_query(&request));
        reads_query.then(|| request.why_query_unknown()).flatten().map(String::from)
    }

    fn why_body_unjudged(&self, consumer: ConsumerId, action: &Action) -> Option<String> {
        if let Some(why) = action.body.why_unread() {
            return Some(why.to_string());
        }
        let request = action.to_request();
        let mut rules = self.rules_of(consumer, action);
        if request.is_read_with_body() {
            let reads_body = rules.any(|rule| rule.reads_body_of_read(&request));
            return reads_body.then(|| "a rule looks at bodies of this path, and a read has one".to_owned());
        }
        let is_doubled = rules.any(|rule| rule.is_in_conflict(&request));
        let why = || request.why_query_unknown().unwrap_or("the query has a member of the same name");
        is_doubled.then(|| format!("a rule looks at the body, and {}", why()))
    }

    /// Whether an allowing rule with a body condition could match, whatever the other rules decide. While the body is
    /// unknown, a denial because no rule allows the call would be premature.
    #[must_use]
    pub fn body_may_allow(&self, consumer: ConsumerId, action: &Action, now: SystemTime) -> bool {
        let request = action.to_request();
        let grants = || self.live_grants(consumer, action, now);
        let org = action.org.as_deref().or_else(|| grants().next()?.orgs.first().map(|org| &**org));
        let roles = grants().filter(|grant| grant.covers(org)).flat_map(|grant| &grant.roles);
        let mut allowing = roles.flat_map(|role| &role.allow);
        allowing.any(|rule| !rule.shadow && !rule.body.is_empty() && rule.may_allow(&request))
    }

    /// Whether a rule for this path reads a query member for whose name `is_hidden` is true.
    #[must_use]
    pub fn looks_at_query(
        &self,
        consumer: ConsumerId,
        action: &Action,
        is_hidden: impl Fn(&str) -> bool,
    ) -> bool {
        let paths = spelling::paths(action.target.path());
        self.rules_of(consumer, action).any(|rule| {
            rule.query.iter().any(|(name, _)| is_hidden(name.as_str()))
                && rule.paths.iter().any(|pattern| pattern.may_match(&paths))
        })
    }

    fn grants_of(&self, consumer: ConsumerId, action: &Action) -> &[Grant] {
        let share = self.shares.get(consumer.index());
        let share = share.and_then(|share| self.grants.get(usize::try_from(*share).ok()?));
        let all = share.map(Vec::as_slice).unwrap_or_default();
        let from = all.partition_point(|grant| grant.upstream < action.upstream);
        let to = all.partition_point(|grant| grant.upstream <= action.upstream);
        all.get(from..to).unwrap_or_default()
    }

    /// The grants of the consumer at the action's upstream that have not expired.
    fn live_grants(
        &self,
        consumer: ConsumerId,
        action: &Action,
        now: SystemTime,
    ) -> impl Iterator<Item = &Grant> {
        self.grants_of(consumer, action).iter().filter(move |grant| grant.is_live(now))
    }

    /// All rules of the consumer's grants at the action's upstream.
    fn rules_of(&self, consumer: ConsumerId, action: &Action) -> impl Iterator<Item = &Rule> {
        let roles = self.grants_of(consumer, action).iter().flat_map(|grant| &grant.roles);
        roles.flat_map(|role| role.allow.iter().chain(&role.deny))
    }

    /// The first shadow rule that would change the decision: it denies an allowed call, or allows one that
    /// no rule allows.
    fn shadow(
        &self,
        consumer: ConsumerId,
        action: &Action,
        now: SystemTime,
        ruling: &Ruling,
    ) -> Option<Arc<str>> {
        let grants =
            self.live_grants(consumer, action, now).filter(|grant| grant.covers(ruling.org.as_deref()));
        let mut roles = grants.flat_map(|grant| &grant.roles);
        let request = action.to_request();
        let rule = match ruling.effect {
            Ok(_) => {
                roles.find_map(|role| role.deny.iter().find(|rule| rule.shadow && rule.denies(&request)))
            }
            Err(Code::Denied) => {
                roles.find_map(|role| role.allow.iter().find(|rule| rule.shadow && rule.allows(&request)))
            }
            Err(_) => None,
        };
        rule.map(|rule| rule.name.clone())
    }

    /// The decision of the enforced rules, without the shadow rules.
    fn enforced(&self, consumer: ConsumerId, action: &Action, now: SystemTime) -> Ruling {
        let every = self.grants_of(consumer, action);
        let live = || every.iter().filter(|grant| grant.is_live(now));
        let refused = |code, org| Ruling { effect: Err(code), org, rule: None, shadow: None };
        let named = || action.org.as_deref().map(Arc::from);
        let Some(first) = live().next() else {
            return refused(if every.is_empty() { Code::Denied } else { Code::GrantExpired }, named());
        };
        let org = match &action.org {
            Some(name) => match live().flat_map(|grant| &grant.orgs).find(|org| ***org == **name) {
                Some(granted) => Some(granted),
                None => return refused(Code::OrgOverride, named()),
            },
            None => first.orgs.first(),
        };
        let request = action.to_request();
        let grants = || live().filter(|grant| grant.covers(org.map(|org| &**org)));
        let roles = || grants().flat_map(|grant| &grant.roles);
        let ruling = |effect, rule: Option<&Rule>| Ruling {
            effect,
            org: org.cloned(),
            rule: rule.map(|rule| rule.name.clone()),
            shadow: None,
        };
        let mut denying = roles().flat_map(|role| &role.deny).filter(|rule| !rule.shadow);
        if let Some(rule) = denying.find(|rule| rule.denies(&request)) {
            return ruling(Err(Code::DeniedByRule), Some(rule));
        }
        let reads_body = |rule: &Rule| !rule.shadow && rule.reads_body_of_read(&request);
        let only_by_body = request.is_read_with_body()
            && roles().any(|role| role.allow.iter().chain(&role.deny).any(reads_body));
        for grant in grants() {
            for rule in grant.roles.iter().flat_map(|role| &role.allow) {
                let counts = !rule.shadow && (!only_by_body || rule.is_for_bodies_of_reads());
                if counts && rule.allows(&request) {
                    return ruling(Ok(grant.credential), Some(rule));
                }
            }
        }
        ruling(Err(Code::Denied), None)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
