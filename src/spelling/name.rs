//! What servers may read in the name of a member.

use std::borrow::Cow;

use super::{MARGINS, UNREADABLE, decodings, fold, match_parts, trim, until_control};
use crate::query::decode_query;

/// The number of names per request that are read in every spelling, not counting plain ones.
const MOST_NAMES: usize = 256;

/// The greatest total length of these names, folded, in bytes.
const MOST_FOLDED: usize = 32 * 1024;

/// The greatest factor by which folding lengthens a text: `U+FDFA` has 3 bytes, and 33 when folded.
const MOST_GROWTH: usize = 11;

/// The budget of text that may be folded for one request. Text beyond it is not read, so that no request costs much.
#[derive(Debug)]
pub struct Reading {
    names: usize,
    folded: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self { names: MOST_NAMES, folded: MOST_FOLDED }
    }
}

impl Reading {
    /// Folds a text; `None` if the budget is used up.
    fn fold<'t>(&mut self, text: &'t str) -> Option<Cow<'t, str>> {
        let growth = if text.is_ascii() { 1 } else { MOST_GROWTH };
        if text.len().saturating_mul(growth) > self.folded {
            return None;
        }
        let folded = fold(text);
        self.folded = self.folded.checked_sub(folded.len())?;
        Some(folded)
    }
}

/// How a name relates to a wanted name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Naming {
    /// No reading of the name is the wanted name.
    Other,
    /// The name may be read as the wanted name, with the value as written.
    Same,
    /// The name may be read as a part of the wanted name (`action[x]`), or as anything: its value is unknown.
    Part,
}

/// A name as received, with all readings of servers. They are computed once, whatever names are wanted.
#[derive(Debug)]
pub struct Name<'t> {
    written: Cow<'t, str>,
    read: Read,
}

#[derive(Debug)]
enum Read {
    /// As written, and in no other way, which is true of almost every name.
    Plain,
    /// In any of these ways. Each has several forms, of which the first wanted one counts.
    Any(Vec<Vec<Form>>),
    /// In ways that cannot be determined.
    Unknown,
}

/// A folded name, or the part of one that identifies the member.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    text: String,
    /// The text with `_` for each other word separator, if there are any.
    snake: Option<String>,
    naming: Naming,
}

impl Form {
    fn new(text: &str, naming: Naming) -> Self {
        const OTHERS: [char; 3] = ['-', '.', ' '];
        let snake = text.contains(OTHERS).then(|| text.replace(OTHERS, "_"));
        Self { text: text.to_owned(), snake, naming }
    }
}

impl<'t> Name<'t> {
    /// Reads a decoded name; `None` if the budget of the request is used up.
    #[must_use]
    pub fn read(written: Cow<'t, str>, reading: &mut Reading) -> Option<Self> {
        let read = if is_plain(&written) { Read::Plain } else { Read::of(&written, reading)? };
        Some(Self { written, read })
    }

    /// Reads the name of a query member, as written in the query; `None` if the budget is used up.
    #[must_use]
    pub fn read_query(written: Cow<'t, str>, reading: &mut Reading) -> Option<Self> {
        let read = if is_plain(&written) { Read::Plain } else { Read::of(&decode_query(&written), reading)? };
        Some(Self { written, read })
    }

    /// The name as received.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl Read {
    /// The readings of a decoded name.
    fn of(text: &str, reading: &mut Reading) -> Option<Self> {
        // This name has one reading, which is found at little cost.
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            return Some(Self::Any(vec![vec![Form::new(&text.to_ascii_lowercase(), Naming::Same)]]));
        }
        reading.names = reading.names.checked_sub(1)?;
        if text.len() > reading.folded {
            return None;
        }
        let Some(decodings) = decodings(text) else { return Some(Self::Unknown) };
        let whole = decodings.iter().map(Cow::as_ref);
        let mut all: Vec<&str> = whole.clone().chain(whole.map(until_control)).collect();
        if all.iter().any(|read| read.contains(UNREADABLE)) {
            return Some(Self::Unknown);
        }
        all.sort_unstable();
        all.dedup();
        let mut forms = Vec::with_capacity(all.len());
        for read in all {
            forms.push(forms_of(&reading.fold(read)?));
        }
        forms.dedup();
        Some(Self::Any(forms))
    }
}

/// The readings of a folded name by servers that decode it no further.
fn forms_of(folded: &str) -> Vec<Form> {
    let read = folded.trim_start_matches(|letter| letter == '?' || MARGINS.contains(&letter));
    let mut forms = vec![Form::new(trim(read), Naming::Same)];
    let mut add = |text: &str, naming| {
        if forms.iter().all(|form| form.text != text) {
            forms.push(Form::new(text, naming));
        }
    };
    // Lists are `action[]`, `action[0]`, `[action]`, `action.0`; others are `action[$ne]`, `action.x`.
    for borders in [&['[', ']'][..], &['.']] {
        let mut parts = read.split(borders).map(trim).filter(|part| !part.is_empty());
        if let Some(first) = parts.next() {
            let counts = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            add(first, if parts.all(counts) { Naming::Same } else { Naming::Part });
        }
    }
    // PHP replaces `[` with `_`, too.
    add(&read.replace(['[', ']'], "_"), Naming::Same);
    forms
}

/// A wanted name; in a pattern `*` is any text.
#[derive(Debug, Clone)]
pub struct NamePattern<'t> {
    text: Cow<'t, str>,
    /// The folded parts between the stars; trimmed if there is no star.
    parts: Vec<Cow<'t, str>>,
}

impl<'t> NamePattern<'t> {
    /// Parses the pattern in `text`.
    #[must_use]
    pub fn new(text: &str) -> NamePattern<'static> {
        let mut parts: Vec<String> = text.split('*').map(|part| fold(part).into_owned()).collect();
        if let [name] = &mut *parts {
            *name = trim(name).to_owned();
        }
        NamePattern { text: Cow::Owned(text.to_owned()), parts: parts.into_iter().map(Cow::Owned).collect() }
    }

    /// A pattern for this name, in which `*` has no special meaning.
    pub(super) fn literal(text: &'t str) -> Self {
        let name = match fold(text) {
            Cow::Borrowed(folded) => Cow::Borrowed(trim(folded)),
            Cow::Owned(folded) => Cow::Owned(trim(&folded).to_owned()),
        };
        Self { text: Cow::Borrowed(text), parts: vec![name] }
    }

    /// The name or pattern as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches any name.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(|part| part.is_empty())
    }

    /// How `name` relates to the wanted name.
    #[must_use]
    pub fn naming(&self, name: &Name<'_>) -> Naming {
        match &name.read {
            Read::Plain if self.is_plain(&name.written) => Naming::Same,
            Read::Plain => Naming::Other,
            Read::Unknown => Naming::Part,
            Read::Any(all) => {
                let naming = |forms: &Vec<Form>| {
                    let form = forms.iter().find(|form| self.is(form));
                    form.map_or(Naming::Other, |form| form.naming)
                };
                all.iter().map(naming).max().unwrap_or(Naming::Other)
            }
        }
    }

    /// Whether a plain name is the wanted name.
    pub(super) fn is_plain(&self, plain: &str) -> bool {
        match &*self.parts {
            [name] => is_same_name(plain, name),
            parts => match_parts(parts, plain),
        }
    }

    fn is(&self, form: &Form) -> bool {
        match &*self.parts {
            [name] => is_same_name(&form.text, name),
            parts => {
                match_parts(parts, &form.text)
                    || form.snake.as_ref().is_some_and(|snake| match_parts(parts, snake))
            }
        }
    }
}

/// Whether a name is folded, trimmed, and has no parts.
pub(super) fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether two folded names are the same to some frameworks, as `user_id`, `user-id`, `user.id` and `userId` are.
fn is_same_name(one: &str, other: &str) -> bool {
    fn letters(name: &str) -> impl Iterator<Item = char> {
        const SEPARATORS: [char; 4] = ['_', '-', '.', ' '];
        let from_first = name.trim_start_matches(SEPARATORS);
        let before = name.strip_suffix(from_first).unwrap_or_default();
        let inner = from_first.trim_end_matches(SEPARATORS);
        let after = from_first.strip_prefix(inner).unwrap_or_default();
        let inner = inner.chars().filter(|letter| !SEPARATORS.contains(letter));
        before.chars().chain(inner).chain(after.chars())
    }
    letters(one).eq(letters(other))
}
