//! The conditions of a search, and the parts of its query.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::event_columns::kind_columns;
use crate::audit::trail::event::{ColumnType, Event, Value};
use crate::clock::parse_past_time;
use crate::policy::PathPattern;

/// The conditions of a search. An event must meet all that are given.
#[derive(Debug, Default, clap::Args)]
pub struct EventFilter {
    /// Select events of this consumer
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// Select events of this upstream
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// Select calls with this HTTP method
    #[arg(long)]
    pub method: Option<String>,
    /// Select calls whose path matches: `*` stands for one segment or a part of one, `**` for any number
    #[arg(long, value_name = "PATTERN", value_parser = PathPattern::parse)]
    pub path: Option<PathPattern>,
    /// Select calls in this organisation
    #[arg(long)]
    pub org: Option<String>,
    /// Select events of this credential
    #[arg(long, value_name = "NAME")]
    pub credential: Option<String>,
    /// Select events of this version of a credential
    #[arg(long)]
    pub version: Option<u32>,
    /// Select calls that ended with this code, for example `denied`
    #[arg(long)]
    pub code: Option<String>,
    /// Select calls that were answered with this status
    #[arg(long)]
    pub status: Option<u16>,
    /// Select one kind of event: outcome, admin, journal; intent for calls that have no outcome yet
    #[arg(long, value_name = "KIND")]
    pub event: Option<String>,
    /// Select changes or journal events of this kind, for example `token issued`
    #[arg(long)]
    pub what: Option<String>,
    /// Select the call with this id
    #[arg(long, value_name = "ID")]
    pub request_id: Option<Uuid>,
    /// Select events that contain this text: a name, the target, user agent, address, reason, or a part of a change
    #[arg(long)]
    pub text: Option<String>,
    /// Select events from this time on: a time such as 2027-01-01T00:00:00Z, or 30d for the last 30 days
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    pub since: Option<Timestamp>,
    /// Select events up to this time
    #[arg(long, value_name = "TIME", value_parser = parse_past_time)]
    pub until: Option<Timestamp>,
}

pub(super) type Query = QueryBuilder<Sqlite>;

impl EventFilter {
    /// Returns the members that must have these values. The index has all of them in the table `kinds`.
    fn members(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        let words = [
            ("event", &self.event),
            ("what", &self.what),
            ("consumer", &self.consumer),
            ("upstream", &self.upstream),
            ("method", &self.method),
            ("org", &self.org),
            ("credential", &self.credential),
            ("code", &self.code),
        ];
        let numbers =
            [("credential_version", self.version.map(u64::from)), ("status", self.status.map(u64::from))];
        let words = words.into_iter().filter_map(|(name, word)| Some((name, Value::Text(word.as_deref()?))));
        words.chain(numbers.into_iter().filter_map(|(name, number)| Some((name, Value::Number(number?)))))
    }

    /// Whether any condition is one on the kind.
    pub(super) fn looks_at_kinds(&self) -> bool {
        self.members().next().is_some()
    }

    /// Appends `FROM kinds WHERE …` with the conditions on the kind.
    pub(super) fn push_kinds(&self, query: &mut Query) {
        query.push(" FROM kinds WHERE true");
        for (name, value) in self.members() {
            query.push(format!(" AND {name} = "));
            match value {
                Value::Text(text) => query.push_bind(text.to_owned()),
                Value::Number(number) => query.push_bind(i64::try_from(number).unwrap_or(i64::MAX)),
            };
        }
    }

    /// Whether the filter matches every event.
    fn is_any(&self) -> bool {
        let times = self.since.is_none() && self.until.is_none();
        let others = self.path.is_none() && self.text.is_none() && self.request_id.is_none();
        !self.looks_at_kinds() && times && others
    }

    /// Whether a single line matches the filter.
    #[must_use]
    pub fn matches(&self, line: &[u8]) -> bool {
        if self.is_any() {
            return true;
        }
        let Some(event) = Event::parse(line) else { return false };
        let target = event.target.as_deref().unwrap_or_default();
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let contains = |text: &String| {
            String::from_utf8_lossy(line).to_ascii_lowercase().contains(&text.to_ascii_lowercase())
        };
        let request_id = || event.request_id.as_deref().and_then(|id| id.parse().ok());
        self.members().all(|(name, value)| event.value_of(name) == Some(value))
            && self.path.as_ref().is_none_or(|pattern| pattern.matches(path))
            && self.text.as_ref().is_none_or(contains)
            && self.request_id.is_none_or(|id| request_id() == Some(id))
            && self.since.is_none_or(|since| event.timestamp().is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| event.timestamp().is_some_and(|time| time <= until))
    }
}

/// Appends the condition that a row of `table` contains a text.
pub(super) fn push_rows_with_text(query: &mut Query, table: &str, text: &str) {
    let like = format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    let columns: Vec<&str> = if table == "kinds" {
        kind_columns().filter(|column| column.value_type == ColumnType::Text).map(|it| it.name).collect()
    } else {
        vec!["text"]
    };
    query.push(format!(" FROM {table} WHERE false"));
    for column in columns {
        query.push(format!(" OR {column} LIKE ")).push_bind(like.clone()).push(" ESCAPE '\\'");
    }
}

/// The ids of targets as a JSON array, for `json_each` of `SQLite`.
pub(super) struct Targets(pub(super) Option<String>);

impl Targets {
    pub(super) fn push(&self, query: &mut Query, filter: &EventFilter) {
        let Some(pattern) = &filter.path else { return };
        match &self.0 {
            Some(ids) => {
                query
                    .push(" FROM targets WHERE id IN (SELECT value FROM json_each(")
                    .push_bind(ids.clone())
                    .push("))");
            }
            None => push_path(query, pattern),
        }
    }
}

/// Appends `FROM targets WHERE …`. For a pattern without `**` it selects exactly the matching targets, otherwise a
/// superset of them.
pub(super) fn push_path(query: &mut Query, pattern: &PathPattern) {
    let (glob, slashes) = pattern.as_glob();
    query.push(" FROM targets WHERE path GLOB ").push_bind(glob);
    if let Some(slashes) = slashes {
        query.push(" AND slashes = ").push_bind(i64::try_from(slashes).unwrap_or(i64::MAX));
    }
}

/// Appends the condition that an event contains a text in any of its parts.
pub(super) fn push_text(query: &mut Query, text: &str, by_index: bool) {
    let sets = [("kind", "kinds"), ("target", "targets"), ("detail", "details")];
    query.push(if by_index { " AND e.seq IN (" } else { " AND (false" });
    for (number, (column, table)) in sets.into_iter().enumerate() {
        query.push(match (by_index, number) {
            (true, 0) => {
                format!("SELECT seq FROM events INDEXED BY by_{column} WHERE {column} IN (SELECT id")
            }
            (true, _) => {
                format!(" UNION SELECT seq FROM events INDEXED BY by_{column} WHERE {column} IN (SELECT id")
            }
            (false, _) => format!(" OR e.{column} IN (SELECT id"),
        });
        push_rows_with_text(query, table, text);
        query.push(")");
    }
    query.push(")");
}
