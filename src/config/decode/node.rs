//! The context of one document, and its values with their spans and names.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::problem::{Problem, Problems, redact};
use crate::config::span::{Span, Spanned};
use crate::name::Name;

/// Proof that a problem was reported; only this module makes one.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Reported(());

impl Reported {
    /// The proof for a key that is missing, which [`Table::finish`](super::Table::finish) reports at the latest.
    pub(super) fn later() -> Self {
        Self(())
    }
}

/// The result of a reader.
pub(in crate::config) type Read<T> = Result<T, Reported>;

/// The state that all readers of one document share.
pub(in crate::config) struct Context<'a> {
    problems: RefCell<Problems>,
    base: &'a Path,
    /// Whether a syntax error cut the document short, so that a missing key proves nothing.
    pub(super) incomplete: bool,
    /// The folder that `state_dir` names, in which other keys have their defaults.
    pub(in crate::config) state_dir: PathBuf,
    /// The content of a table that the document does not have.
    pub(super) absent: DeTable<'static>,
}

impl<'a> Context<'a> {
    pub(in crate::config) fn new(
        problems: Problems,
        base: &'a Path,
        document: &DeTable<'_>,
        incomplete: bool,
    ) -> Self {
        let state_dir = document.get("state_dir").and_then(|value| value.get_ref().as_str());
        let state_dir = base.join(state_dir.unwrap_or("state"));
        Self { problems: RefCell::new(problems), base, incomplete, state_dir, absent: DeTable::new() }
    }

    /// Ends the reading, and returns the problems found.
    pub(in crate::config) fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }

    pub(super) fn report(&self, problem: Problem) -> Reported {
        self.problems.borrow_mut().push(problem);
        Reported(())
    }

    pub(super) fn hide(&self, value: &toml::Spanned<DeValue<'_>>) {
        redact::leaves(value, &mut |span| self.problems.borrow_mut().hide(span));
    }
}

/// One value of the document, with its span and its name.
pub(in crate::config) struct Node<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) value: &'a toml::Spanned<DeValue<'a>>,
    /// The path of keys to the value, as in `limits.max_body`.
    pub(super) path: String,
    /// Whether the value is an item of the list called `path`.
    pub(super) item: bool,
    /// The name of the object, if it is one of several that the file declares by name.
    pub(super) name: Option<Spanned<Name>>,
}

impl<'a> Node<'a> {
    pub(in crate::config) fn span(&self) -> Span {
        self.value.span().into()
    }

    /// The folder of the configuration file, in which relative paths start.
    pub(in crate::config) fn base(&self) -> &Path {
        self.context.base
    }

    pub(in crate::config) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    pub(in crate::config) fn at<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(value, self.span())
    }

    /// The name of the object, if it is one of several that the file declares by name.
    pub(in crate::config) fn name(&self) -> Read<Spanned<Name>> {
        self.name.clone().ok_or_else(Reported::later)
    }

    /// The path of keys to the value.
    pub(in crate::config) fn path(&self) -> &str {
        &self.path
    }

    /// The value's name in messages.
    pub(in crate::config) fn subject(&self) -> String {
        if self.item { format!("each of `{}`", self.path) } else { format!("`{}`", self.path) }
    }

    /// The type of the value, with its article.
    pub(in crate::config) fn kind(&self) -> &'static str {
        match self.value() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    pub(in crate::config) fn report(&self, problem: Problem) -> Reported {
        self.context.report(problem)
    }

    /// Reports that the value is not acceptable here; the title begins with the value's name.
    pub(in crate::config) fn refuse(&self, predicate: &str) -> Reported {
        self.report(self.problem(predicate))
    }

    /// The problem that the value is not acceptable here; the title begins with the value's name.
    pub(in crate::config) fn problem(&self, predicate: &str) -> Problem {
        Problem::error(self.span(), format!("{} {predicate}", self.subject()))
    }

    /// Reports that the value is of the wrong type.
    pub(in crate::config) fn report_type(&self, expected: &str) -> Reported {
        self.refuse(&format!("must be {expected}, found {}", self.kind()))
    }

    /// Marks the value as one that no message may show.
    pub(in crate::config) fn hide(&self) {
        self.context.hide(self.value);
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Read<impl Iterator<Item = Node<'a>>> {
        let list = self.value().as_array().ok_or_else(|| self.report_type("a list"))?;
        let (context, path) = (self.context, self.path.clone());
        Ok(list.iter().map(move |value| Node { context, value, path: path.clone(), item: true, name: None }))
    }
}
