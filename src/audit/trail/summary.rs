//! A summary of an event for people to read.

use std::fmt::Write as _;

use serde_json::Value;

use crate::printable::printable_value;

/// Formats one event on one line, which ends with a line feed. Escapes characters that could deceive a terminal.
#[must_use]
pub fn summary(event: &Value) -> String {
    let text = |name: &str| printable_value(event.get(name).and_then(Value::as_str).unwrap_or("-"));
    let number =
        |name: &str| event.get(name).and_then(Value::as_u64).map_or("-".into(), |number| number.to_string());
    let mut row = format!("{:>6}  {}  {:<8}", number("seq"), text("time"), text("event"));
    if text("event") == "journal" {
        row.push_str(&text("what"));
        if event.get("refusals").is_some() {
            let source = [("consumer ", text("consumer")), ("peer ", text("peer"))];
            for (label, source) in source.into_iter().filter(|(_, source)| source != "-") {
                write!(row, "  {label}{source}").unwrap_or_default();
            }
            write!(row, "  {} refusals since {}", number("refusals"), text("since")).unwrap_or_default();
        }
    } else if text("event") == "head" {
        write!(row, "signed over {} events", number("size")).unwrap_or_default();
    } else if text("event") == "admin" {
        row.push_str(&text("what"));
        for name in ["consumer", "credential", "upstream", "token"] {
            if event.get(name).is_some() {
                write!(row, "  {name} {}", text(name)).unwrap_or_default();
            }
        }
        write!(row, "  by {}", text("by")).unwrap_or_default();
    } else {
        let (who, what) = (text("consumer"), format!("{} {}", text("method"), text("target")));
        // Writing into a string cannot fail.
        write!(row, "{who:<16} {:<8} {:>3}  {what}", text("decision"), number("status")).unwrap_or_default();
        for (label, name) in [("", "code"), ("", "ended"), ("rule ", "rule"), ("org ", "org")] {
            if event.get(name).is_some() {
                write!(row, "  {label}{}", text(name)).unwrap_or_default();
            }
        }
    }
    row.push('\n');
    row
}
