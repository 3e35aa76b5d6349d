//! Signed heads: with the public key, a copy of the trail can be verified without trust in the gateway.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger::audit::{Checkpoint, CheckpointKey, Report, Signer, TrustAnchors, segments, verify};
use serde_json::Value;

use crate::support::process::{Site, in_memory};
use crate::support::upstream::Upstream;
use crate::support::wait::{lapse, until_or};

const EVERY_TEN: &str = "[audit]\nrotate = \"64KiB\"\ncheckpoint_events = 10\norigin = \"gw.test/trail\"\n";

/// A closed trail with many events and heads, and the public key.
fn trail(calls: usize) -> (Site, PathBuf, CheckpointKey) {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, EVERY_TEN);
    let process = site.start();
    for call in 0..calls {
        assert_eq!(process.get(&format!("/api/v1/{call}/")).status, 200);
    }
    assert_eq!(process.end().0, Some(0));
    let key = CheckpointKey::parse(&fs::read_to_string(public(&site)).unwrap()).unwrap();
    let dir = site.audit();
    (site, dir, key)
}

fn public(site: &Site) -> PathBuf {
    site.folder.path().join("state/audit.pub")
}

/// The lines of a trail, without their line ends, for a copy in one segment.
struct Copy {
    lines: Vec<String>,
    dir: tempfile::TempDir,
}

impl Copy {
    fn of(dir: &Path) -> Self {
        let text: String =
            segments(dir).unwrap().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        Self { lines: text.lines().map(ToOwned::to_owned).collect(), dir: in_memory() }
    }

    fn verify(&self, lines: &[String], trusted: &TrustAnchors) -> Report {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.dir.path().join("audit-000000000001.jsonl"), text).unwrap();
        verify(self.dir.path(), trusted, |_| {}).unwrap()
    }

    fn found(&self, lines: &[String], trusted: &TrustAnchors) -> (u64, String) {
        let finding = self.verify(lines, trusted).finding.expect("nothing was found");
        (finding.seq, finding.problem)
    }
}

fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// The same lines with the sequence numbers and hashes that a gateway would write, but without the key.
fn chained(lines: &[String]) -> Vec<String> {
    let mut prev = "0".repeat(64);
    let again = lines.iter().zip(1..).map(|(line, seq)| {
        let (_, rest) = line.split_once("\",\"time\":").unwrap();
        let (rest, _) = rest.rsplit_once(",\"hash\":\"").unwrap();
        let body = format!("{{\"seq\":{seq},\"prev\":\"{prev}\",\"time\":{rest}");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
        prev = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{body},\"hash\":\"{prev}\"}}")
    });
    again.collect()
}

fn trusting(key: &CheckpointKey, heads: Vec<Checkpoint>) -> TrustAnchors {
    TrustAnchors { keys: vec![key.clone()], heads }
}

#[test]
fn heads_are_signed_after_so_many_events_after_a_while_and_at_the_end() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, &format!("{EVERY_TEN}checkpoint_interval = \"300ms\"\n"));
    let process = site.start();
    let heads = || site.events().iter().filter(|event| event["event"] == "head").count();
    assert_eq!(heads(), 1, "with the first line");
    assert_eq!(process.get("/api/").status, 200);
    until_or(|| heads() >= 2, || format!("{:#?}", site.events()));
    lapse(Duration::from_millis(700), "another head would have come after 300 ms");
    assert_eq!(heads(), 2, "nothing came since");
    for _ in 0..20 {
        assert_eq!(process.get("/api/").status, 200);
    }
    assert!(heads() >= 5, "40 events since");
    assert_eq!(process.end().0, Some(0));
    let report = site.verified();
    assert_eq!((&report["unsigned"], &report["open"]), (&0.into(), &0.into()));
    let opened = &site.events()[0];
    let key = fs::read_to_string(public(&site)).unwrap();
    assert_eq!(opened["key"], key.trim_end());
    // The next run uses the same key, and the tree covers all earlier events.
    assert_eq!(site.start().end().0, Some(0));
    assert!(site.verified()["heads"].as_u64().unwrap() > report["heads"].as_u64().unwrap());
    assert_eq!(site.events().iter().rfind(|event| event["what"] == "opened").unwrap()["key"], key.trim_end());
}

#[test]
fn every_flipped_byte_every_cut_and_every_swap_is_found() {
    let (_site, dir, key) = trail(90);
    let copy = Copy::of(&dir);
    assert!(copy.lines.len() >= 200, "{}", copy.lines.len());
    let last = copy.lines.iter().rev().find(|line| event(line)["event"] == "head").unwrap();
    let kept = key.open(event(last)["note"].as_str().unwrap()).unwrap();
    let trusted = trusting(&key, vec![kept]);
    assert_eq!(copy.verify(&copy.lines, &trusted).finding, None);
    // One byte of each line at varying places, and every byte of one head.
    for (number, line) in copy.lines.iter().enumerate() {
        let places =
            if number == 12 { 0..line.len() } else { number * 7 % line.len()..number * 7 % line.len() + 1 };
        for place in places {
            let mut bytes = line.clone().into_bytes();
            bytes[place] ^= 1;
            let mut lines = copy.lines.clone();
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            if changed.contains('\n') {
                continue;
            }
            lines[number] = changed;
            assert_eq!(copy.found(&lines, &trusted).0, number as u64 + 1, "byte {place}");
        }
    }
    // The stored head covers all lines except its own.
    for length in 0..copy.lines.len() - 1 {
        let (_, problem) = copy.found(&copy.lines[..length], &trusted);
        assert!(problem.starts_with("cut off"), "{length}: {problem}");
    }
    for first in 0..copy.lines.len() - 1 {
        let mut lines = copy.lines.clone();
        lines.swap(first, first + 1);
        assert_eq!(copy.found(&lines, &trusted).0, first as u64 + 1);
        // If an attacker renumbers and chains the lines again, the next head reveals it.
        let problem = copy.found(&chained(&lines), &trusted).1;
        assert!(problem.contains("head"), "{first}: {problem}");
    }
}

#[test]
fn a_trail_that_was_written_anew_without_the_key_is_found() {
    let (_site, dir, key) = trail(12);
    let copy = Copy::of(&dir);
    let trusted = trusting(&key, Vec::new());
    assert_eq!(chained(&copy.lines), copy.lines, "as the journal makes it");
    let edited: Vec<String> =
        copy.lines.iter().map(|line| line.replace("/api/v1/3/", "/api/v1/4/")).collect();
    assert_ne!(edited, copy.lines);
    let (seq, problem) = copy.found(&chained(&edited), &trusted);
    assert!(problem.contains("not those that it was signed over"), "{problem}");
    assert_eq!(event(&copy.lines[usize::try_from(seq).unwrap() - 1])["event"], "head");
    // Without one event.
    let mut fewer = copy.lines.clone();
    fewer.remove(5);
    let problem = copy.found(&chained(&fewer), &trusted).1;
    assert!(problem.contains("the head covers"), "{problem}");
    // Without any head.
    let none: Vec<String> =
        copy.lines.iter().filter(|line| event(line)["event"] != "head").cloned().collect();
    assert_eq!(copy.found(&chained(&none), &trusted).1, "the trail has no head, so nothing of it is signed");
    // With heads of another key.
    let forger = Signer::new("gw.test/trail", &[9; 32]).unwrap();
    let signed: Vec<String> = copy
        .lines
        .iter()
        .map(|line| {
            let told = event(line);
            let Some(head) = told["note"].as_str().and_then(|note| key.open(note)) else {
                return line.clone();
            };
            let quoted = |note: &str| serde_json::to_string(note).unwrap().replace('\u{2014}', "\\u2014");
            let (before, after) = (quoted(told["note"].as_str().unwrap()), quoted(&forger.sign(&head)));
            assert!(line.contains(&before), "{line}");
            line.replace(&before, &after)
        })
        .collect();
    let problem = copy.found(&chained(&signed), &trusted).1;
    assert!(problem.starts_with("forged: the head is not signed"), "{problem}");
    // Another gateway's trail of the same calls, compared with the stored head.
    let (_other_site, other, other_key) = trail(12);
    let other = Copy::of(&other);
    let kept = copy.verify(&copy.lines, &trusted).checkpoint.unwrap();
    let heads = vec![key.open(&kept).unwrap()];
    let both = TrustAnchors { keys: vec![key.clone(), other_key], heads };
    let problem = other.found(&other.lines, &both).1;
    assert!(problem.starts_with("forked"), "{problem}");
    let spliced: Vec<String> = copy.lines[..9].iter().chain(&other.lines[9..]).cloned().collect();
    assert_eq!(copy.found(&spliced, &both).0, 10);
    assert!(copy.found(&chained(&spliced), &both).1.contains("head"));
}

#[test]
fn a_call_is_proven_to_who_has_neither_trail_nor_trust() {
    let (site, _, key) = trail(23);
    let events = site.events();
    let calls: Vec<&Value> = events.iter().filter(|event| event["event"] == "outcome").collect();
    let file = site.folder.path().join("a.proof");
    let shown = key.to_text();
    let check = |text: &str, key: &str| {
        fs::write(&file, text).unwrap();
        site.run(&["audit", "verify-proof", file.to_str().unwrap(), "--key", key])
    };
    for call in &calls {
        let id = call["request_id"].as_str().unwrap();
        let proof = site.run(&["audit", "prove", id]);
        assert!(proof.status.success(), "{proof:?}");
        let told = check(&String::from_utf8(proof.stdout).unwrap(), &shown);
        let said = String::from_utf8(told.stdout).unwrap();
        let place = format!("proven: event {} of", call["seq"]);
        assert!(
            told.status.success() && said.contains(&place) && said.contains(call["target"].as_str().unwrap()),
            "{said}"
        );
    }
    let id = calls[7]["request_id"].as_str().unwrap();
    let proof = String::from_utf8(site.run(&["audit", "prove", id]).stdout).unwrap();
    for (name, added) in ways_of_keeping(&proof) {
        let told = check(&added, &shown);
        assert_eq!(told.status.code(), Some(0), "{name}: {told:?}");
    }
    let another = Signer::new("gw.test/trail", &[9; 32]).unwrap().verifier().to_text();
    assert_eq!(check(&proof, &another).status.code(), Some(1));
    assert_eq!(check(&proof, public(&site).to_str().unwrap()).status.code(), Some(0), "the key by its file");
    for (at, line) in proof.lines().enumerate().filter(|(_, line)| line.len() > 8) {
        // Another base64 letter in the middle of the line.
        let place = line.len() / 2;
        let other = if line.as_bytes()[place] == b'B' { "C" } else { "B" };
        let mut lines: Vec<String> = proof.lines().map(ToOwned::to_owned).collect();
        lines[at].replace_range(place..=place, other);
        let told = check(&(lines.join("\n") + "\n"), &shown);
        assert_eq!(told.status.code(), Some(1), "line {at}: {told:?}");
    }
    let none = site.run(&["audit", "prove", "01890000-0000-7000-8000-000000000000"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().contains("no event of this call is on the trail"));
}

/// A text after storage in various programs.
fn ways_of_keeping(text: &str) -> [(&'static str, String); 7] {
    [
        ("as it was", text.to_owned()),
        ("a line end more", format!("{text}\n")),
        ("three", format!("{text}\n\n\n")),
        ("none at its end", text.trim_end().to_owned()),
        ("of another system", text.replace('\n', "\r\n")),
        ("with blanks", format!("\n{}", text.replace('\n', " \n"))),
        ("with a byte order mark", format!("\u{feff}{text}\r\n\r\n")),
    ]
}

#[test]
fn the_public_key_is_printed_and_a_kept_head_is_held_against_the_trail() {
    let (site, dir, key) = trail(3);
    let printed = site.run(&["audit", "key"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap().trim_end(), key.to_text());
    let report = site.verified();
    let head = site.folder.path().join("head.note");
    fs::write(&head, report["checkpoint"].as_str().unwrap()).unwrap();
    let arguments = ["audit", "verify", "--head", head.to_str().unwrap()];
    assert!(site.run(&arguments).status.success());
    // As mail programs and editors change it; the key file as well.
    let note = fs::read_to_string(&head).unwrap();
    let file = site.folder.path().join("key.pub");
    for (name, added) in ways_of_keeping(&note) {
        fs::write(&head, added).unwrap();
        for (_, key) in ways_of_keeping(&format!("{}\n", key.to_text())) {
            fs::write(&file, key).unwrap();
            let done = site.run(&[&arguments[..], &["--key", file.to_str().unwrap()]].concat());
            assert!(done.status.success(), "{name}: {done:?}");
        }
    }
    fs::write(&head, note.replace("\n\n", "\n")).unwrap();
    assert_eq!(site.run(&arguments).status.code(), Some(1), "less is none");
    fs::write(&head, note).unwrap();
    // The trail is cut after its third line, which follows a head: only the stored head reveals it.
    let path = &segments(&dir).unwrap()[0];
    let text: String =
        fs::read_to_string(path).unwrap().lines().take(3).map(|line| format!("{line}\n")).collect();
    fs::write(path, text).unwrap();
    let copy = ["audit", "verify", "--dir", dir.to_str().unwrap(), "--key", &key.to_text()];
    assert!(site.run(&copy).status.success());
    let told = site.run(&[&copy[..], &["--head", head.to_str().unwrap()]].concat());
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(!told.status.success() && said.contains("cut off: the stored head"), "{said}");
    // A head of another key does not count.
    let other = Signer::new("gw.test/trail", &[9; 32]).unwrap();
    let forged = other.sign(&Checkpoint { size: 1, root: [0; 32], time: "2026-01-01T00:00:00Z".into() });
    fs::write(&head, forged).unwrap();
    assert!(
        String::from_utf8(site.run(&arguments).stderr)
            .unwrap()
            .contains("not a head that a trusted key has signed")
    );
}

#[test]
fn a_later_head_is_shown_to_only_add_to_an_earlier_one() {
    let (site, dir, _) = trail(40);
    let lines = Copy::of(&dir).lines;
    let notes: Vec<String> =
        lines.iter().filter_map(|line| event(line)["note"].as_str().map(String::from)).collect();
    let put = |name: &str, text: &str| {
        let path = site.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (first, last) = (put("first", &notes[1]), put("last", notes.last().unwrap()));
    let key = public(&site).display().to_string();
    let run =
        |arguments: &[&str]| site.run(&[&["audit", "consistency"], arguments, &["--key", &key]].concat());
    let proof = run(&[&first, &last]);
    assert_eq!(proof.status.code(), Some(0), "{proof:?}");
    let text = String::from_utf8(proof.stdout).unwrap();
    let file = put("proof", &text);
    let checked =
        |earlier: &str, later: &str, proof: &str| run(&[earlier, later, "--proof", proof]).status.code();
    assert_eq!(checked(&first, &last, &file), Some(0));
    for (name, added) in ways_of_keeping(&text) {
        assert_eq!(checked(&first, &last, &put("added", &added)), Some(0), "{name}");
    }
    for (name, added) in ways_of_keeping(&notes[1]) {
        assert_eq!(checked(&put("added", &added), &last, &file), Some(0), "{name}");
    }
    let other = put("other", &notes[2]);
    assert_eq!(checked(&other, &last, &file), Some(1), "another head");
    let short = put("short", text.split_once('\n').unwrap().1);
    assert_eq!(checked(&first, &last, &short), Some(1), "a part of the proof");
    assert_eq!(run(&[&last, &first]).status.code(), Some(1), "backwards");
    // claviger refuses a head of another key and a head of another trail.
    let (other_site, ..) = trail(3);
    let other_key = public(&other_site).display().to_string();
    let foreign = site.run(&["audit", "consistency", &first, &last, "--proof", &file, "--key", &other_key]);
    assert!(
        String::from_utf8_lossy(&foreign.stderr).contains("not a head that this key has signed"),
        "{foreign:?}"
    );
}
