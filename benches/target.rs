//! What the canonical form of a target costs, plain and with work to do.
#![expect(clippy::unwrap_used, reason = "a bench")]

use claviger::target::Target;
use criterion::{Criterion, criterion_group, criterion_main};

fn canonical(c: &mut Criterion) {
    for (name, raw) in [
        ("plain", "/api/v1/users/users/?limit=100&offset=0"),
        ("to be rewritten", "/api/v1/users/%e5%bc%a0%7E;v=1/?search={x}|\"y\""),
    ] {
        c.bench_function(&format!("canonical/{name}"), |bench| {
            bench.iter(|| Target::canonical(raw.as_bytes()).unwrap());
        });
    }
}

criterion_group!(benches, canonical);
criterion_main!(benches);
