//! What is wrong with a configuration file: all of it, each with its place.

pub(super) mod redact;
pub(super) mod render;
pub(super) mod suggest;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::span::{Span, line_starts};

/// How much a problem weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file cannot be used.
    Error,
    /// The file can be used, and its author should know.
    Warning,
}

/// One thing that is wrong: what, where, and what to do about it.
///
/// No part of it may hold a value that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) level: Level,
    pub(super) span: Span,
    pub(super) title: String,
    pub(super) label: Option<String>,
    pub(super) help: Option<String>,
    pub(super) related: Option<(Span, String)>,
}

impl Problem {
    /// A problem that makes the file unusable; [`Span::NOWHERE`] for one of the file as a whole.
    #[must_use]
    pub fn error(span: Span, title: impl Into<String>) -> Self {
        Self::new(Level::Error, span, title.into())
    }

    /// A problem that the file can be used with.
    #[must_use]
    pub fn warning(span: Span, title: impl Into<String>) -> Self {
        Self::new(Level::Warning, span, title.into())
    }

    /// Says something beside the underlined text.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Says what to do, if there is something to say.
    #[must_use]
    pub fn help_if(self, help: Option<String>) -> Self {
        Self { help: help.or(self.help), ..self }
    }

    /// Points at a second place, as in "first defined here".
    #[must_use]
    pub fn related(self, span: Span, label: impl Into<String>) -> Self {
        Self { related: Some((span, label.into())), ..self }
    }

    /// How much it weighs.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Where it is.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// What is wrong.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    fn new(level: Level, span: Span, title: String) -> Self {
        Self { level, span, title, label: None, help: None, related: None }
    }
}

/// Every problem found in one file, with the text that is needed to show them.
#[derive(Debug, Clone)]
pub struct Problems {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) found: Vec<Problem>,
    pub(super) hidden: Vec<Span>,
}

impl Problems {
    /// No problem so far, with the file at `path` that reads `text`.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), found: Vec::new(), hidden: Vec::new() }
    }

    /// Adds a problem; the same one is shown once.
    pub fn push(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Never shows this part of the text, because it may be a secret.
    pub fn hide(&mut self, span: Span) {
        self.hidden.push(span);
    }

    /// Whether nothing is wrong, not even a warning.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether the file cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Level::Error) > 0
    }

    /// How many there are of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.sorted().iter().filter(|problem| problem.level == level).count()
    }

    /// Every problem once, in the order of the text; those of the file as a whole come last.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<&Problem> = self.found.iter().collect();
        sorted.sort_by_key(|problem| problem.span.start);
        sorted.dedup();
        sorted
    }

    /// Forgets, of what follows the first `of_syntax` problems, what they may have brought about: in a text that is not
    /// TOML, the value beside an error is the parser's invention.
    pub(super) fn forgive_torn(&mut self, of_syntax: usize) {
        let later = self.found.split_off(of_syntax.min(self.found.len()));
        let starts = line_starts(&self.text);
        let line = |span: Span| starts.partition_point(|start| *start <= span.start);
        let beside: BTreeSet<usize> = self.found.iter().map(|problem| line(problem.span)).collect();
        let invented = |span: Span| span.is_nowhere() || span.end == 0 || beside.contains(&line(span));
        let kept: Vec<Problem> = later.into_iter().filter(|problem| !invented(problem.span)).collect();
        self.found.extend(kept);
    }

    /// Writes all problems for people, the offending text underlined, secrets masked.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::text(self, colour)
    }

    /// Writes all problems for programs: a list of objects with `file`, `line`, `column`, `level`, `message`,
    /// and where known `label`, `help` and `related`. Lines and columns count from 1, columns in characters.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        render::json(self)
    }

    /// The number of errors and warnings in words, as in `2 errors, 1 warning`.
    #[must_use]
    pub fn summary(&self) -> String {
        let counted = |level, word| match self.count(level) {
            0 => None,
            1 => Some(format!("1 {word}")),
            more => Some(format!("{more} {word}s")),
        };
        let parts: Vec<String> = [counted(Level::Error, "error"), counted(Level::Warning, "warning")]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() { "no problem".to_owned() } else { parts.join(", ") }
    }
}
