//! What is kept once for all who may the same is still each consumer's own.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

const CONSUMERS: usize = 6;
const ORGS: [&str; 2] = ["org-a", "org-b"];

/// What a grant is made from: consumer, upstream, the number of its role, organisation, credential, end.
type Drawn = (usize, usize, usize, usize, usize, Option<u64>);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let one = (0..CONSUMERS, 0..3_usize, 0..2_usize, 0..2_usize, 0..2_usize, prop::option::of(0..2_u64));
    prop::collection::vec(one, 0..24)
}

fn roles() -> [Arc<Role>; 2] {
    [("one", "/a/**"), ("two", "/**")].map(|(name, path)| {
        let rule = Rule {
            name: name.into(),
            shadow: false,
            methods: Vec::new(),
            paths: vec![PathPattern::parse(path).unwrap()],
            query: Vec::new(),
            body: Vec::new(),
        };
        Arc::new(Role { allow: vec![rule], deny: Vec::new() })
    })
}

fn policy<'d>(drawn: impl IntoIterator<Item = &'d Drawn>, roles: &[Arc<Role>; 2]) -> Policy {
    let grant = |&(consumer, upstream, role, org, credential, end): &Drawn| {
        let expires = end.map(|end| UNIX_EPOCH + Duration::from_secs(10 * end));
        let (roles, orgs) = (vec![Arc::clone(&roles[role])], vec![ORGS[org].into()]);
        (consumer, Grant { upstream, roles, orgs, credential, expires })
    };
    Policy::new(drawn.into_iter().map(grant).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_others_are_granted_changes_nothing(all in drawn()) {
        let (roles, now) = (roles(), UNIX_EPOCH + Duration::from_secs(5));
        let together = policy(&all, &roles);
        for consumer in 0..=CONSUMERS {
            let alone = policy(all.iter().filter(|drawn| drawn.0 == consumer), &roles);
            for (upstream, path) in (0..4).flat_map(|upstream| ["/a/x", "/b"].map(|path| (upstream, path))) {
                for org in [None, Some(ORGS[0]), Some(ORGS[1])] {
                    let action = Action {
                        upstream,
                        method: Method::GET,
                        target: Target::canonical(path.as_bytes()).unwrap(),
                        org: org.map(str::to_owned),
                        body: Members::none(),
                    };
                    let [here, there] = [&together, &alone].map(|policy| policy.ruling(consumer, &action, now));
                    prop_assert_eq!(format!("{here:?}"), format!("{there:?}"));
                    let granted = all.iter().any(|drawn| (drawn.0, drawn.1) == (consumer, upstream));
                    prop_assert!(granted || here.is_err());
                }
            }
        }
    }
}

/// A hundred thousand who may the same take the room of one.
#[test]
fn who_may_the_same_shares_it() {
    let (roles, same) = (roles(), (0..100).map(|consumer| (consumer, 1, 0, 0, 0, None)));
    let same: Vec<Drawn> = same.collect();
    assert_eq!(policy(&same, &roles).grants.iter().flatten().count(), 1);
    let differing =
        [(0, 0, 0, 0, 0, None), (1, 1, 0, 0, 0, None), (2, 0, 1, 0, 0, None), (3, 0, 0, 1, 0, None)];
    let more = [(4, 0, 0, 0, 1, None), (5, 0, 0, 0, 0, Some(1))];
    assert_eq!(policy(differing.iter().chain(&more), &roles).grants.iter().flatten().count(), 6);
}
