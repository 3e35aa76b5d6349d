//! The problems of a configuration file: all of them, each with its place.

pub(super) mod redact;
pub(super) mod render;
pub(super) mod suggest;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::span::{Span, line_starts};

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file cannot be used.
    Error,
    /// The file can be used, but its author should know of the problem.
    Warning,
}

/// One problem: what is wrong, where, and what to do about it.
///
/// No part of it may contain a value that could be a secret.
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
    /// Makes a problem that makes the file unusable; its span is [`Span::NOWHERE`] if it concerns the whole file.
    #[must_use]
    pub fn error(span: Span, title: impl Into<String>) -> Self {
        Self::new(Level::Error, span, title.into())
    }

    /// Makes a problem with which the file can still be used.
    #[must_use]
    pub fn warning(span: Span, title: impl Into<String>) -> Self {
        Self::new(Level::Warning, span, title.into())
    }

    /// Sets the text beside the underlined part.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Sets the advice on what to do.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Sets the advice on what to do, if there is any.
    #[must_use]
    pub fn help_if(self, help: Option<String>) -> Self {
        Self { help: help.or(self.help), ..self }
    }

    /// Points at a second place, as in "first defined here".
    #[must_use]
    pub fn related(self, span: Span, label: impl Into<String>) -> Self {
        Self { related: Some((span, label.into())), ..self }
    }

    /// The severity of the problem.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The place of the problem in the text.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The message that says what is wrong.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    fn new(level: Level, span: Span, title: String) -> Self {
        Self { level, span, title, label: None, help: None, related: None }
    }
}

/// All problems found in one file, with the text that is needed to show them.
#[derive(Debug, Clone)]
pub struct Problems {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) found: Vec<Problem>,
    pub(super) hidden: Vec<Span>,
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// An empty list of problems of the file at `path`, whose text is `text`.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), found: Vec::new(), hidden: Vec::new() }
    }

    /// Adds a problem; equal problems are shown once.
    pub fn push(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Marks a part of the text as a possible secret, so that it is never shown.
    pub fn hide(&mut self, span: Span) {
        self.hidden.push(span);
    }

    /// Whether there are no problems, not even warnings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether there are errors, so that the file cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Level::Error) > 0
    }

    /// The number of problems of this level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.sorted().iter().filter(|problem| problem.level == level).count()
    }

    /// All problems without duplicates, in the order of the text; those of the whole file come last.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<&Problem> = self.found.iter().collect();
        sorted.sort_by_key(|problem| problem.span.start);
        sorted.dedup();
        sorted
    }

    /// Removes problems that syntax errors may have caused. The first `of_syntax` problems are the syntax errors; in a
    /// text that is not TOML, the parser invents the value beside an error.
    pub(super) fn forgive_torn(&mut self, of_syntax: usize) {
        let later = self.found.split_off(of_syntax.min(self.found.len()));
        let starts = line_starts(&self.text);
        let line = |span: Span| starts.partition_point(|start| *start <= span.start);
        let beside: BTreeSet<usize> = self.found.iter().map(|problem| line(problem.span)).collect();
        let invented = |span: Span| span.is_nowhere() || span.end == 0 || beside.contains(&line(span));
        let kept: Vec<Problem> = later.into_iter().filter(|problem| !invented(problem.span)).collect();
        self.found.extend(kept);
    }

    /// Renders all problems for people: the affected text is underlined, and secrets are masked.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::text(self, colour)
    }

    /// Converts all problems to JSON for programs: a list of objects with `file`, `line`, `column`, `level`, `message`
    /// and, where known, `label`, `help` and `related`. Lines and columns count from 1, columns in characters.
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
