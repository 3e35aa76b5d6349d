//! What a signature costs: to make one (the string, the HMAC, the header), and to know a consumer by one, beside
//! what it costs to know it by a token.
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::sync::Arc;
use std::time::SystemTime;

use claviger::inbound::{AccessKey, Consumer, Directory, TokenRecord, identify};
use claviger::name::Name;
use claviger::secret::Secret;
use claviger::signature::{Algorithm, HmacKey, Message, Part, VerifyingKey, authorization, signing_string};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

fn signature(c: &mut Criterion) {
    let key = HmacKey::new(b"fake-d6ed1a06-66f7-4584-af18-000000000002");
    let parts: Vec<Part> =
        ["(request-target)", "accept", "date"].iter().map(|name| Part::parse(name).unwrap()).collect();
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("application/json"));
    headers.insert("date", HeaderValue::from_static("Mon, 17 Feb 2014 06:11:05 GMT"));
    let target = "/api/v1/users/users/?limit=2&offset=0";
    c.bench_function("sign", |bench| {
        bench.iter(|| {
            let string = signing_string(&parts, "GET", target, &headers).unwrap();
            authorization("f7373851-ea61-47bb-8357-000000000001", &parts, &key.sign(&string)).unwrap()
        });
    });
}

/// Both know the same consumer among a hundred thousand.
fn known(c: &mut Criterion) {
    const CONSUMERS: u128 = 100_000;
    let token = |number: u128| format!("clv_{number:030}000000");
    let entry = |number: u128| {
        let name = Name::parse(&format!("consumer-{number}")).unwrap();
        let digest = Directory::digest(token(number).as_bytes());
        (Consumer::new(name), vec![TokenRecord { digest, id: None, expires: None, dead: None }])
    };
    let secret = |number: u128| format!("{number:036}");
    let key = |number: u128| {
        let key = AccessKey {
            id: Uuid::from_u128(number),
            key: Arc::new(VerifyingKey::new(Secret::new(secret(number).into_bytes()))),
            algorithms: vec![Algorithm::HmacSha256],
            strict: None,
            expires: None,
            dead: None,
        };
        (claviger::ids::ConsumerId::new(usize::try_from(number).unwrap()), key)
    };
    let directory = Directory::new((0..CONSUMERS).map(entry).collect()).unwrap();
    let directory = directory.with_keys((0..CONSUMERS).map(key));
    let target = b"/jumpserver/api/v1/users/users/?limit=100&offset=0";
    let headers = |authorization: String| {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("application/json"));
        headers.insert("date", HeaderValue::from_static("Mon, 17 Feb 2014 06:11:05 GMT"));
        headers.insert("authorization", HeaderValue::try_from(authorization).unwrap());
        headers
    };
    let mut next = 1;
    let mut another = || {
        next = (next + 79_190) % CONSUMERS;
        next
    };
    let mut bench = |name: &str, authorization: &dyn Fn(u128) -> String| {
        c.bench_function(name, |bench| {
            let setup = || headers(authorization(another()));
            let know = |headers: HeaderMap| {
                let message = Message { method: "GET", target, headers: &headers };
                (identify(message, &directory, SystemTime::UNIX_EPOCH).unwrap(), headers)
            };
            bench.iter_batched(setup, know, BatchSize::LargeInput);
        });
    };
    bench("known by a token", &|number| format!("Bearer {}", token(number)));
    bench("known by a signature", &|number| {
        let string = format!(
            "(request-target): get {}\naccept: application/json\ndate: Mon, 17 Feb 2014 06:11:05 GMT",
            std::str::from_utf8(target).unwrap()
        );
        let signature = HmacKey::new(secret(number).as_bytes()).sign(string.as_bytes());
        format!(
            "Signature keyId=\"{}\",algorithm=\"hmac-sha256\",headers=\"(request-target) accept date\",signature=\"{signature}\"",
            Uuid::from_u128(number)
        )
    });
}

criterion_group!(benches, signature, known);
criterion_main!(benches);
