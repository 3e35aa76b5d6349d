//! Durations with a trail of five million events.

use std::fs;

use claviger::audit::proof::merkle;
use claviger::audit::trail::chain;
use claviger::audit::{Checkpoint, CheckpointKey, Signer, TrustAnchors, verify};
use claviger::trail_index::{EventFilter, Index};

/// A trail of this many events, as from a gateway: ten consumers call 250,000 targets over four days.
fn large(events: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::new("claviger", &[7; 32]).unwrap();
    let (mut head, mut tree, mut text) =
        (chain::ChainHead::default(), merkle::MerkleTree::default(), Vec::new());
    let (mut begun, mut unsigned) = (1, 0);
    let start = 1_798_761_600_000_000_u64; // 2027-01-01
    let mut state = 1_u64;
    let time = |seq: u64| {
        let at =
            jiff::Timestamp::from_microsecond(i64::try_from(start + seq * 345_600_000_000 / events).unwrap());
        at.unwrap().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    };
    while head.next_seq <= events {
        let seq = head.next_seq;
        let mut append = |members: &str| {
            tree.push(&head.append(&mut text, |out| out.extend_from_slice(members.as_bytes())));
        };
        let at = time(seq);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let (consumer, target) = (random % 10, random % 250_000);
        let id = format!("{:08x}-{:04x}-7000-8000-{random:012x}", seq >> 16, seq & 0xffff);
        let who = format!(
            "\"consumer\":\"tool-{consumer}\",\"via\":\"bearer\",\"peer\":\"10.0.0.{}:{}\"",
            random % 50,
            10_000 + random % 50_000
        );
        let facts = format!(
            ",\"request_id\":\"{id}\",{who},\"listener\":\"0.0.0.0:7443\",\"upstream\":\"jumpserver\",\"method\":\"GET\",\"target\":\"/api/v1/users/{target}/?limit=10\",\"org\":\"00000000-0000-0000-0000-000000000002\",\"credential\":\"jms-prod\",\"credential_version\":{},\"rule\":\"jumpserver:read-only.allow[0]\"",
            1 + seq / (events / 4)
        );
        let ending = |decision: &str, status: u16, ended: &str| {
            format!(
                "\"time\":\"{at}\",\"event\":\"outcome\"{facts},\"decision\":\"{decision}\",\"user_agent\":\"python-requests/2.32\",\"status\":{status},\"upstream_status\":{status},\"bytes_in\":0,\"bytes_out\":1331,\"duration_us\":{},\"attempts\":1,\"ended\":\"{ended}\"",
                random % 9_999
            )
        };
        if random.is_multiple_of(997) {
            append(
                &ending("denied", 403, "refused")
                    .replace(",\"attempts\"", ",\"code\":\"denied\",\"attempts\""),
            );
        } else {
            append(&format!(
                "\"time\":\"{at}\",\"event\":\"intent\"{facts},\"decision\":\"allowed\",\"user_agent\":\"python-requests/2.32\""
            ));
            append(&ending("allowed", 200, "answered"));
        }
        unsigned += 1;
        let full = text.len() > 128 << 20 || head.next_seq > events;
        if unsigned == 500 || full {
            unsigned = 0;
            let note = signer.sign(&Checkpoint { size: tree.size, root: tree.root(), time: at.clone() });
            let note = serde_json::to_string(&note).unwrap();
            let members = format!(
                "\"time\":\"{at}\",\"event\":\"head\",\"size\":{},\"note\":{note},\"peaks\":[]",
                tree.size
            );
            tree.push(&head.append(&mut text, |out| out.extend_from_slice(members.as_bytes())));
        }
        if full {
            fs::write(dir.path().join(format!("audit-{begun:012}-20270101T000000.000000Z.jsonl")), &text)
                .unwrap();
            text.clear();
            begun = head.next_seq;
        }
    }
    fs::write(dir.path().join("key"), signer.verifier().to_text()).unwrap();
    dir
}

/// `cargo nextest run --release --run-ignored all large` prints the durations.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn five_million_events_are_searched_and_verified() {
    let dir = large(5_000_000);
    let dir = dir.path();
    let began = std::time::Instant::now();
    let key = CheckpointKey::parse(&fs::read_to_string(dir.join("key")).unwrap()).unwrap();
    let report = verify(dir, &TrustAnchors { keys: vec![key], heads: Vec::new() }, |_| {}).unwrap();
    println!("verified {} events in {:?}", report.events, began.elapsed());
    assert_eq!(report.finding, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let began = std::time::Instant::now();
        let mut index = Index::open(&dir.join("search.db"), dir, false).await.unwrap();
        index.catch_up(|_| {}).await.unwrap();
        println!("indexed in {:?}", began.elapsed());
        index.close().await.unwrap();
        let pattern = |text: &str| claviger::policy::PathPattern::parse(text).unwrap();
        let day = |day: u32| Some(format!("2027-01-0{day}T00:00:00Z").parse().unwrap());
        let wanted: Vec<(&str, EventFilter)> = vec![
            ("a consumer", EventFilter { consumer: Some("tool-7".into()), ..EventFilter::default() }),
            ("a path", EventFilter { path: Some(pattern("/api/v1/users/31337/")), ..EventFilter::default() }),
            ("a pattern", EventFilter { path: Some(pattern("/api/v1/*/77*7/")), ..EventFilter::default() }),
            ("a deep pattern", EventFilter { path: Some(pattern("/api/**/1234")), ..EventFilter::default() }),
            (
                "a rare code of one",
                EventFilter {
                    consumer: Some("tool-3".into()),
                    code: Some("denied".into()),
                    ..EventFilter::default()
                },
            ),
            ("a text", EventFilter { text: Some("users/4242".into()), ..EventFilter::default() }),
            (
                "a text that is nowhere",
                EventFilter { text: Some("no such thing".into()), ..EventFilter::default() },
            ),
            (
                "nothing of many",
                EventFilter {
                    consumer: Some("tool-7".into()),
                    path: Some(pattern("/api/v1/users/1/")),
                    code: Some("denied".into()),
                    ..EventFilter::default()
                },
            ),
            (
                "common in a day",
                EventFilter {
                    method: Some("GET".into()),
                    since: day(2),
                    until: day(3),
                    ..EventFilter::default()
                },
            ),
            ("all", EventFilter::default()),
        ];
        for (name, wanted) in wanted {
            let began = std::time::Instant::now();
            let mut index = Index::open(&dir.join("search.db"), dir, false).await.unwrap();
            index.catch_up(|_| {}).await.unwrap();
            let lines = index.find(&wanted, 50).await.unwrap();
            let took = began.elapsed();
            println!("{name}: {} in {took:?}", lines.len());
            assert!(took < std::time::Duration::from_millis(300), "{name}");
        }
    });
}
