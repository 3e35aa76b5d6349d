//! The texts by which the index finds events.

use crate::audit::trail::chain;
use crate::audit::trail::event::{COLUMNS, Column, Event, EventKind, IndexPart, Value};

/// The separator between the columns of a kind in one text. No name contains it.
pub(super) const BETWEEN: char = '\u{1f}';

/// Returns the columns of the table `kinds`.
pub(super) fn kind_columns() -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(|column| column.index == IndexPart::Kind)
}

/// Returns the names of these columns, separated by commas.
pub(super) fn kind_names() -> String {
    kind_columns().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

/// Writes the members that many events have in common as one text.
pub(super) fn write_kind(event: &Event<'_>, out: &mut String) {
    out.clear();
    for column in kind_columns() {
        match column.value(event) {
            Some(Value::Text(text)) => out.push_str(text),
            Some(Value::Number(number)) => out.push_str(itoa::Buffer::new().format(number)),
            None => {}
        }
        out.push(BETWEEN);
    }
}

/// Writes the other texts that a search looks at: of a call, the texts from outside; of any other event, its content.
pub(super) fn write_detail(event: &Event<'_>, line: &[u8], out: &mut String) {
    out.clear();
    if event.event != EventKind::Outcome {
        let (body, _) = chain::split_line(line).unwrap_or_default();
        let text = std::str::from_utf8(body).unwrap_or_default();
        out.push_str(text.split_once("\"event\":").map_or("", |(_, content)| content));
        return;
    }
    // Drop the port, since each connection has a different one.
    let peer = event.peer.as_deref().map(|peer| peer.rsplit_once(':').map_or(peer, |(host, _)| host));
    let details = COLUMNS.iter().filter(|column| column.index == IndexPart::Detail);
    let details = details.filter_map(|column| match column.value(event)? {
        Value::Text(text) => Some(text),
        Value::Number(_) => None,
    });
    for text in peer.into_iter().chain(details).chain(event.dropped.iter().map(|name| &**name)) {
        out.push_str(text);
        out.push('\n');
    }
}
