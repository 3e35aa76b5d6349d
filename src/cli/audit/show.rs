//! `audit show`, and how an event is shown to people.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::{Output, print};
use crate::audit::each_line;
use crate::printable::printable_value;

pub(super) fn run(dir: &Path, last: usize, request_id: Option<&str>, output: Output) -> anyhow::Result<bool> {
    let mut kept: VecDeque<(String, Value)> = VecDeque::new();
    let keep = |line: &[u8]| {
        let event = serde_json::from_slice::<Value>(line).ok();
        let is_of = |event: &Value| {
            request_id.is_none_or(|id| event.get("request_id").and_then(Value::as_str) == Some(id))
        };
        if let Some(event) = event.filter(is_of)
            && last > 0
        {
            if kept.len() == last {
                kept.pop_front();
            }
            kept.push_back((String::from_utf8_lossy(line).into_owned(), event));
        }
        true
    };
    each_line(dir, keep).with_context(|| dir.display().to_string())?;
    for (line, event) in &kept {
        match output {
            Output::Json => print(&format!("{line}\n")),
            Output::Text => print(&row(event)),
        }
    }
    Ok(true)
}

/// One event on one line, for people.
pub(in crate::cli) fn row(event: &Value) -> String {
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
