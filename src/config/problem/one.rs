//! One problem of a configuration file.

use crate::config::span::Span;

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
    pub(in crate::config) level: Level,
    pub(super) span: Span,
    /// The message that says what is wrong.
    pub title: String,
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

    fn new(level: Level, span: Span, title: String) -> Self {
        Self { level, span, title, label: None, help: None, related: None }
    }
}
