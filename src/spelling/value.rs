//! What servers may read in the value of a member.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::{MARGINS, UNREADABLE, decodings, fold, trim, until_nul};

/// A decoded value, with all readings of servers; they are computed once, when they are needed.
#[derive(Debug)]
pub struct Value<'t> {
    text: Cow<'t, str>,
    read: OnceLock<Option<Vec<Reading>>>,
}

/// A folded reading of a value, with the number and the truth value in it.
#[derive(Debug)]
struct Reading {
    text: String,
    number: Option<u64>,
    truth: Option<Truth>,
}

/// The truth values that forms write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    True,
    False,
    /// A flag such as `?force`: true to some servers, false to others.
    Either,
}

impl Truth {
    fn may_be(self, expected: Self) -> bool {
        self == expected || self == Self::Either || expected == Self::Either
    }
}

/// The number or truth value that a expected text stands for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    number: Option<u64>,
    truth: Option<Truth>,
    /// Whether the text is a word for a truth value, so that any number but zero counts as true.
    is_word: bool,
}

impl Wanted {
    /// Finds the number and the truth value of a folded text.
    #[must_use]
    pub fn new(folded: &str) -> Self {
        let (number, word) = (number(folded), word(folded));
        let truth = word.or_else(|| number.and_then(digit));
        let is_word = word.is_some_and(|word| word != Truth::Either);
        Self { number: number.map(f64::to_bits), truth, is_word }
    }

    fn is(&self, read: &Reading) -> bool {
        if self.number.is_some() && self.number == read.number {
            return true;
        }
        let truth = match (read.truth, read.number.map(f64::from_bits)) {
            (None, Some(number)) if self.is_word => {
                Some(if number == 0.0 { Truth::False } else { Truth::True })
            }
            // Two numbers are compared only by value.
            (None, Some(number)) if self.number.is_none() => digit(number),
            (truth, _) => truth,
        };
        truth.zip(self.truth).is_some_and(|(read, expected)| read.may_be(expected))
    }
}

impl<'t> Value<'t> {
    /// Wraps a decoded text.
    #[must_use]
    pub fn new(text: Cow<'t, str>) -> Self {
        Self { text, read: OnceLock::new() }
    }

    /// The decoded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether some server may read a text that `matches` (folded and trimmed), or the expected number or truth value.
    ///
    /// A list (`list,delete`) is read as each of its elements, a number (`5.0`) as each way to write it.
    pub fn may_be(&self, expected: &Wanted, matches: impl Fn(&str) -> bool) -> bool {
        let Some(read) = self.read.get_or_init(|| read(&self.text)) else { return true };
        read.iter().any(|read| matches(&read.text) || expected.is(read))
    }
}

/// The readings of a decoded value, without duplicates; `None` if it may be read as anything.
fn read(value: &str) -> Option<Vec<Reading>> {
    let mut texts = BTreeSet::new();
    for value in decodings(value)? {
        if value.contains(UNREADABLE) {
            return None;
        }
        let elements = value.split(|letter: char| matches!(letter, ',' | ';') || letter.is_control());
        let distinct: BTreeSet<&str> = elements.chain([&*value]).collect();
        texts.extend(distinct.into_iter().map(|one| trim(&fold(one)).to_owned()));
    }
    let reading = |text: String| {
        let (number, truth) = (number(&text).map(f64::to_bits), word(&text));
        Reading { text, number, truth }
    };
    Some(texts.into_iter().map(reading).collect())
}

/// The truth value of a folded word.
fn word(read: &str) -> Option<Truth> {
    match read {
        "true" | "t" | "yes" | "y" | "on" => Some(Truth::True),
        "false" | "f" | "no" | "n" | "off" | "null" | "none" | "nil" => Some(Truth::False),
        "" => Some(Truth::Either),
        _ => None,
    }
}

/// The truth value of a number.
fn digit(number: f64) -> Option<Truth> {
    match number {
        0.0 => Some(Truth::False),
        1.0 => Some(Truth::True),
        _ => None,
    }
}

/// The number that some language reads in a text such as `5.0`, `05`, `5e0`, `5_0` or `0x5`.
#[expect(clippy::cast_precision_loss, reason = "numbers that are near each other may be taken for equal")]
fn number(read: &str) -> Option<f64> {
    let digits = read.replace('_', "");
    let (negative, plain) = digits.strip_prefix('-').map_or((false, &*digits), |plain| (true, plain));
    let of = |prefix, radix| u64::from_str_radix(plain.strip_prefix(prefix)?, radix).ok();
    let coded = of("0x", 16).or_else(|| of("0o", 8)).or_else(|| of("0b", 2));
    let number = match coded {
        Some(coded) if negative => -(coded as f64),
        Some(coded) => coded as f64,
        None => digits.parse().ok()?,
    };
    // Adding zero turns -0 into 0.
    number.is_finite().then_some(number + 0.0)
}

/// Whether some server may read a decoded value as empty, and so treat it as absent.
#[must_use]
pub fn is_blank(value: &str) -> bool {
    let nothing = |text: &str| {
        text.chars().all(|letter| matches!(letter, ',' | ';' | '.') || MARGINS.contains(&letter))
    };
    decodings(value)
        .is_none_or(|all| all.iter().any(|value| nothing(&fold(value)) || nothing(&fold(until_nul(value)))))
}
