//! Reads values from closed sets: one of several words, or one of several tagged tables.

use super::{Node, Read, Table};
use crate::config::problem::Problem;
use crate::config::problem::suggest::did_you_mean;
use crate::config::span::{Span, Spanned};

/// Reads one of several words.
pub(in crate::config) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Node<'_>) -> Read<T> {
    move |node| {
        let list = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let Some(text) = node.value().as_str() else {
            return Err(node.report_type(&format!("one of {}", quote_list(&list()))));
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let title = format!("{} cannot be \"{}\"", node.subject(), text.escape_debug());
        let help = match did_you_mean(text, list()) {
            Some(guess) => format!("did you mean \"{guess}\"?"),
            None => format!("it is one of {}", quote_list(&list())),
        };
        Err(node.report(Problem::error(node.span(), title).help(help)))
    }
}

/// A set of tags, each a key with a table or value of its own, exactly one of which is given.
pub(in crate::config) struct Tags {
    /// What the tag chooses, as in `scheme`.
    pub(in crate::config) noun: &'static str,
    /// Every tag that the file format knows.
    pub(in crate::config) known: &'static [&'static str],
    /// The tags that this version implements.
    pub(in crate::config) available: &'static [&'static str],
}

impl Tags {
    /// Reads the one tag, and returns it with its value.
    pub(in crate::config) fn read<'a>(&self, node: &Node<'a>) -> Read<(&'static str, Node<'a>)> {
        if node.value().as_str().is_some() {
            let problem =
                Problem::error(node.span(), format!("{} must be a table, found a string", node.subject()));
            let help = self.available.first().map(|tag| format!("write it as in `{{ {tag} = … }}`"));
            return Err(node.report(problem.help_if(help)));
        }
        let table = Table::of(node)?;
        let mut keys: Vec<_> = table.keys.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut found: Vec<(&'static str, Span, Node<'a>)> = Vec::new();
        let mut reported = None;
        for (key, value) in keys {
            let span = Span::from(key.span());
            if let Some(tag) = self.known.iter().find(|tag| **tag == key.get_ref().as_ref()) {
                found.push((tag, span, table.child(tag, value)));
            } else {
                node.context.hide(value);
                reported = Some(node.report(self.unknown(key.get_ref(), span)));
            }
        }
        match (found.len(), reported, found.pop()) {
            (1, _, Some((tag, span, inner))) => self.check(tag, span, node).map(|()| (tag, inner)),
            (_, _, Some((_, second, _))) => Err(node.report(self.several(&found, second))),
            (_, Some(reported), None) => Err(reported),
            (_, None, None) => Err(node.report(
                Problem::error(node.span(), format!("no {} is given in {}", self.noun, node.subject()))
                    .help(format!("it is one of {}", self.available.join(", "))),
            )),
        }
    }

    fn check(&self, tag: &'static str, span: Span, node: &Node<'_>) -> Read<()> {
        if self.available.contains(&tag) {
            return Ok(());
        }
        let title = format!("{} \"{tag}\" is not available in this version", self.noun);
        let help = format!("available: {}", self.available.join(", "));
        node.hide();
        Err(node.report(Problem::error(span, title).help(help)))
    }

    fn unknown(&self, key: &str, span: Span) -> Problem {
        let help = match did_you_mean(key, self.known.iter().copied()) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None => format!("it is one of {}", self.available.join(", ")),
        };
        Problem::error(span, format!("unknown {} `{}`", self.noun, key.escape_debug())).help(help)
    }

    fn several(&self, before: &[(&'static str, Span, Node<'_>)], second: Span) -> Problem {
        let problem =
            Problem::error(second, format!("more than one {} is given", self.noun)).help("keep one of them");
        match before.first() {
            Some((_, first, _)) => problem.related(*first, "the first is here"),
            None => problem,
        }
    }
}

/// Reads a value, and attaches the span of the tag that chose it.
pub(in crate::config) fn located<'a, T>(
    read: impl Fn(&Node<'a>) -> Read<T>,
) -> impl Fn(&Node<'a>) -> Read<Spanned<T>> {
    move |node| read(node).map(|value| node.at(value))
}

fn quote_list(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
