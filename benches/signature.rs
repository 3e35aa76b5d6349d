//! What a signature costs: the string, the HMAC, the header.
#![expect(clippy::unwrap_used, reason = "a bench")]

use claviger::signature::{HmacKey, Part, authorization, signing_string};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};

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

criterion_group!(benches, signature);
criterion_main!(benches);
