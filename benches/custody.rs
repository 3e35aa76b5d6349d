//! What it costs to know a caller and to decide, among a hundred thousand consumers with a token and
//! a grant each; and to open what is sealed.
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::custody::{Binding, MasterKey, seal, unseal};
use claviger::gateway::freezes::Freezes;
use claviger::ids::{ConsumerId, CredentialId, UpstreamId};
use claviger::inbound::{Consumer, Directory, Ended, TokenRecord, identify};
use claviger::name::Name;
use claviger::policy::{Action, BodyMembers, Grant, PathPattern, Policy, Role, Rule};
use claviger::signature::Message;
use claviger::target::Target;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method};
use uuid::Uuid;

const CONSUMERS: usize = 100_000;

fn token(number: usize) -> String {
    format!("clv_{number:030}000000")
}

fn crowd() -> (Directory, Policy) {
    let entry = |number: usize| {
        let digest = Directory::digest(token(number).as_bytes());
        let id = Some(Uuid::from_u128(u128::try_from(number).unwrap()));
        // One in ten was revoked.
        let dead = number.is_multiple_of(10).then_some(Ended::Revoked);
        let name = Name::parse(&format!("consumer-{number}")).unwrap();
        (Consumer::new(name), vec![TokenRecord { digest, id, expires: None, dead }])
    };
    let directory = Directory::new((0..CONSUMERS).map(entry).collect()).unwrap();
    let ruled = |name: &str, path: &str| Rule {
        name: name.into(),
        shadow: false,
        methods: vec![Method::GET],
        paths: vec![PathPattern::parse(path).unwrap()],
        query: Vec::new(),
        body: Vec::new(),
    };
    let role = Arc::new(Role {
        allow: vec![ruled("r.allow[0]", "/api/v1/assets/**"), ruled("r.allow[1]", "/api/v1/users/**")],
        deny: vec![ruled("r.deny[0]", "/api/v1/users/users/*/password/")],
    });
    let grant = |consumer: usize| {
        let roles = vec![Arc::clone(&role)];
        let (upstream, credential) = (UpstreamId::new(0), CredentialId::new(0));
        (ConsumerId::new(consumer), Grant { upstream, roles, orgs: Vec::new(), credential, expires: None })
    };
    let policy = Policy::new((0..CONSUMERS).map(grant).collect());
    (directory, policy)
}

fn decide(c: &mut Criterion) {
    let (directory, policy) = crowd();
    let freezes = Freezes::default();
    let target = Target::canonical(b"/api/v1/users/users/?limit=100&offset=0").unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let mut next = 1;
    c.bench_function("look-up and decision", |bench| {
        let setup = || {
            // Each call is another consumer's, so that no cache is warm for it.
            next = (next + 7_919 * 10) % CONSUMERS;
            let mut headers = HeaderMap::new();
            let line = HeaderValue::try_from(format!("Bearer {}", token(next))).unwrap();
            headers.insert("authorization", line);
            let action = Action {
                upstream: UpstreamId::new(0),
                method: Method::GET,
                target: target.clone(),
                org: None,
                body: BodyMembers::none(),
            };
            (headers, action)
        };
        let call = |(headers, action): (HeaderMap, Action)| {
            let identity =
                identify(Message { method: "GET", target: b"/", headers: &headers }, &directory, now)
                    .unwrap();
            let permit = policy.decide(identity.consumer(), action, now).permit(identity).unwrap();
            let (consumer, upstream) = (permit.identity().consumer(), permit.action().upstream);
            assert!(freezes.blocked_by(consumer, upstream, permit.credential()).is_none());
            (permit, headers)
        };
        bench.iter_batched(setup, call, BatchSize::LargeInput);
    });
}

fn sealing(c: &mut Criterion) {
    let key = MasterKey::generate().unwrap();
    let place = Binding { table: "versions", row: "jms/1", column: "sealed" };
    let sealed = seal(&key, place, b"fake-d6ed1a06-66f7-4584-af18-000000000002").unwrap();
    c.bench_function("unseal", |bench| bench.iter(|| unseal(&key, place, &sealed).unwrap()));
}

criterion_group!(benches, decide, sealing);
criterion_main!(benches);
