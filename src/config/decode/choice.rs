//! Reads values from closed sets: one of several words, or one of several tagged values.

use super::node::Node;
use super::reader::Reader;
use super::shape::{Absent, Row, Shape};
use super::table::Table;
use crate::config::problem::{Problem, did_you_mean};
use crate::config::span::Span;

/// Reads one of several words.
pub(in crate::config) fn word<T: Copy + PartialEq + 'static>(
    words: &'static [(&'static str, T)],
) -> Reader<T> {
    let list = || words.iter().map(|(word, _)| *word);
    let quoted = list().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let read = move |node: &Node<'_>| {
        let Some(text) = node.value().as_str() else {
            return Err(node.report_type(&format!("one of {quoted}")));
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let help = match did_you_mean(text, list()) {
            Some(guess) => format!("did you mean \"{guess}\"?"),
            None => format!("it is one of {quoted}"),
        };
        Err(node.report(node.problem(&format!("cannot be \"{}\"", text.escape_debug())).help(help)))
    };
    Reader::new(Shape::Words(list().collect()), read).written(|value| {
        let word = words.iter().find(|(_, known)| known == value);
        word.map(|(word, _)| format!("\"{word}\"")).unwrap_or_default()
    })
}

/// A key that chooses one of several values: the key, its description, and the reader of its value.
pub(in crate::config) type Tag<T> = (&'static str, &'static str, Reader<T>);

/// Reads a table with exactly one of several keys; `noun` names what the key chooses, as in `scheme`.
pub(in crate::config) fn one_of<T: 'static>(noun: &'static str, tags: Vec<Tag<T>>) -> Reader<T> {
    let row = |(key, about, reader): &Tag<T>| Row {
        key,
        about,
        shape: reader.shape.clone(),
        absent: Absent::Nothing,
    };
    let shape = Shape::OneOf(tags.iter().map(row).collect());
    Reader::new(shape, move |node| {
        let known = || tags.iter().map(|(tag, ..)| *tag);
        let list = || known().collect::<Vec<_>>().join(", ");
        if node.value().as_str().is_some() {
            let help = known().next().map(|tag| format!("write it as in `{{ {tag} = … }}`"));
            return Err(node.report(node.problem("must be a table, found a string").help_if(help)));
        }
        let mut found: Vec<(Span, Node<'_>, &Reader<T>)> = Vec::new();
        let mut reported = None;
        for (key, value) in Table::of(node)?.entries() {
            let (span, key) = (Span::from(key.span()), key.get_ref().as_ref());
            if let Some((_, _, reader)) = tags.iter().find(|(tag, ..)| *tag == key) {
                found.push((span, value, reader));
                continue;
            }
            value.hide();
            let help = match did_you_mean(key, known()) {
                Some(guess) => format!("did you mean `{guess}`?"),
                None => format!("it is one of {}", list()),
            };
            let title = format!("unknown {noun} `{}`", key.escape_debug());
            reported = Some(node.report(Problem::error(span, title).help(help)));
        }
        match (found.as_slice(), reported) {
            ([(_, value, reader)], _) => reader.read(value),
            ([(first, ..), .., (second, ..)], _) => {
                let problem = Problem::error(*second, format!("more than one {noun} is given"));
                Err(node.report(problem.help("keep one of them").related(*first, "the first is here")))
            }
            ([], Some(reported)) => Err(reported),
            ([], None) => {
                let problem =
                    Problem::error(node.span(), format!("no {noun} is given in {}", node.subject()));
                Err(node.report(problem.help(format!("it is one of {}", list()))))
            }
        }
    })
}
