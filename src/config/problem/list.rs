//! All problems of one file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::one::{Level, Problem};
use super::render::{self, Source};
use crate::config::span::{Span, line_starts};

/// All problems found in one file, with the text that is needed to show them.
#[derive(Debug, Clone)]
pub struct Problems {
    source: Source,
    pub(in crate::config) found: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// An empty list of problems of the file at `path`, whose text is `text`.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        let source = Source { path: path.to_owned(), text: text.to_owned(), hidden: Vec::new() };
        Self { source, found: Vec::new() }
    }

    /// Adds a problem; equal problems are shown once.
    pub fn push(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Marks a part of the text as a possible secret, so that it is never shown.
    pub fn hide(&mut self, span: Span) {
        self.source.hidden.push(span);
    }

    /// Adds an error with its remedy, for what is then missing; returns `None`.
    pub(in crate::config) fn refuse<T>(
        &mut self,
        span: Span,
        title: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.push(Problem::error(span, title).help(help));
        None
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
    pub(in crate::config) fn forgive_torn(&mut self, of_syntax: usize) {
        let later = self.found.split_off(of_syntax.min(self.found.len()));
        let starts = line_starts(&self.source.text);
        let line = |span: Span| starts.partition_point(|start| *start <= span.start);
        let beside: BTreeSet<usize> = self.found.iter().map(|problem| line(problem.span)).collect();
        let invented = |span: Span| span.is_nowhere() || span.end == 0 || beside.contains(&line(span));
        self.found.extend(later.into_iter().filter(|problem| !invented(problem.span)));
    }

    /// Renders all problems for people: the affected text is underlined, and secrets are masked.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::text(&self.source, &self.sorted(), colour)
    }

    /// Converts all problems to JSON for programs: a list of objects with `file`, `line`, `column`, `level`, `message`
    /// and, where known, `label`, `help` and `related`. Lines and columns count from 1, columns in characters.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        render::json(&self.source, &self.sorted())
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
