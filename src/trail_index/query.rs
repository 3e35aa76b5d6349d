//! Searches for events, newest first.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::{Fault, Index};
use crate::audit::SegmentReader;
use crate::audit::trail::chain;
use crate::policy::PathPattern;

/// The conditions of a search. `None` matches every event.
#[derive(Debug, Default)]
pub struct EventFilter {
    /// The kind of event: `outcome`, `admin`, `journal`, or `intent` for calls without an outcome yet.
    pub event: Option<String>,
    /// The name of the consumer.
    pub consumer: Option<String>,
    /// The name of the upstream.
    pub upstream: Option<String>,
    /// The HTTP method.
    pub method: Option<String>,
    /// The organisation of the call.
    pub org: Option<String>,
    /// The name of the credential.
    pub credential: Option<String>,
    /// The version of the credential.
    pub version: Option<u32>,
    /// The code of a refusal or failure.
    pub code: Option<String>,
    /// The status that the consumer saw.
    pub status: Option<u16>,
    /// A pattern that the path must match.
    pub path: Option<PathPattern>,
    /// A text that the event must contain. The case of ASCII letters is ignored.
    pub text: Option<String>,
    /// The request id of the call.
    pub request_id: Option<Uuid>,
    /// The earliest time of the event.
    pub since: Option<Timestamp>,
    /// The latest time of the event.
    pub until: Option<Timestamp>,
}

/// The number of events below which a search uses an index. Otherwise it scans from the newest event on, where matches
/// come soon.
const FEW: i64 = 20_000;
/// The columns of a kind that a text search looks at.
const WORDS: [&str; 12] = [
    "event",
    "what",
    "consumer",
    "via",
    "upstream",
    "method",
    "org",
    "credential",
    "rule",
    "decision",
    "code",
    "ended",
];

type Query = QueryBuilder<Sqlite>;

impl EventFilter {
    fn words(&self) -> [(&'static str, Option<&String>); 7] {
        [
            ("event", self.event.as_ref()),
            ("consumer", self.consumer.as_ref()),
            ("upstream", self.upstream.as_ref()),
            ("method", self.method.as_ref()),
            ("org", self.org.as_ref()),
            ("credential", self.credential.as_ref()),
            ("code", self.code.as_ref()),
        ]
    }

    fn numbers(&self) -> [(&'static str, &'static str, Option<i64>); 2] {
        [
            ("version", "credential_version", self.version.map(i64::from)),
            ("status", "status", self.status.map(i64::from)),
        ]
    }

    fn looks_at_kinds(&self) -> bool {
        self.words().iter().any(|(_, word)| word.is_some())
            || self.numbers().iter().any(|(_, _, it)| it.is_some())
    }

    /// Appends `FROM kinds WHERE …` with the conditions on the kind.
    fn of_kinds(&self, query: &mut Query) {
        query.push(" FROM kinds WHERE true");
        for (column, word) in self.words() {
            if let Some(word) = word {
                query.push(format!(" AND {column} = ")).push_bind(word.clone());
            }
        }
        for (column, _, number) in self.numbers() {
            if let Some(number) = number {
                query.push(format!(" AND {column} = ")).push_bind(number);
            }
        }
    }

    /// Appends the condition that a row of `table` contains a text.
    fn of_text(query: &mut Query, table: &str, text: &str) {
        let like = format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        let columns: &[&str] = if table == "kinds" { &WORDS } else { &["text"] };
        query.push(format!(" FROM {table} WHERE false"));
        for column in columns {
            query.push(format!(" OR {column} LIKE ")).push_bind(like.clone()).push(" ESCAPE '\\'");
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
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return false };
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let time = text("time").and_then(|time| time.parse::<Timestamp>().ok());
        let target = text("target").unwrap_or_default();
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let said = String::from_utf8_lossy(line).to_ascii_lowercase();
        self.words().iter().all(|(name, word)| word.is_none_or(|word| text(name) == Some(word.as_str())))
            && self.numbers().iter().all(|(_, name, number)| {
                number.is_none_or(|number| event.get(name).and_then(Value::as_i64) == Some(number))
            })
            && self.path.as_ref().is_none_or(|pattern| pattern.matches(path))
            && self.text.as_ref().is_none_or(|text| said.contains(&text.to_ascii_lowercase()))
            && self.request_id.is_none_or(|id| text("request_id").and_then(|it| it.parse().ok()) == Some(id))
            && self.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time.is_some_and(|time| time <= until))
    }
}

/// The ids of targets as a JSON array, for `json_each` of `SQLite`.
struct Targets(Option<String>);

impl Targets {
    fn push(&self, query: &mut Query, wanted: &EventFilter) {
        let Some(pattern) = &wanted.path else { return };
        match &self.0 {
            Some(ids) => {
                query
                    .push(" FROM targets WHERE id IN (SELECT value FROM json_each(")
                    .push_bind(ids.clone())
                    .push("))");
            }
            None => of_path(query, pattern),
        }
    }
}

/// Appends `FROM targets WHERE …`. For a pattern without `**` it selects exactly the matching targets, otherwise a
/// superset of them.
fn of_path(query: &mut Query, pattern: &PathPattern) {
    let (glob, slashes) = pattern.as_glob();
    query.push(" FROM targets WHERE path GLOB ").push_bind(glob);
    if let Some(slashes) = slashes {
        query.push(" AND slashes = ").push_bind(i64::try_from(slashes).unwrap_or(i64::MAX));
    }
}

/// The index by which a search looks for events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ScanPlan {
    Kind,
    Target,
    Text,
    Call,
    Nothing,
}

impl Index {
    /// Returns the lines of the latest matching events, at most `most`, newest first.
    ///
    /// # Errors
    /// A [`Fault`] if the index or a segment cannot be read, or if they differ.
    pub async fn find(&mut self, wanted: &EventFilter, most: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let mut found = self.find_open(wanted).await?;
        found.extend(self.find_closed(wanted, most).await?);
        found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        found.truncate(most);
        Ok(found.into_iter().map(|(_, line)| line).collect())
    }

    /// Finds calls in flight. They are few, and their final kind is not known yet, so each line is checked.
    async fn find_open(&mut self, wanted: &EventFilter) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
        let rows = "SELECT o.seq, s.stem, o.place FROM open o JOIN segments s ON s.id = o.segment ORDER BY o.seq DESC";
        let rows = sqlx::query(rows).fetch_all(&mut self.connection).await?;
        let mut lines = self.lines(&rows)?;
        lines.retain(|(_, line)| wanted.matches(line));
        Ok(lines)
    }

    async fn find_closed(&mut self, wanted: &EventFilter, most: usize) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
        let targets = self.targets(wanted).await?;
        let by = self.plan(wanted, &targets).await?;
        let mut query = Query::new("SELECT e.seq, s.stem, e.place FROM events e ");
        query.push(match by {
            ScanPlan::Kind => "INDEXED BY by_kind",
            ScanPlan::Target => "INDEXED BY by_target",
            ScanPlan::Call => "INDEXED BY by_call",
            ScanPlan::Text | ScanPlan::Nothing => "NOT INDEXED",
        });
        query.push(" CROSS JOIN segments s ON s.id = e.segment WHERE true");
        if let Some(id) = wanted.request_id {
            query.push(" AND e.call = ").push_bind(id.as_bytes().to_vec());
        }
        if wanted.looks_at_kinds() {
            query.push(" AND e.kind IN (SELECT id");
            wanted.of_kinds(&mut query);
            query.push(")");
        }
        if wanted.path.is_some() {
            query.push(" AND e.target IN (SELECT id");
            targets.push(&mut query, wanted);
            query.push(")");
        }
        if let Some(text) = &wanted.text {
            push_text(&mut query, text, by == ScanPlan::Text);
        }
        self.push_range(&mut query, wanted).await?;
        query.push(" ORDER BY e.seq DESC LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
        let rows = query.build().fetch_all(&mut self.connection).await?;
        self.lines(&rows)
    }

    /// Returns the targets that match a pattern which the index alone cannot decide.
    async fn targets(&mut self, wanted: &EventFilter) -> Result<Targets, Fault> {
        let Some(pattern) = wanted.path.as_ref().filter(|pattern| pattern.as_glob().1.is_none()) else {
            return Ok(Targets(None));
        };
        let mut query = Query::new("SELECT id, path");
        of_path(&mut query, pattern);
        let rows = query.build().fetch_all(&mut self.connection).await?;
        let matching = rows.iter().filter(|row| pattern.matches(row.get(1)));
        let ids: Vec<String> = matching.map(|row| row.get::<i64, _>(0).to_string()).collect();
        Ok(Targets(Some(format!("[{}]", ids.join(",")))))
    }

    /// Selects the index with the fewest matching events, if they are few.
    async fn plan(&mut self, wanted: &EventFilter, targets: &Targets) -> Result<ScanPlan, Fault> {
        if wanted.request_id.is_some() {
            return Ok(ScanPlan::Call);
        }
        let mut ways = Vec::new();
        let sum = "SELECT coalesce(sum(events), 0)";
        if wanted.looks_at_kinds() {
            let mut query = Query::new(sum);
            wanted.of_kinds(&mut query);
            ways.push((self.count(query).await?, ScanPlan::Kind));
        }
        if wanted.path.is_some() {
            let mut query = Query::new(sum);
            targets.push(&mut query, wanted);
            ways.push((self.count(query).await?, ScanPlan::Target));
        }
        if let Some(text) = &wanted.text {
            let mut all = 0;
            for table in ["kinds", "targets", "details"] {
                let mut query = Query::new(sum);
                EventFilter::of_text(&mut query, table, text);
                all += self.count(query).await?;
            }
            ways.push((all, ScanPlan::Text));
        }
        let least = ways.into_iter().min_by_key(|(count, _)| *count).filter(|(count, _)| *count < FEW);
        Ok(least.map_or(ScanPlan::Nothing, |(_, way)| way))
    }

    async fn count(&mut self, mut query: Query) -> Result<i64, Fault> {
        Ok(query.build_query_scalar().fetch_one(&mut self.connection).await?)
    }

    /// Limits the query to one range of `seq`, computed from the kinds and times wanted. The table is read by this
    /// range.
    async fn push_range(&mut self, query: &mut Query, wanted: &EventFilter) -> Result<(), Fault> {
        let (mut first, mut last) = (0, i64::MAX);
        if wanted.looks_at_kinds() {
            let mut extent = Query::new("SELECT coalesce(min(first), 0), coalesce(max(last), -1)");
            wanted.of_kinds(&mut extent);
            let row = extent.build().fetch_one(&mut self.connection).await?;
            (first, last) = (row.get(0), row.get(1));
        }
        if wanted.since.is_some() || wanted.until.is_some() {
            let since = wanted.since.map_or(i64::MIN, Timestamp::as_microsecond);
            let until = wanted.until.map_or(i64::MAX, Timestamp::as_microsecond);
            let spans =
                "SELECT coalesce(min(block) << 12, 0), coalesce(((max(block) + 1) << 12) - 1, -1) FROM spans
                WHERE last >= ? AND first <= ?";
            let row = sqlx::query(spans).bind(since).bind(until).fetch_one(&mut self.connection).await?;
            (first, last) = (first.max(row.get(0)), last.min(row.get(1)));
            query.push(" AND e.time >= ").push_bind(since).push(" AND e.time <= ").push_bind(until);
        }
        query.push(" AND e.seq BETWEEN ").push_bind(first).push(" AND ").push_bind(last);
        Ok(())
    }

    /// Reads the lines at the offsets in `rows`, and checks that each is intact and has the right `seq`.
    fn lines(&self, rows: &[sqlx::sqlite::SqliteRow]) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
        let mut found = Vec::with_capacity(rows.len());
        let mut open: Option<(String, SegmentReader)> = None;
        for row in rows {
            let (seq, stem, place): (i64, String, i64) = (row.get(0), row.get(1), row.get(2));
            let places = match open.take().filter(|(of, _)| *of == stem) {
                Some(same) => same,
                None => (stem.clone(), SegmentReader::of(&self.dir, &stem)?),
            };
            let (_, places) = open.insert(places);
            let differs = || Fault::Differs(u64::try_from(seq).unwrap_or(0));
            let line = places.line(u64::try_from(place).unwrap_or(0)).map_err(|_| differs())?;
            let opening = format!("{{\"seq\":{seq},");
            if !line.starts_with(opening.as_bytes()) || chain::verified_line(&line).is_none() {
                return Err(differs());
            }
            found.push((seq, line));
        }
        Ok(found)
    }
}

/// Appends the condition that an event contains a text in any of its parts.
fn push_text(query: &mut Query, text: &str, by_index: bool) {
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
        EventFilter::of_text(query, table, text);
        query.push(")");
    }
    query.push(")");
}
