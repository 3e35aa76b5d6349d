//! A table of the document, read key by key.

use toml::de::{DeString, DeTable, DeValue};

use super::node::{Context, Node, Read, Reported};
use crate::config::problem::did_you_mean;
use crate::config::problem::{Problem, redact};
use crate::config::span::{Span, Spanned};
use crate::name::Name;

/// A table that is read key by key; [`Table::finish`] reports the keys that no reader asked for.
pub(in crate::config) struct Table<'a> {
    pub(in crate::config) context: &'a Context<'a>,
    keys: &'a DeTable<'a>,
    pub(super) span: Span,
    /// The name of the object, if it is one of several that the file declares by name.
    pub(super) name: Option<Spanned<Name>>,
    path: String,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Wraps the top-level table of the document.
    pub(in crate::config) fn root(context: &'a Context<'a>, keys: &'a DeTable<'a>) -> Self {
        let (known, missing) = (Vec::new(), Vec::new());
        Self { context, keys, span: Span::NOWHERE, name: None, path: String::new(), known, missing }
    }

    /// Wraps a value that must be a table.
    pub(super) fn of(node: &Node<'a>) -> Read<Self> {
        let keys = node.value().as_table().ok_or_else(|| node.report_type("a table"))?;
        let root = Self::root(node.context, keys);
        Ok(Self { span: node.span(), name: node.name.clone(), path: node.path.clone(), ..root })
    }

    /// Reads a key that may be left out.
    pub(in crate::config) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node<'a>) -> Read<T>,
    ) -> Read<Option<T>> {
        self.known.push(key);
        self.keys.get(key).map(|value| read(&self.child(key, value))).transpose()
    }

    /// Reads a key that must be there.
    pub(in crate::config) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node<'a>) -> Read<T>,
    ) -> Read<T> {
        self.optional(key, read)?.ok_or_else(|| {
            self.missing.push(key);
            Reported::later()
        })
    }

    /// Whether the table has this key.
    pub(in crate::config) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Every key with its value, in the order of the text.
    pub(super) fn entries(&self) -> Vec<(&'a toml::Spanned<DeString<'a>>, Node<'a>)> {
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        keys.into_iter().map(|(key, value)| (key, self.child(key.get_ref(), value))).collect()
    }

    /// Reports the keys that no reader asked for, and those that are missing.
    pub(in crate::config) fn finish(self) {
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

    fn child(&self, key: &str, value: &'a toml::Spanned<DeValue<'a>>) -> Node<'a> {
        let key = key.escape_debug();
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        Node { context: self.context, value, path, item: false, name: None }
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
