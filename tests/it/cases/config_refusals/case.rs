//! The text of a case.

use crate::cases::exchanges::text::Fault;

/// One case.
#[derive(Debug, Default)]
pub struct Case {
    config: String,
    pub files: Vec<Placed>,
    pub environment: Vec<(String, String)>,
    pub said: Vec<Said>,
    /// Texts that must not be shown, besides the contents of files and variables.
    pub never: Vec<(usize, String)>,
    /// The line with `loads`: the configuration can be used in spite of the problems.
    pub loads: Option<usize>,
}

/// A file or folder beside the configuration.
#[derive(Debug)]
pub struct Placed {
    pub name: String,
    pub mode: u32,
    /// Its content; `None` for a folder.
    pub text: Option<String>,
}

/// A problem that claviger must report.
#[derive(Debug)]
pub struct Said {
    pub line: usize,
    pub level: String,
    /// Whether the problem has a place in the text: the next marked one.
    pub placed: bool,
    pub title: String,
    pub help: Option<String>,
    pub related: Option<String>,
}

/// Parses a case.
pub fn parse(text: &str) -> Result<Case, Fault> {
    let title = text.lines().next().and_then(|line| line.strip_prefix("# "));
    if !title.is_some_and(|title| title.ends_with('.') && title.len() > 10) {
        return Err(Fault::new(1, "the first line tells the behaviour: `# A whole sentence.`"));
    }
    let (mut case, mut config) = (Case::default(), None);
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if let Some(indented) = line.strip_prefix("    ") {
            config.ok_or_else(|| Fault::new(number, "an indented line belongs to no `config`"))?;
            case.config.push_str(indented);
            case.config.push('\n');
        } else if line == "config" {
            config = Some(number);
        } else if !line.is_empty() && !line.starts_with('#') {
            case.line(number, line)?;
        }
    }
    case.check(config.unwrap_or(1))?;
    Ok(case)
}

impl Case {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Fault> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.to_owned();
        match word {
            "error" | "warning" | "file-error" | "file-warning" => self.said.push(Said {
                line: number,
                level: word.trim_start_matches("file-").into(),
                placed: !word.starts_with("file-"),
                title: rest,
                help: None,
                related: None,
            }),
            "help" | "related" => {
                let said = self.said.last_mut();
                let said =
                    said.ok_or_else(|| Fault::new(number, format!("`{word}` stands before any problem")))?;
                if word == "help" { said.help = Some(rest) } else { said.related = Some(rest) }
            }
            "file" | "folder" => self
                .files
                .push(placed(word, &rest).ok_or_else(|| {
                    Fault::new(number, "it is `file NAME MODE TEXT` or `folder NAME MODE`")
                })?),
            "env" => {
                let (name, value) = rest.split_once(' ').unwrap_or((&rest, ""));
                self.environment.push((name.into(), value.into()));
            }
            "never" => self.never.push((number, rest)),
            "loads" => self.loads = Some(number),
            _ => return Err(Fault::new(number, format!("`{word}` is no directive"))),
        }
        Ok(())
    }

    fn check(&self, config: usize) -> Result<(), Fault> {
        let (opened, closed) = (self.config.matches('«').count(), self.config.matches('»').count());
        let placed: Vec<&Said> = self.said.iter().filter(|said| said.placed).collect();
        if self.said.is_empty() && self.loads.is_none() {
            return Err(Fault::new(1, "the case says nothing of its configuration (`error …` or `loads`)"));
        }
        if opened != closed {
            return Err(Fault::new(config, "`«` and `»` do not pair"));
        }
        if let Some(more) = placed.get(opened) {
            return Err(Fault::new(
                more.line,
                "this problem has no place marked (`«…»`) in the configuration",
            ));
        }
        if placed.len() != opened {
            return Err(Fault::new(config, format!("{opened} places are marked, {} told", placed.len())));
        }
        Ok(())
    }

    /// The whole text of the configuration with its marks: the usual sections, except those that the case
    /// contains, and then the sections of the case.
    pub fn config(&self, usual: &[&str]) -> String {
        let own = |section: &&&str| !self.config.contains(section.lines().next().unwrap_or_default());
        let usual: String = usual.iter().filter(own).copied().collect();
        // Top-level keys must come before any section.
        let top: usize =
            self.config.split_inclusive('\n').take_while(|line| !line.starts_with('[')).map(str::len).sum();
        let (top, sections) = self.config.split_at(top);
        format!("{top}{usual}{sections}")
    }
}

/// The text without its marks, and the line and column of each mark.
pub fn unmarked(marked: &str) -> (String, Vec<(usize, usize)>) {
    let (mut text, mut marks, mut line, mut column) = (String::new(), Vec::new(), 1, 1);
    for letter in marked.chars() {
        match letter {
            '«' => marks.push((line, column)),
            '»' => {}
            '\n' => {
                text.push('\n');
                (line, column) = (line + 1, 1);
            }
            letter => {
                text.push(letter);
                column += 1;
            }
        }
    }
    (text, marks)
}

fn placed(word: &str, rest: &str) -> Option<Placed> {
    let mut words = rest.splitn(3, ' ');
    let (name, mode) = (words.next()?.to_owned(), u32::from_str_radix(words.next()?, 8).ok()?);
    let text = words.next().unwrap_or_default().replace("\\n", "\n");
    Some(Placed { name, mode, text: (word == "file").then_some(text) })
}
