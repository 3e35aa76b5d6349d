//! Renders problems: in the style of rustc for people, as JSON for programs. Neither shows what is hidden.

use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level as Shade, Renderer, Snippet};
use serde_json::{Map, Value, json};

use super::one::{Level, Problem};
use crate::config::span::{Span, line_starts};
use crate::printable::{printable, printable_value};

/// The file that the problems are in.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// The parts of the text that may be secrets.
    pub(super) hidden: Vec<Span>,
}

/// Renders all problems for people.
pub(super) fn text(source: &Source, problems: &[&Problem], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let path = source.path.display().to_string();
    let path = printable_value(&path);
    let page = Page::new(&source.text, &source.hidden);
    let mut written = String::new();
    for problem in problems.iter().map(|problem| printable_problem(problem)) {
        if !written.is_empty() {
            written.push_str("\n\n");
        }
        written.push_str(&renderer.render(&report(&problem, &path, &page)));
    }
    if !written.is_empty() {
        written.push('\n');
    }
    written
}

/// Converts all problems to JSON for programs.
pub(super) fn json(source: &Source, problems: &[&Problem]) -> Value {
    let path = source.path.display().to_string();
    let page = Page::new(&source.text, &source.hidden);
    problems.iter().map(|problem| object(problem, &path, &page)).collect()
}

/// Makes a problem safe for a terminal, since it may quote the file or the system. (The file's own lines are made safe
/// where they are rendered.)
fn printable_problem(problem: &Problem) -> Problem {
    let text = |text: &String| printable(text).into_owned();
    Problem {
        level: problem.level,
        span: problem.span,
        title: text(&problem.title),
        label: problem.label.as_ref().map(text),
        help: problem.help.as_ref().map(text),
        related: problem.related.as_ref().map(|(span, label)| (*span, text(label))),
    }
}

fn report<'a>(problem: &'a Problem, path: &'a str, page: &'a Page) -> Vec<Group<'a>> {
    let shade = match problem.level {
        Level::Error => Shade::ERROR,
        Level::Warning => Shade::WARNING,
    };
    let title = shade.primary_title(&problem.title);
    let mut groups = if problem.span.is_nowhere() {
        vec![title.element(annotate_snippets::Origin::path(path))]
    } else {
        vec![title.element(snippet(problem, path, page))]
    };
    if let Some(help) = &problem.help {
        groups.push(Group::with_title(Shade::HELP.secondary_title(help)));
    }
    groups
}

fn snippet<'a>(
    problem: &'a Problem,
    path: &'a str,
    page: &'a Page,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let primary = page.on_one_line(problem.span);
    let related = problem.related.as_ref().map(|(span, label)| (page.on_one_line(*span), label));
    let last = related.as_ref().map_or(primary.end, |(span, _)| span.end.max(primary.end));
    let first = related.as_ref().map_or(primary.start, |(span, _)| span.start.min(primary.start));
    let (line, start, source) = page.lines(first, last);
    let within = |span: Range<usize>| span.start.saturating_sub(start)..span.end.saturating_sub(start);

    let mark = AnnotationKind::Primary.span(within(primary)).label(problem.label.as_deref());
    let mut snippet = Snippet::source(source).path(path).line_start(line + 1).annotation(mark);
    if let Some((span, label)) = related {
        snippet = snippet.annotation(AnnotationKind::Context.span(within(span)).label(label.as_str()));
    }
    snippet
}

fn object(problem: &Problem, path: &str, page: &Page) -> Value {
    let level = match problem.level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("file", path.into());
    set("level", level.into());
    set("message", problem.title.as_str().into());
    if !problem.span.is_nowhere() {
        let (line, column) = page.position(problem.span);
        set("line", line.into());
        set("column", column.into());
    }
    for (name, text) in [("label", &problem.label), ("help", &problem.help)] {
        if let Some(text) = text {
            set(name, text.as_str().into());
        }
    }
    if let Some((span, label)) = &problem.related {
        let (line, column) = page.position(*span);
        set("related", json!({ "line": line, "column": column, "message": label }));
    }
    object.into()
}

/// The text to show: hidden parts are masked byte for byte, so that every span stays valid.
struct Page {
    text: String,
    /// The offset at which each line starts.
    starts: Vec<usize>,
}

impl Page {
    fn new(text: &str, hidden: &[Span]) -> Self {
        let text = mask(text, hidden);
        let starts = line_starts(&text);
        Self { text, starts }
    }

    /// The span on character boundaries, cut at the end of its first line: a table of twenty lines
    /// need not be underlined completely.
    fn on_one_line(&self, span: Span) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let end = self.text.floor_char_boundary(span.end).min(start + line.len());
        start..end.max(start)
    }

    /// The index of the line that contains `offset`, from 0, and the offset at which the line starts.
    fn line(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        (line, self.starts.get(line).copied().unwrap_or_default())
    }

    /// The line and column of a span, counted from 1.
    fn position(&self, span: Span) -> (usize, usize) {
        let offset = self.on_one_line(span).start;
        let (line, start) = self.line(offset);
        let before = self.text.get(start..offset).unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }

    /// The complete lines from the first to the last offset, with the index and the start of the first line.
    fn lines(&self, first: usize, last: usize) -> (usize, usize, &str) {
        let (line, start) = self.line(first);
        let (last, _) = self.line(last);
        let end = self.starts.get(last + 1).copied().unwrap_or(self.text.len());
        (line, start, self.text.get(start..end).unwrap_or_default())
    }
}

fn mask(text: &str, hidden: &[Span]) -> String {
    let mut hidden = hidden.to_vec();
    hidden.sort_unstable();
    let mut hidden = hidden.into_iter().peekable();
    let mut until = 0;
    let mut masked = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        while let Some(span) = hidden.next_if(|span| span.start < at + letter.len_utf8()) {
            until = until.max(span.end);
        }
        if at < until && !matches!(letter, '\n' | '\r') {
            masked.extend(std::iter::repeat_n('*', letter.len_utf8()));
        } else {
            masked.push(letter);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Problems;

    fn problems(text: &str) -> Problems {
        Problems::new(Path::new("claviger.toml"), text)
    }

    #[test]
    fn two_places_of_one_problem_are_both_shown() {
        let mut problems = problems("a = 1\nb = 2\n\n\n\n\nä = 3\n");
        problems.push(
            Problem::error(Span { start: 19, end: 20 }, "no")
                .label("here")
                .help("leave it")
                .related(Span { start: 0, end: 1 }, "first defined here"),
        );
        let expected = "\
error: no
 --> claviger.toml:7:3
  |
1 | a = 1
  | - first defined here
...
7 | ä = 3
  |   ^ here
  |
help: leave it
";
        assert_eq!(problems.render(false), expected);
        assert!(problems.render(true).contains("\u{1b}["));
    }

    #[test]
    fn what_is_hidden_is_masked_to_the_last_byte() {
        let mut problems = problems("a = \"sécret\" # b\n");
        problems.hide(Span { start: 4, end: 13 });
        problems.push(Problem::error(Span { start: 0, end: 1 }, "no"));
        let shown = problems.render(false);
        assert!(shown.contains("a = ********* # b"), "{shown}");
    }

    #[test]
    fn any_span_can_be_shown() {
        let text = "é = 1\r\n\tb = \"x\"";
        let ends = 0..text.len() + 3;
        for start in ends.clone() {
            for end in ends.clone() {
                let mut problems = problems(text);
                problems.push(
                    Problem::warning(Span { start, end }, "no").related(Span { start: end, end: start }, "x"),
                );
                assert!(problems.render(false).starts_with("warning: no"));
                assert!(problems.to_json().is_array());
            }
        }
    }

    #[test]
    fn one_of_the_file_as_a_whole_has_no_line() {
        let mut problems = problems("");
        problems.push(Problem::error(Span::NOWHERE, "no upstream"));
        problems.push(Problem::error(Span::NOWHERE, "no upstream"));
        assert_eq!(problems.render(false), "error: no upstream\n--> claviger.toml\n");
        let expected = json!([{ "file": "claviger.toml", "level": "error", "message": "no upstream" }]);
        assert_eq!(problems.to_json(), expected);
        assert_eq!(problems.summary(), "1 error");
    }
}
