//! Tests that consumers with equal grants share them, and that each still gets its own decisions.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

const CONSUMERS: usize = 6;
const ORGS: [&str; 3] = ["org-a", "org-b", "org-c"];
const NOW: u64 = 5;

/// The values that a grant is made from. Roles are indices into [`roles`].
#[derive(Debug, Clone)]
struct Drawn {
    consumer: usize,
    upstream: usize,
    roles: Vec<usize>,
    orgs: Vec<&'static str>,
    credential: usize,
    expires: Option<u64>,
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let orgs = subsequence(ORGS.to_vec(), 1..=2).prop_shuffle();
    let roles = subsequence(vec![0, 1, 2], 0..=3).prop_shuffle();
    let one = (0..CONSUMERS, 0..2_usize, roles, orgs, 0..2_usize, prop::option::of(0..2_u64));
    let one = one.prop_map(|(consumer, upstream, roles, orgs, credential, end)| {
        let expires = end.map(|end| end * 10);
        Drawn { consumer, upstream, roles, orgs, credential, expires }
    });
    prop::collection::vec(one, 0..24)
}

/// The first two allow, one of them all; the third forbids one path.
fn roles() -> Vec<Arc<Role>> {
    let rule = |name: &str, path: &str| Rule {
        name: name.into(),
        shadow: false,
        methods: Vec::new(),
        paths: vec![PathPattern::parse(path).unwrap()],
        query: Vec::new(),
        body: Vec::new(),
    };
    vec![
        Arc::new(Role { allow: vec![rule("a", "/a/**")], deny: Vec::new() }),
        Arc::new(Role { allow: vec![rule("all", "/**")], deny: Vec::new() }),
        Arc::new(Role { allow: Vec::new(), deny: vec![rule("not", "/a/x")] }),
    ]
}

fn policy(drawn: &[Drawn]) -> Policy {
    let roles = roles();
    let grant = |drawn: &Drawn| Grant {
        upstream: UpstreamId::new(drawn.upstream),
        roles: drawn.roles.iter().map(|role| Arc::clone(&roles[*role])).collect(),
        orgs: drawn.orgs.iter().map(|org| (*org).into()).collect(),
        credential: CredentialId::new(drawn.credential),
        expires: drawn.expires.map(|end| UNIX_EPOCH + Duration::from_secs(end)),
    };
    Policy::new(drawn.iter().map(|drawn| (ConsumerId::new(drawn.consumer), grant(drawn))).collect())
}

/// The right decision, computed from the list as drawn: credential and rule, or the code.
fn right(
    drawn: &[Drawn],
    (consumer, upstream): (usize, usize),
    (path, org): (&str, Option<&str>),
) -> Result<(usize, &'static str), Code> {
    let grants = drawn.iter().filter(|drawn| (drawn.consumer, drawn.upstream) == (consumer, upstream));
    let live: Vec<&Drawn> =
        grants.clone().filter(|drawn| drawn.expires.is_none_or(|end| end > NOW)).collect();
    let Some(first) = live.first() else {
        return Err(if grants.count() == 0 { Code::Denied } else { Code::GrantExpired });
    };
    let org = org.unwrap_or(first.orgs[0]);
    let meant: Vec<&Drawn> = live.into_iter().filter(|drawn| drawn.orgs.contains(&org)).collect();
    if meant.is_empty() {
        return Err(Code::OrgOverride);
    }
    if path == "/a/x" && meant.iter().any(|drawn| drawn.roles.contains(&2)) {
        return Err(Code::DeniedByRule);
    }
    let allowed = meant.iter().find_map(|drawn| {
        let allows = |role: &usize| match role {
            0 => path.starts_with("/a/").then_some("a"),
            1 => Some("all"),
            _ => None,
        };
        drawn.roles.iter().find_map(allows).map(|rule| (drawn.credential, rule))
    });
    allowed.ok_or(Code::Denied)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn each_consumer_may_what_its_own_grants_say(all in drawn()) {
        let policy = policy(&all);
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        for (consumer, upstream) in (0..=CONSUMERS).flat_map(|consumer| [(consumer, 0), (consumer, 1), (consumer, 2)]) {
            for path in ["/a/x", "/a/y", "/b"] {
                for org in [None, Some(ORGS[0]), Some(ORGS[1]), Some(ORGS[2])] {
                    let action = Action {
                        upstream: UpstreamId::new(upstream),
                        method: Method::GET,
                        target: Target::canonical(path.as_bytes()).unwrap(),
                        org: org.map(str::to_owned),
                        body: BodyMembers::none(),
                    };
                    let decision = policy.decide(ConsumerId::new(consumer), action, now);
                    let ruling = decision.ruling();
                    let rule = ruling.rule.as_deref().unwrap_or_default();
                    prop_assert_eq!(
                        ruling.effect.map(|credential| (credential.index(), rule)),
                        right(&all, (consumer, upstream), (path, org)),
                        "{} at {}: {} in {:?}", consumer, upstream, path, org
                    );
                }
            }
        }
    }
}

/// A hundred thousand consumers with equal grants need the space of one.
#[test]
fn who_may_the_same_shares_it() {
    let one = Drawn {
        consumer: 0,
        upstream: 0,
        roles: vec![0, 2],
        orgs: vec![ORGS[0]],
        credential: 0,
        expires: None,
    };
    let count = |drawn: &[Drawn]| policy(drawn).grants.iter().flatten().count();
    let same: Vec<Drawn> = (0..100).map(|consumer| Drawn { consumer, ..one.clone() }).collect();
    assert_eq!(count(&same), 1);
    let differing = [
        Drawn { upstream: 1, ..one.clone() },
        Drawn { roles: vec![0], ..one.clone() },
        Drawn { roles: vec![2, 0], ..one.clone() },
        Drawn { orgs: vec![ORGS[0], ORGS[1]], ..one.clone() },
        Drawn { orgs: vec![ORGS[1]], ..one.clone() },
        Drawn { credential: 1, ..one.clone() },
        Drawn { expires: Some(9), ..one.clone() },
        one,
    ];
    let each = differing.iter().enumerate().map(|(consumer, drawn)| Drawn { consumer, ..drawn.clone() });
    assert_eq!(count(&each.collect::<Vec<_>>()), differing.len());
}
