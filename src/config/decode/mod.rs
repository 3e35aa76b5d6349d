//! Reads a spanned TOML document key by key, reports the problems of each, and continues.
//!
//! Every reader is a function from a [`Node`] to a value or [`Reported`]: the proof that the problem was reported.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeString, DeTable, DeValue};

use super::declared::Declared;
use super::problem::redact;
use super::problem::suggest::did_you_mean;
use super::problem::{Problem, Problems};
use super::span::{Span, Spanned};

pub(super) mod choice;
pub(super) mod scalar;
pub(super) mod text;
pub(super) mod units;

/// Proof that a problem was reported; only this module makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

/// The result of a reader.
pub(super) type Read<T> = Result<T, Reported>;

/// The state that all readers of one document share.
pub(super) struct Context<'a> {
    problems: RefCell<Problems>,
    base: &'a Path,
    /// Whether a syntax error cut the document short, so that a missing key proves nothing.
    incomplete: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(problems: Problems, base: &'a Path, torn: bool) -> Self {
        Self { problems: RefCell::new(problems), base, incomplete: torn }
    }

    pub(super) fn base(&self) -> &Path {
        self.base
    }

    /// Ends the reading, and returns the problems found.
    pub(super) fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }

    fn report(&self, problem: Problem) -> Reported {
        self.problems.borrow_mut().push(problem);
        Reported(())
    }

    fn hide(&self, value: &toml::Spanned<DeValue<'_>>) {
        redact::leaves(value, &mut |span| self.problems.borrow_mut().hide(span));
    }
}

/// One value of the document, with its span and its name.
pub(super) struct Node<'a> {
    context: &'a Context<'a>,
    value: &'a toml::Spanned<DeValue<'a>>,
    /// The path of keys to the value, as in `limits.max_body`.
    path: String,
    /// Whether the value is an item of the list called `path`.
    item: bool,
}

impl<'a> Node<'a> {
    pub(super) fn span(&self) -> Span {
        self.value.span().into()
    }

    /// The folder of the configuration file, in which relative paths start.
    pub(super) fn base(&self) -> &Path {
        self.context.base
    }

    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    pub(super) fn at<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(value, self.span())
    }

    /// The value's name in messages.
    pub(super) fn subject(&self) -> String {
        if self.item { format!("each of `{}`", self.path) } else { format!("`{}`", self.path) }
    }

    /// The type of the value, with its article.
    pub(super) fn kind(&self) -> &'static str {
        kind(self.value())
    }

    pub(super) fn report(&self, problem: Problem) -> Reported {
        self.context.report(problem)
    }

    /// Reports that the value is not acceptable here.
    pub(super) fn refuse(&self, title: impl Into<String>) -> Reported {
        self.report(Problem::error(self.span(), title))
    }

    /// Reports that the value is of the wrong type.
    pub(super) fn report_type(&self, expected: &str) -> Reported {
        self.refuse(format!("{} must be {expected}, found {}", self.subject(), self.kind()))
    }

    /// Marks the value as one that no message may show.
    pub(super) fn hide(&self) {
        self.context.hide(self.value);
    }

    /// Reads a list; it fails if any item fails.
    pub(super) fn list<T>(&self, read: impl Fn(&Node<'_>) -> Read<T>) -> Read<Vec<T>> {
        self.items()?.map(|item| read(&item)).collect::<Vec<_>>().into_iter().collect()
    }

    fn items(&self) -> Read<impl Iterator<Item = Node<'a>>> {
        let list = self.value().as_array().ok_or_else(|| self.report_type("a list"))?;
        let (context, path) = (self.context, self.path.clone());
        Ok(list.iter().map(move |value| Node { context, value, path: path.clone(), item: true }))
    }
}

/// A table that is read key by key; [`Table::finish`] reports the keys that no reader asked for.
pub(super) struct Table<'a> {
    context: &'a Context<'a>,
    keys: &'a DeTable<'a>,
    span: Span,
    path: String,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Wraps the top-level table of the document.
    pub(super) fn root(context: &'a Context<'a>, table: &'a DeTable<'a>) -> Self {
        let (known, missing) = (Vec::new(), Vec::new());
        Self { context, keys: table, span: Span::NOWHERE, path: String::new(), known, missing }
    }

    /// Wraps a value that must be a table.
    pub(super) fn of(node: &Node<'a>) -> Read<Self> {
        let table = node.value().as_table().ok_or_else(|| node.report_type("a table"))?;
        let (known, missing) = (Vec::new(), Vec::new());
        Ok(Self {
            context: node.context,
            keys: table,
            span: node.span(),
            path: node.path.clone(),
            known,
            missing,
        })
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Reads a key that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node<'a>) -> Read<T>,
    ) -> Read<Option<T>> {
        self.node(key).map(|node| read(&node)).transpose()
    }

    /// Reads a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node<'a>) -> Read<T>,
    ) -> Read<T> {
        if let Some(node) = self.node(key) {
            return read(&node);
        }
        self.missing.push(key);
        Err(Reported(())) // by `finish`, at the latest
    }

    /// Reads a key that has a default, which also replaces a refused value.
    pub(super) fn or_default<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Node<'a>) -> Read<T>,
    ) -> T {
        self.optional(key, read).ok().flatten().unwrap_or(default)
    }

    /// Reads a list of tables (`[[key]]`), each on its own, so that an invalid one does not affect the others. `None`
    /// if the list is absent, or if all of it is invalid, which is reported.
    pub(super) fn each<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Node<'a>) -> Read<T>,
    ) -> Option<Vec<T>> {
        let node = self.node(key)?;
        if node.value().is_table() {
            let title = format!("{} must be a list of tables, found a table", node.subject());
            node.report(Problem::error(node.span(), title).help(format!("write `[[{key}]]`")));
            return None;
        }
        let mut bad = false;
        let good = |item| read(&item).inspect_err(|_| bad = true).ok();
        let items: Vec<T> = node.items().ok()?.filter_map(good).collect();
        (!bad || !items.is_empty()).then_some(items)
    }

    /// Reads a table of named objects (`[key.name]`), each on its own.
    pub(super) fn keyed_items<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(Spanned<String>, &Node<'a>) -> Read<T>,
    ) -> Declared<T> {
        let mut objects = BTreeMap::new();
        let Some(Ok(table)) = self.node(key).map(|node| Table::of(&node)) else { return Declared::default() };
        for (name, value) in table.keys {
            let node = table.child(name.get_ref(), value);
            let place = Span::from(name.span());
            let object = match text::check_name(name.get_ref(), place, &node.subject()) {
                Some(problem) => Err(table.context.report(problem)),
                None => read(Spanned::new(name.get_ref().to_string(), place), &node),
            };
            objects.insert(name.get_ref().to_string(), object.ok());
        }
        Declared::new(objects)
    }

    /// Reports that two keys do not go together.
    pub(super) fn refuse_key(&self, span: Span, title: &str, help: &str) -> Reported {
        self.context.report(Problem::error(span, title).help(help))
    }

    /// Reads every key as a pair of name and value, in the order of the text.
    pub(super) fn pairs<T>(self, read: impl Fn(&Node<'a>) -> Read<T>) -> Read<Vec<(Spanned<String>, T)>> {
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let read = |(key, value): (&toml::Spanned<DeString<'_>>, _)| {
            let name = Spanned::new(key.get_ref().to_string(), key.span().into());
            read(&self.child(&name.value, value)).map(|value| (name, value))
        };
        keys.into_iter().map(read).collect::<Vec<_>>().into_iter().collect()
    }

    /// Reports the keys that no reader asked for, and those that are missing.
    pub(super) fn finish(self) {
        let mut meant = Vec::new();
        for (key, value) in self.keys.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref()))
        {
            let renamed = RENAMED.iter().find(|(old, new)| key.get_ref() == old && self.known.contains(new));
            if let Some((old, new)) = renamed {
                let title = format!("`{old}` {} is now called `{new}`", self.place());
                self.context
                    .report(Problem::error(key.span().into(), title).help("rename the key; its value stays"));
                continue;
            }
            let guess = did_you_mean(key.get_ref(), self.known.iter().copied());
            meant.extend(guess);
            if self.context.incomplete || guess.is_none_or(redact::hints) {
                self.context.hide(value); // its meaning is unknown
            }
            let title = format!("unknown key `{}` {}", key.get_ref().escape_debug(), self.place());
            let problem = Problem::error(key.span().into(), title).help_if(self.advice(key.get_ref(), guess));
            self.context.report(problem);
        }
        if self.context.incomplete {
            return;
        }
        for key in self.missing.iter().filter(|key| !meant.contains(key)) {
            let title = format!("missing key `{key}` {}", self.place());
            self.context.report(Problem::error(self.span, title));
        }
    }

    fn node(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.known.push(key);
        self.keys.get(key).map(|value| self.child(key, value))
    }

    fn child(&self, key: &str, value: &'a toml::Spanned<DeValue<'a>>) -> Node<'a> {
        let key = key.escape_debug();
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        Node { context: self.context, value, path, item: false }
    }

    fn place(&self) -> String {
        if self.path.is_empty() { "at the top level".to_owned() } else { format!("in `{}`", self.path) }
    }

    fn advice(&self, key: &str, guess: Option<&str>) -> Option<String> {
        if let Some(guess) = guess {
            return Some(format!("did you mean `{guess}`?"));
        }
        if !self.path.is_empty() && TOP_LEVEL.contains(&key) {
            return Some(format!("`{key}` is a key of the top level: write it above the first [table]"));
        }
        match self.known.as_slice() {
            [] => Some("no key belongs here".to_owned()),
            known if known.len() <= 12 => Some(format!("known keys: {}", known.join(", "))),
            _ => None,
        }
    }
}

/// The plain keys of the top level, which end up in a table if they are written below its header.
const TOP_LEVEL: [&str; 2] = ["state_dir", "workers"];

/// Keys of earlier versions, with the names that they have now.
const RENAMED: [(&str, &str); 7] = [
    ("head_events", "checkpoint_events"),
    ("head_interval", "checkpoint_interval"),
    ("keep", "retain"),
    ("keep_size", "retain_size"),
    ("store_bound", "store_max_staleness"),
    ("body_total", "body_total_timeout"),
    ("life", "lifetime"),
];

/// The type of a value, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
