//! A changed trail: `audit verify` names the first wrong line, whatever the change.

use std::fs;
use std::path::{Path, PathBuf};

use claviger::audit::{Finding, Report, segments};

use crate::support::process::{Site, in_memory};
use crate::support::upstream::Upstream;
use crate::support::world::verified;

/// A trail with some segments, and the binary that verifies it.
fn trail() -> (Site, PathBuf) {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "[audit]\nrotate = \"4KiB\"\n");
    let process = site.start();
    for call in 0..12 {
        assert_eq!(process.get(&format!("/api/v1/{call}/")).status, 200);
    }
    assert_eq!(process.end().0, Some(0));
    let dir = site.audit();
    (site, dir)
}

/// The place of a line of the trail: its segment, its line number, its event.
#[derive(Clone, Copy)]
struct Place {
    segment: usize,
    line: usize,
    seq: u64,
}

/// The names and lines of the segments, newlines included, and the place of every line.
struct Copy {
    names: Vec<String>,
    lines: Vec<Vec<Vec<u8>>>,
    dir: tempfile::TempDir,
}

impl Copy {
    fn of(dir: &Path) -> Self {
        let paths = segments(dir).unwrap();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let lines = |path: &PathBuf| {
            fs::read(path).unwrap().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
        };
        let copy = Self {
            names: paths.iter().map(name).collect(),
            lines: paths.iter().map(lines).collect(),
            dir: in_memory(),
        };
        for segment in 0..copy.names.len() {
            copy.write(segment, &copy.lines[segment].concat());
        }
        assert!(copy.names.len() >= 3 && copy.lines.iter().all(|lines| !lines.is_empty()));
        copy
    }

    fn places(&self) -> Vec<Place> {
        let lines = self.lines.iter().enumerate();
        let places = lines.flat_map(|(segment, lines)| (0..lines.len()).map(move |line| (segment, line)));
        places.zip(1..).map(|((segment, line), seq)| Place { segment, line, seq }).collect()
    }

    /// Verifies the trail after a change of one segment's bytes.
    fn verify(&self, segment: usize, changed: &[u8]) -> Report {
        self.write(segment, changed);
        let report = verified(self.dir.path()).unwrap();
        self.write(segment, &self.lines[segment].concat());
        report
    }

    fn write(&self, segment: usize, bytes: &[u8]) {
        fs::write(self.dir.path().join(&self.names[segment]), bytes).unwrap();
    }

    fn assert_found(&self, report: &Report, place: Place, what: &str) -> String {
        let Place { segment, line, seq } = place;
        let Some(Finding { segment: named, line: number, seq: told, problem }) = report.finding.clone()
        else {
            panic!("{what} at seq {seq} was not found")
        };
        let wanted = (self.names[segment].clone(), line as u64 + 1, seq);
        assert_eq!((named, number, told), wanted, "{what}: {problem}");
        problem
    }
}

#[test]
fn every_changed_byte_is_found_where_it_is() {
    let (_site, dir) = trail();
    let copy = Copy::of(&dir);
    let places = copy.places();
    let last = places[places.len() - 1].seq;
    let mut tried = 0;
    for (number, place) in places.iter().enumerate() {
        let lines = &copy.lines[place.segment];
        let start: usize = lines[..place.line].iter().map(Vec::len).sum();
        let size = lines[place.line].len();
        // A different sample in each line, so that every member is changed in some line.
        for at in (number % 13..size).step_by(13).chain([size - 2, size - 1]) {
            if place.seq == last && at == size - 1 {
                continue;
            }
            for mask in [0x01, 0x20, 0x80] {
                let mut bytes = lines.concat();
                bytes[start + at] ^= mask;
                copy.assert_found(&copy.verify(place.segment, &bytes), *place, "a changed byte");
                tried += 1;
            }
        }
    }
    assert!(tried > 2_000, "{tried}");
}

#[test]
fn a_trail_cut_anywhere_is_a_shorter_one_or_found() {
    let (_site, dir) = trail();
    let copy = Copy::of(&dir);
    let final_segment = copy.names.len() - 1;
    let whole = copy.lines[final_segment].concat();
    let before: usize = copy.lines[..final_segment].iter().map(Vec::len).sum();
    for size in 0..whole.len() {
        let report = copy.verify(final_segment, &whole[..size]);
        assert_eq!(report.finding, None, "cut to {size}");
        let ends = whole[..size].split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(report.events, (before + ends) as u64, "cut to {size}");
        let kept = whole[..size].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!(report.unfinished_bytes, (size - kept) as u64, "cut to {size}");
    }
    let first = copy.lines[0].concat();
    for size in (0..first.len()).step_by(7) {
        let ends = first[..size].split(|byte| *byte == b'\n').count() - 1;
        let at_an_end = size == 0 || first[size - 1] == b'\n';
        let (segment, line) = if at_an_end { (1, 0) } else { (0, ends) };
        let place = Place { segment, line, seq: ends as u64 + 1 };
        copy.assert_found(&copy.verify(0, &first[..size]), place, "a cut");
    }
}

#[test]
fn every_deleted_repeated_and_moved_line_is_found() {
    let (_site, dir) = trail();
    let copy = Copy::of(&dir);
    let places = copy.places();
    for place in &places[..places.len() - 1] {
        let (lines, at) = (&copy.lines[place.segment], place.line);
        let verify = |lines: &[Vec<u8>]| copy.verify(place.segment, &lines.concat());

        let mut deleted = lines.clone();
        deleted.remove(at);
        // If the last line of a segment is deleted, the first line of the next segment reveals it.
        let next = if at == deleted.len() {
            Place { segment: place.segment + 1, line: 0, ..*place }
        } else {
            *place
        };
        let problem = copy.assert_found(&verify(&deleted), next, "a deleted line");
        assert!(problem.contains("missing"), "{problem}");

        let mut repeated = lines.clone();
        repeated.insert(at, lines[at].clone());
        let after = Place { line: at + 1, seq: place.seq + 1, ..*place };
        let problem = copy.assert_found(&verify(&repeated), after, "a repeated line");
        assert!(problem.contains("inserted or out of order"), "{problem}");

        if at + 1 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            copy.assert_found(&verify(&swapped), *place, "swapped lines");
        }
        let mut inserted = lines.clone();
        inserted.insert(at, b"{\"seq\":1,\"event\":\"outcome\"}\n".to_vec());
        copy.assert_found(&verify(&inserted), *place, "an inserted line");
    }
}

/// A line that was edited by somebody with knowledge of the hash.
fn forged(line: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(line).unwrap().replace(from, to);
    let body = text.split(",\"hash\":\"").next().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let hash: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{body},\"hash\":\"{}\"}}\n", hash.concat()).into_bytes()
}

#[test]
fn an_edit_with_a_hash_that_fits_breaks_the_chain_behind_it() {
    let (_site, dir) = trail();
    let copy = Copy::of(&dir);
    let places = copy.places();
    assert_eq!(forged(&copy.lines[0][1], "", ""), copy.lines[0][1], "as the journal makes it");
    for (place, next) in places.iter().zip(&places[1..]) {
        let mut lines = copy.lines[place.segment].clone();
        lines[place.line] = forged(&lines[place.line], "\"time\":\"20", "\"time\":\"19");
        let problem = copy.assert_found(&copy.verify(place.segment, &lines.concat()), *next, "a forged line");
        assert!(problem.contains("prev"), "{problem}");
    }
}

#[test]
fn a_missing_segment_and_another_trails_are_found() {
    let (_site, dir) = trail();
    let (_other_site, other) = trail();
    let (copy, other) = (Copy::of(&dir), Copy::of(&other));
    let second = copy.lines[0].len() as u64 + 1;
    let report = copy.verify(1, b"");
    let third = Place { segment: 2, line: 0, seq: second };
    assert!(copy.assert_found(&report, third, "an emptied segment").contains("missing"));
    assert_eq!(other.lines[0].len(), copy.lines[0].len(), "the same calls");
    let spliced = copy.verify(1, &other.lines[1].concat());
    copy.assert_found(&spliced, Place { segment: 1, line: 0, seq: second }, "another trail's segment");
}

#[test]
fn the_command_names_the_line() {
    let (site, dir) = trail();
    let path = &segments(&dir).unwrap()[1];
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("\"status\":200", "\"status\":204", 1)).unwrap();
    let report = verified(&dir).unwrap().finding.unwrap();
    let told = site.run(&["audit", "verify"]);
    assert_eq!((told.status.code(), told.stdout.len()), (Some(1), 0), "{told:?}");
    let line = text.lines().position(|line| line.contains("\"status\":200")).unwrap() + 1;
    let name = path.file_name().unwrap().to_str().unwrap();
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(said.contains(&format!("{name}:{line} (seq {}): edited", report.seq)), "{said}");
    let told = site.run(&["audit", "verify", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(1));
    let finding = &json["finding"];
    assert_eq!(
        (&finding["segment"], &finding["line"], &finding["seq"]),
        (&name.into(), &line.into(), &report.seq.into())
    );
}
