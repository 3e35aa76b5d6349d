//! Compares the results of a request with the expectations of its file.

use std::fmt::Write as _;

use serde_json::Value;

use super::pattern::matches;
use super::play::{Came, Carried, Played, filled};
use super::text::{Event, Fault, Line, Message, Step, Story};
use crate::support::upstream::{SECRET, Seen};
use crate::support::world::{Answer, OTHER_TOKEN, TOKEN};

/// All differences.
pub fn check(story: &Story, played: &Played) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (step, came) in story.steps.iter().zip(&played.steps) {
        let mut found =
            Found { faults: Vec::new(), upstream: &played.upstream, came, carried: &played.carried };
        found.answer(step);
        found.received(step);
        found.trail(step);
        found.always(step);
        if let Some(last) = found.faults.last_mut() {
            last.text.push_str(&shown(came));
        }
        faults.append(&mut found.faults);
    }
    if !played.stray.is_empty() {
        faults.push(Fault::new(1, format!("the trail has events of no request here: {:#?}", played.stray)));
    }
    faults
}

struct Found<'a> {
    faults: Vec<Fault>,
    upstream: &'a str,
    came: &'a Came,
    carried: &'a Carried,
}

impl Found<'_> {
    fn fault(&mut self, line: usize, text: impl Into<String>) {
        self.faults.push(Fault::new(line, text));
    }

    fn differs(&mut self, line: usize, what: &str, (wanted, got): (&str, &str)) {
        let text = format!("{what}\n      wanted  {}\n      got     {}", indented(wanted), indented(got));
        self.fault(line, text);
    }

    /// The expected text with its placeholders filled in.
    fn wanted(&self, text: &str) -> String {
        let id = self.came.answer.header("x-request-id").unwrap_or("{uuid}");
        filled(text, self.upstream).replace("{request_id}", id)
    }

    fn answer(&mut self, step: &Step) {
        let (Some(expected), answer) = (&step.answer, &self.came.answer) else { return };
        if answer.status.to_string() != expected.first.text {
            let got = answer.head.lines().next().unwrap_or("no answer").to_owned();
            self.differs(expected.first.number, "the status", (&expected.first.text, &got));
        }
        if !answer.whole {
            self.fault(expected.first.number, "the answer was cut short");
        }
        self.headers(expected, &lines_of(&answer.head));
        self.body(expected, &answer.body);
    }

    fn received(&mut self, step: &Step) {
        let (Some(expected), came) = (&step.received, self.came) else { return };
        if came.seen.len() != expected.len() {
            let line = expected.first().map_or(step.line, |message| message.first.number);
            let counts = (expected.len().to_string(), came.seen.len().to_string());
            self.differs(line, "how many requests the upstream received", (&counts.0, &counts.1));
        }
        for (expected, seen) in expected.iter().zip(&came.seen) {
            let line = seen.raw_head.lines().next().unwrap_or_default();
            let wanted = self.wanted(&expected.first.text);
            if !matches(&wanted, line) {
                self.differs(expected.first.number, "the request line at the upstream", (&wanted, line));
            }
            self.headers(expected, &seen.headers);
            self.body(expected, &seen.body);
        }
    }

    fn headers(&mut self, expected: &Message, got: &[(String, String)]) {
        let values = |name: &str| -> Vec<&str> {
            let same = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
            got.iter().filter(same).map(|(_, value)| value.as_str()).collect()
        };
        for (at, (line, name, _)) in expected.present.iter().enumerate() {
            let same = |(_, known, _): &&(usize, String, String)| known.eq_ignore_ascii_case(name);
            if expected.present[..at].iter().any(|known| same(&known)) {
                continue;
            }
            let wanted: Vec<String> =
                expected.present.iter().filter(same).map(|(_, _, value)| self.wanted(value)).collect();
            let got = values(name);
            if wanted.len() != got.len() || !wanted.iter().zip(&got).all(|(wanted, got)| matches(wanted, got))
            {
                let got = if got.is_empty() { "(absent)".to_owned() } else { got.join("\n") };
                self.differs(*line, &format!("the header {name}"), (&wanted.join("\n"), &got));
            }
        }
        for Line { number, text: name } in &expected.absent {
            let got = values(name);
            if !got.is_empty() {
                self.differs(*number, &format!("the header {name}"), ("(absent)", &got.join("\n")));
            }
        }
    }

    fn body(&mut self, expected: &Message, got: &[u8]) {
        let Some(Line { number, text }) = &expected.body else { return };
        let (wanted, got) = (self.wanted(text), String::from_utf8_lossy(got));
        if !matches(&wanted, &got) {
            self.differs(*number, "the body", (&wanted, &got));
        }
    }

    fn trail(&mut self, step: &Step) {
        let (Some(expected), came) = (&step.trail, self.came) else { return };
        if expected.is_empty() && !came.events.is_empty() {
            self.fault(step.line, "there are events on the trail");
        }
        for Event { line, kind, members } in expected {
            let found: Vec<&Value> =
                came.events.iter().filter(|event| event["event"] == kind.as_str()).collect();
            let [found] = found[..] else {
                self.fault(*line, format!("there are {} events of this kind, not one", found.len()));
                continue;
            };
            for (name, wanted) in members {
                let wanted = wanted.as_ref().map(|wanted| self.wanted(wanted));
                let got =
                    found.get(name).map(|got| got.as_str().map_or_else(|| got.to_string(), String::from));
                let same = match (&wanted, &got) {
                    (Some(wanted), Some(got)) => matches(wanted, got),
                    (wanted, got) => wanted.is_none() && got.is_none(),
                };
                if !same {
                    let absent = || String::from("(absent)");
                    let both = (wanted.unwrap_or_else(absent), got.unwrap_or_else(absent));
                    self.differs(*line, &format!("`{name}` of the {kind}"), (&both.0, &both.1));
                }
            }
        }
    }

    /// The checks of every request, whatever its file expects.
    fn always(&mut self, step: &Step) {
        let came = self.came;
        let told = |kind: &str| came.events.iter().filter(|event| event["event"] == kind).count();
        let suppressed = step.trail.as_ref().is_some_and(Vec::is_empty);
        if told("outcome") != usize::from(!suppressed) {
            self.fault(step.line, "every call has exactly one outcome on the trail");
        }
        if !came.seen.is_empty() && told("intent") != 1 {
            self.fault(step.line, "every forwarded call has its intent on the trail");
        }
        for seen in &came.seen {
            let target = step.signed.as_ref().map_or(seen.target.clone(), |line| self.wanted(&line.text));
            let credential = match self.carried {
                Carried::Signed => {
                    if let Err(why) = seen.signed_for(&target) {
                        self.fault(step.line, format!("the signature does not verify: {why}"));
                    }
                    "authorization"
                }
                Carried::Login => {
                    let times = raw(seen).matches(SECRET).count();
                    let login = seen.method == "POST" && String::from_utf8_lossy(&seen.body).contains(SECRET);
                    if times != usize::from(login) || (login && seen.one("accept") != "application/json") {
                        self.fault(step.line, "the upstream must receive the password once, in a login");
                    }
                    "host"
                }
                Carried::Line(name, value) => {
                    let times = raw(seen).matches(SECRET).count();
                    if seen.all(name) != [value.as_str()] || times != 1 {
                        self.fault(step.line, "the upstream must receive the credential once, in its place");
                    }
                    name
                }
            };
            for name in ["host", "date", "accept", credential] {
                if seen.all(name).len() != 1 {
                    self.fault(step.line, format!("the upstream must receive `{name}` exactly once"));
                }
            }
        }
        let trail = format!("{:?}", came.events);
        let sent: String = came.seen.iter().map(raw).collect();
        let got = format!("{}{}", came.answer.head, String::from_utf8_lossy(&came.answer.body));
        for Line { number, text } in &step.never {
            if trail.contains(text) || got.contains(text) {
                self.fault(*number, "it stands on the trail or in the answer");
            }
        }
        let of_request: &[&str] = match self.carried {
            Carried::Line(..) | Carried::Login => &[TOKEN, OTHER_TOKEN],
            Carried::Signed => &[TOKEN, OTHER_TOKEN, SECRET],
        };
        for (place, text, secrets) in [
            ("the trail", &trail, [TOKEN, OTHER_TOKEN, SECRET].as_slice()),
            ("the request to the upstream", &sent, of_request),
            ("the answer", &got, &[SECRET]),
        ] {
            if secrets.iter().any(|secret| text.contains(secret)) {
                self.fault(step.line, format!("a secret stands in {place}"));
            }
        }
    }
}

fn lines_of(head: &str) -> Vec<(String, String)> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn raw(seen: &Seen) -> String {
    format!("{}{}", seen.raw_head, String::from_utf8_lossy(&seen.body))
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n              ")
}

/// Everything that a request caused, as a help to find the reason of a failure.
fn shown(came: &Came) -> String {
    let Answer { head, body, .. } = &came.answer;
    let mut shown = String::from("\n    what came of the request:");
    let mut part = |mark: &str, text: &str| {
        for line in text.lines() {
            write!(shown, "\n      {mark} {line}").unwrap();
        }
    };
    for seen in &came.seen {
        part("upstream>", &raw(seen));
    }
    part("<", &format!("{head}{}", String::from_utf8_lossy(body)));
    for event in &came.events {
        part("trail", &event.to_string());
    }
    shown
}
