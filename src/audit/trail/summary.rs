//! A summary of an event for people to read.

use std::fmt::Write as _;

use super::event::{Event, EventKind, Value};
use crate::printable::printable_value;

/// Formats the event of a line on one line, which ends with a line feed. Escapes characters that could deceive a
/// terminal. A line that is not an event is returned as it is.
#[must_use]
pub fn summary(line: &[u8]) -> String {
    let Some(event) = Event::parse(line) else {
        return printable_value(&String::from_utf8_lossy(line)).into_owned() + "\n";
    };
    let text = |name: &str| match event.value_of(name) {
        Some(Value::Text(text)) => printable_value(text),
        Some(Value::Number(number)) => number.to_string().into(),
        None => "-".into(),
    };
    let mut row = format!("{:>6}  {}  {:<8}", event.seq, text("time"), text("event"));
    // Appends those of the members that the event has, each after its label.
    let append = |row: &mut String, members: &[(&str, &str)]| {
        for (label, name) in members.iter().filter(|(_, name)| event.value_of(name).is_some()) {
            write!(row, "  {label}{}", text(name)).unwrap_or_default();
        }
    };
    match event.event {
        EventKind::Journal => {
            row.push_str(&text("what"));
            if event.refusals.is_some() {
                append(&mut row, &[("consumer ", "consumer"), ("peer ", "peer")]);
                write!(row, "  {} refusals since {}", text("refusals"), text("since")).unwrap_or_default();
            }
        }
        EventKind::Head => {
            write!(row, "signed over {} events", event.size.unwrap_or(0)).unwrap_or_default();
        }
        EventKind::Admin => {
            row.push_str(&text("what"));
            let objects = [
                ("consumer ", "consumer"),
                ("credential ", "credential"),
                ("upstream ", "upstream"),
                ("token ", "token"),
            ];
            append(&mut row, &objects);
            write!(row, "  by {}", text("by")).unwrap_or_default();
        }
        EventKind::Intent | EventKind::Outcome | EventKind::Unknown => {
            let (consumer, call) = (text("consumer"), format!("{} {}", text("method"), text("target")));
            let (decision, status) = (text("decision"), text("status"));
            // Writing into a string cannot fail.
            write!(row, "{consumer:<16} {decision:<8} {status:>3}  {call}").unwrap_or_default();
            append(&mut row, &[("", "code"), ("", "ended"), ("rule ", "rule"), ("org ", "org")]);
        }
    }
    row.push('\n');
    row
}
