//! The text of an exchange: one behaviour, line by line. `README.md` describes the format.
//! It refuses what it cannot parse: a test that checks nothing, or the wrong thing, must not pass.

use std::time::SystemTime;

/// One file.
#[derive(Debug)]
pub struct Story {
    pub config: Vec<Piece>,
    pub steps: Vec<Step>,
}

/// A piece of configuration.
#[derive(Debug)]
pub struct Piece {
    pub line: usize,
    /// Whether it is a complete configuration, not an addition to the common one.
    pub whole: bool,
    pub toml: String,
}

/// One request and its expectations.
#[derive(Debug, Default)]
pub struct Step {
    pub line: usize,
    pub clock: Option<SystemTime>,
    pub request: Vec<Line>,
    /// What the upstream must have received; `None` if the file does not say.
    pub received: Option<Vec<Message>>,
    /// The target that the signature must cover, if it is not the received one.
    pub signed: Option<Line>,
    /// The upstream's answer; empty for the default.
    pub reply: Vec<Line>,
    /// The upstream's answer to a login; empty if it does not change.
    pub login: Vec<Line>,
    /// Whether the upstream holds that answer until the next request has ended.
    pub holds: bool,
    pub answer: Option<Message>,
    /// The events that must be on the trail; `None` if the file does not say.
    pub trail: Option<Vec<Event>>,
    /// Texts that neither the answer nor the trail may contain.
    pub never: Vec<Line>,
}

/// A line and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: usize,
    pub text: String,
}

/// An expected message.
#[derive(Debug)]
pub struct Message {
    /// The status, or the request line.
    pub first: Line,
    /// Each is `Name: value`.
    pub present: Vec<(usize, String, String)>,
    /// The names that must be absent.
    pub absent: Vec<Line>,
    pub body: Option<Line>,
}

/// An expected event; a member without a value must be absent.
#[derive(Debug)]
pub struct Event {
    pub line: usize,
    pub kind: String,
    pub members: Vec<(String, Option<String>)>,
}

/// A fault and its line number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub text: String,
}

impl Fault {
    pub fn new(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

/// Parses the text of a file.
pub fn parse(text: &str) -> Result<Story, Fault> {
    let title = text.lines().next().and_then(|line| line.strip_prefix("# "));
    if !title.is_some_and(|title| title.ends_with('.') && title.len() > 10) {
        return Err(Fault::new(1, "the first line tells the behaviour: `# A whole sentence.`"));
    }
    let mut reader = Reader::default();
    for (at, line) in text.lines().enumerate() {
        reader.line(at + 1, line)?;
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    config: Vec<Piece>,
    /// Whether the next line may continue the current piece of configuration.
    open: bool,
    clock: Option<SystemTime>,
    steps: Vec<Told>,
}

/// A step during parsing.
#[derive(Default)]
struct Told {
    step: Step,
    received: Vec<Vec<Line>>,
    nothing: Option<usize>,
    answer: Vec<Line>,
    /// Whether its request is complete, because a line of another kind followed.
    sent: bool,
    /// Whether the next line may continue the upstream's current request.
    going_on: bool,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Fault> {
        if line.trim().is_empty() {
            return Ok(());
        }
        if let Some(indented) = line.strip_prefix("    ") {
            let Some(piece) = self.config.last_mut().filter(|_| self.open) else {
                return Err(Fault::new(number, "an indented line belongs to no `config`"));
            };
            piece.toml.push_str(indented);
            piece.toml.push('\n');
            return Ok(());
        }
        if line.starts_with('#') {
            return Ok(());
        }
        self.open = false;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let said = Line { number, text: rest.to_owned() };
        match word {
            "config" => self.config(number, rest),
            "clock" => self.clock(number, rest),
            ">" => {
                self.request(said);
                Ok(())
            }
            "upstream>" | "upstream<" | "login<" | "upstream" | "<" | "trail" | "never" => {
                let told = self.steps.last_mut().ok_or_else(|| {
                    Fault::new(number, format!("`{word}` stands before any request (`> …`)"))
                })?;
                told.sent = true;
                told.line(word, said)
            }
            _ => Err(Fault::new(number, format!("`{word}` is no directive"))),
        }
    }

    fn config(&mut self, number: usize, rest: &str) -> Result<(), Fault> {
        if !self.steps.is_empty() {
            return Err(Fault::new(number, "`config` comes before the first request"));
        }
        if !matches!(rest, "" | "whole") {
            return Err(Fault::new(
                number,
                format!("`config {rest}` is unknown: `config` or `config whole`"),
            ));
        }
        self.config.push(Piece { line: number, whole: rest == "whole", toml: String::new() });
        self.open = true;
        Ok(())
    }

    fn clock(&mut self, number: usize, rest: &str) -> Result<(), Fault> {
        let time: jiff::Timestamp =
            rest.parse().map_err(|error| Fault::new(number, format!("`{rest}` is no time: {error}")))?;
        self.clock = Some(time.into());
        Ok(())
    }

    fn request(&mut self, said: Line) {
        if self.steps.last().is_none_or(|told| told.sent) {
            let step = Step { line: said.number, clock: self.clock, ..Step::default() };
            self.steps.push(Told { step, ..Told::default() });
        }
        if let Some(told) = self.steps.last_mut() {
            told.step.request.push(said);
        }
    }

    fn finish(self) -> Result<Story, Fault> {
        if self.steps.is_empty() {
            return Err(Fault::new(1, "the file makes no request (`> …`) and so shows nothing"));
        }
        if let Some(empty) = self.config.iter().find(|piece| piece.toml.is_empty()) {
            return Err(Fault::new(empty.line, "`config` is followed by nothing indented"));
        }
        let steps = self.steps.into_iter().map(Told::finish).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = steps.last().filter(|step| step.holds) {
            return Err(Fault::new(last.line, "`upstream holds` needs a request after this one"));
        }
        if steps.iter().any(|step| step.clock.is_some()) && steps.iter().any(|step| step.clock.is_none()) {
            return Err(Fault::new(1, "`clock` is to be set before the first request, if at all"));
        }
        Ok(Story { config: self.config, steps })
    }
}

impl Told {
    fn line(&mut self, word: &str, said: Line) -> Result<(), Fault> {
        let going_on = std::mem::replace(&mut self.going_on, word == "upstream>");
        match (word, said.text.as_str()) {
            ("<", _) => self.answer.push(said),
            ("upstream<", _) => self.step.reply.push(said),
            ("login<", _) => self.step.login.push(said),
            ("never", "") => return Err(Fault::new(said.number, "`never` names what must not be shown")),
            ("never", _) => self.step.never.push(said),
            ("upstream>", _) => match self.received.last_mut().filter(|_| going_on) {
                Some(message) => message.push(said),
                None => self.received.push(vec![said]),
            },
            ("upstream", "nothing") => self.nothing = Some(said.number),
            ("upstream", "holds") => self.step.holds = true,
            ("upstream", text) => match text.strip_prefix("signed ") {
                Some(target) => self.step.signed = Some(Line { number: said.number, text: target.into() }),
                None => return Err(Fault::new(said.number, format!("`upstream {text}` is unknown"))),
            },
            ("trail", "nothing") if self.step.trail.is_none() => self.step.trail = Some(Vec::new()),
            _ => self.step.trail.get_or_insert_default().push(event(&said)?),
        }
        Ok(())
    }

    fn finish(self) -> Result<Step, Fault> {
        let line = self.step.line;
        if self.answer.is_empty() {
            return Err(Fault::new(line, "nothing is said of the answer to this request (`< 200`)"));
        }
        let answer = message(self.answer)?;
        let status = &answer.first;
        if status.text.len() != 3 || !status.text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::new(status.number, format!("`{}` is no status", status.text)));
        }
        let received = match (self.nothing, self.received.is_empty()) {
            (Some(number), false) => {
                return Err(Fault::new(number, "the upstream receives something, or nothing"));
            }
            (None, true) => None,
            _ => Some(self.received.into_iter().map(message).collect::<Result<Vec<_>, _>>()?),
        };
        if let Some(bad) =
            received.iter().flatten().find(|message| !message.first.text.ends_with(" HTTP/1.1"))
        {
            return Err(Fault::new(bad.first.number, "the first line is as in `GET /x HTTP/1.1`"));
        }
        Ok(Step { received, answer: Some(answer), ..self.step })
    }
}

/// Parses the lines of an expected message.
fn message(lines: Vec<Line>) -> Result<Message, Fault> {
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or(Line { number: 0, text: String::new() });
    let mut message = Message { first, present: Vec::new(), absent: Vec::new(), body: None };
    while let Some(line) = lines.next() {
        if line.text.is_empty() {
            let body: Vec<String> = lines.map(|line| line.text).collect();
            message.body = Some(Line { number: line.number, text: body.join("\n") });
            break;
        }
        match (line.text.split_once(": "), line.text.strip_prefix("no ")) {
            (Some((name, value)), _) => message.present.push((line.number, name.into(), value.into())),
            (None, Some(name)) => message.absent.push(Line { number: line.number, text: name.into() }),
            (None, None) => {
                return Err(Fault::new(line.number, "a header line is `Name: value` or `no Name`"));
            }
        }
    }
    Ok(message)
}

/// Parses `outcome decision=denied rule=- reason="two words"`.
fn event(said: &Line) -> Result<Event, Fault> {
    let number = said.number;
    let (kind, mut rest) = said.text.split_once(' ').unwrap_or((&said.text, ""));
    if !matches!(kind, "intent" | "outcome") {
        return Err(Fault::new(
            number,
            format!("`trail {kind}` is unknown: `intent`, `outcome` or `nothing`"),
        ));
    }
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && !name.contains(' '))
            .ok_or_else(|| Fault::new(number, format!("`{rest}` is not as in `member=value`")))?;
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => {
                let Some((value, left)) = quoted.split_once('"') else {
                    return Err(Fault::new(number, format!("the quotes of `{name}` do not end")));
                };
                (value, left.trim_start())
            }
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        members.push((name.to_owned(), (value != "-").then(|| value.to_owned())));
        rest = left;
    }
    Ok(Event { line: number, kind: kind.to_owned(), members })
}
