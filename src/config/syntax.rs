//! Reports syntax errors of TOML: all that its parser finds when it continues after the first.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::redact;
use super::problem::{Problem, Problems};
use super::span::Span;

/// Parses the text as TOML and reports every syntax error. Returns what could be parsed, and whether that is all of it.
pub(super) fn parse<'a>(text: &'a str, problems: &mut Problems) -> (DeTable<'a>, bool) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let document = document.into_inner();
    redact::comments(text, &mut |span| problems.hide(span));
    redact::document(&document, &mut |span| problems.hide(span));
    if errors.is_empty() {
        return (document, true);
    }
    redact::lines(text, &mut |span| problems.hide(span));
    for error in errors {
        let span = error.span().map_or(Span::NOWHERE, Span::from);
        problems.push(explain(error.message(), span, text, &document));
    }
    (document, false)
}

fn explain(message: &str, span: Span, text: &str, document: &DeTable<'_>) -> Problem {
    if message != "duplicate key" {
        return Problem::error(span, format!("not valid TOML: {message}"));
    }
    let key = text.get(span.start..span.end).unwrap_or_default();
    let problem = Problem::error(span, format!("`{}` is defined twice", key.escape_debug()));
    let first = first_header(text, span).or_else(|| first_key(document, text, span));
    match first {
        Some(first) => problem.related(first, "first defined here").help("keep one of them"),
        None => problem.help("keep one of them"),
    }
}

/// The span of the earlier of two equal `[table]` headers.
fn first_header(text: &str, second: Span) -> Option<Span> {
    let start = text.get(..second.start)?.rfind('\n').map_or(0, |newline| newline + 1);
    let header = text.get(start..)?.lines().next()?.trim();
    let header = header.get(..=header.rfind(']')?)?;
    if !header.starts_with('[') {
        return None;
    }
    let mut at = 0;
    for line in text.get(..start)?.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if line
            .trim_start()
            .strip_prefix(header)
            .is_some_and(|rest| rest.trim().is_empty() || rest.contains('#'))
        {
            return Some(Span { start: at + indent, end: at + indent + header.len() });
        }
        at += line.len();
    }
    None
}

/// The span of the key of the same name in the table that contains the second one.
fn first_key(document: &DeTable<'_>, text: &str, second: Span) -> Option<Span> {
    let key = text.get(second.start..second.end)?.trim_matches(['"', '\'']);
    let mut home = Home { text, offset: second.start, start: 0, table: document };
    home.search(document);
    let (first, _) = home.table.get_key_value(key)?;
    let first = Span::from(first.span());
    (first.start < second.start).then_some(first)
}

/// The table that a place in the text belongs to: the last one that starts before it. An inline table counts only if it
/// contains the place.
struct Home<'a, 'b> {
    text: &'a str,
    offset: usize,
    start: usize,
    table: &'a DeTable<'b>,
}

impl<'a, 'b> Home<'a, 'b> {
    fn search(&mut self, table: &'a DeTable<'b>) {
        table.values().for_each(|value| self.look(value));
    }

    fn look(&mut self, value: &'a Spanned<DeValue<'b>>) {
        let span = Span::from(value.span());
        if let Some(list) = value.get_ref().as_array() {
            list.iter().for_each(|item| self.look(item));
        } else if let Some(table) = value.get_ref().as_table() {
            let holds = match self.text.as_bytes().get(span.start) {
                Some(b'[') => span.start <= self.offset,
                Some(b'{') => span.holds(self.offset),
                _ => false,
            };
            if holds && span.start >= self.start {
                (self.start, self.table) = (span.start, table);
            }
            self.search(table);
        }
    }
}
