//! What it costs to look for a credential in the body of an answer, and to prepare for it.
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use claviger::scanner::{Scanner, Stream};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SECRET: &[u8] = b"fake-d6ed1a06-66f7-4584-af18-000000000002";

/// A page of JSON as products answer: names, ids, dates, escapes.
fn page(length: usize) -> Bytes {
    let mut text = String::from("[");
    let mut at = 0_u32;
    while text.len() < length {
        let id = at.wrapping_mul(2_654_435_761);
        writeln!(
            text,
            "{{\"id\":\"{id:08x}-66f7-4584-af18-{at:012}\",\"name\":\"user-{at}\",\"email\":\"user{at}@example.com\",\
             \"comment\":\"a \\\"quoted\\\" word, 100% & more\",\"date\":\"2026-11-30T08:20:12+0000\"}},"
        )
        .unwrap();
        at += 1;
    }
    Bytes::from(text)
}

fn scan(c: &mut Criterion) {
    let scanner = || Scanner::new(&[Cow::Borrowed(SECRET)]);
    c.bench_function("scanner/made", |bench| bench.iter(scanner));
    let mut group = c.benchmark_group("scanner/looked through");
    for (name, length) in [("1 KiB", 1 << 10), ("1 MiB", 1 << 20)] {
        let page = page(length);
        group.throughput(Throughput::Bytes(u64::try_from(page.len()).unwrap()));
        group.bench_function(name, |bench| {
            let mut stream = Stream::new(scanner());
            bench.iter(|| {
                let mut rest = page.clone();
                while !rest.is_empty() {
                    let piece = rest.split_to(rest.len().min(64 << 10));
                    std::hint::black_box(stream.take(piece, rest.is_empty()));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scan);
criterion_main!(benches);
