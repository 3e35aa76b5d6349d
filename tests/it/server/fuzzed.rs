//! The targets of `tests/fuzz`, without a fuzzer: on every stored input, and on mutations of them.

#[path = "../../fuzz/src/bodies/mod.rs"]
mod bodies;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// The bytes that mutations insert, besides pieces of other inputs.
const PIECES: [&[u8]; 22] = [
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff",
    b"\"",
    b"\\",
    b"%2e",
    b"%2F",
    b"/",
    b"//",
    b";",
    b"?",
    b"=",
    b",",
    b"{",
    b"]",
    b" ",
    b"\r\n\r\n",
    b"content-length: 3\r\n",
    b"18446744073709551615",
    b"\xed\xa0\x80",
    b"\xc3\xa9",
];

/// Pseudo-random, and the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % most.max(1)
    }

    /// Applies one to four mutations.
    fn changed(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut changed = input.to_vec();
        for _change in 0..=self.below(4) {
            let (a, b) = (self.below(changed.len() + 1), self.below(changed.len() + 1));
            let (start, end) = (a.min(b), a.max(b).min(a.min(b) + 16));
            match self.below(6) {
                0 if start < changed.len() => changed[start] ^= 1 << self.below(8),
                1 if start < changed.len() => changed[start] = u8::try_from(self.below(256)).unwrap(),
                2 => drop(changed.drain(start..end)),
                3 => {
                    let again = changed[start..end].to_vec();
                    changed.splice(end..end, again);
                }
                4 => {
                    let from = self.below(other.len() + 1);
                    let piece = &other[from..(from + self.below(32)).min(other.len())];
                    changed.splice(start..end, piece.iter().copied());
                }
                _ => drop(changed.splice(start..start, PIECES[self.below(PIECES.len())].iter().copied())),
            }
        }
        changed
    }
}

fn corpus(name: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Runs a target's body on each stored input, and on this many mutations.
fn hold(name: &str, changes: usize) {
    let body = bodies::ALL.iter().find(|(known, _)| *known == name).unwrap().1;
    let inputs: Vec<Vec<u8>> = corpus(name).iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(inputs.len() >= 5, "{name} has inputs to begin with: {}", inputs.len());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let run = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
            eprintln!("{name} does not hold for b\"{}\"", input.escape_ascii());
            resume_unwind(panic);
        }
    };
    for input in &inputs {
        run(input);
    }
    for change in 0..changes {
        let input = &inputs[change % inputs.len()];
        let other = &inputs[dice.below(inputs.len())];
        run(&dice.changed(input, other));
    }
}

#[test]
fn targets_hold() {
    hold("target", 20_000);
}

#[test]
fn heads_hold() {
    hold("framer", 10_000);
}

#[test]
fn signatures_hold() {
    hold("signature", 5_000);
}

#[test]
fn links_hold() {
    hold("links", 10_000);
}

#[test]
fn trails_hold() {
    hold("trail", 300);
}

#[test]
fn configurations_hold() {
    hold("config", 300);
}

#[test]
fn connections_hold() {
    hold("connection", 500);
}

#[test]
fn every_target_has_inputs_and_they_stay_small() {
    let (mut count, mut bytes) = (0, 0);
    for (name, _) in bodies::ALL {
        for path in corpus(name) {
            count += 1;
            bytes += path.metadata().unwrap().len();
        }
    }
    assert!(count < 300 && bytes < 1 << 20, "{count} inputs of {bytes} bytes");
}
