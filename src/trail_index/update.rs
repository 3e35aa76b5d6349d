//! Updates of the index with new events of the trail.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use uuid::Uuid;

use super::event_columns::{BETWEEN, kind_columns, kind_names, write_detail, write_kind};
use super::fault::Fault;
use super::interner::{Dictionary, write_rows};
use crate::audit::trail::chain;
use crate::audit::trail::event::{ColumnType, Event, EventKind};

/// A row of the table `events`.
struct EventRow {
    seq: i64,
    time: i64,
    kind: i64,
    target: i64,
    detail: i64,
    segment: i64,
    place: i64,
    call: Option<Vec<u8>>,
}

/// The position up to which the segments were read.
#[derive(Default)]
pub(super) struct ScanPosition {
    pub(super) stem: String,
    pub(super) next: u64,
    pub(super) last: Option<u64>,
    pub(super) hash: String,
    pub(super) events: u64,
}

/// The extent of an index, compared with its trail.
#[derive(Debug, Default)]
pub struct Reach {
    /// The `seq` of the first event on the trail.
    pub first: u64,
    /// The `seq` of the last event in the index.
    pub last: u64,
    /// The time of that event (RFC 3339).
    pub time: String,
    /// The number of later events on the trail.
    pub newer: u64,
}

/// Data that was read and is not written to the index yet.
pub(super) struct Updater<'c> {
    connection: &'c mut SqliteConnection,
    kinds: Dictionary,
    targets: Dictionary,
    details: Dictionary,
    events: Vec<EventRow>,
    spans: HashMap<i64, (i64, i64)>,
    /// The first and the last `seq` that was read of each kind.
    extents: HashMap<i64, (i64, i64)>,
    open: HashMap<String, (i64, i64, i64)>,
    pub(super) reached: ScanPosition,
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) async fn read_position(connection: &mut SqliteConnection) -> Result<ScanPosition, Fault> {
    let row = sqlx::query("SELECT stem, next, last, hash, events FROM reached");
    let Some(row) = row.fetch_optional(connection).await? else { return Ok(ScanPosition::default()) };
    Ok(ScanPosition {
        stem: row.get(0),
        next: unsigned(row.get(1)),
        last: row.get::<Option<i64>, _>(2).map(unsigned),
        hash: row.get(3),
        events: unsigned(row.get(4)),
    })
}

impl<'c> Updater<'c> {
    pub(super) async fn begin(
        connection: &'c mut SqliteConnection,
        reached: ScanPosition,
    ) -> Result<Self, Fault> {
        let mut kinds = Dictionary::begin(connection, "kinds").await?;
        let rows = AssertSqlSafe(format!("SELECT id, {} FROM kinds", kind_names()));
        for row in sqlx::query(rows).fetch_all(&mut *connection).await? {
            let mut text = String::new();
            for (at, column) in (1_usize..).zip(kind_columns()) {
                let value = match column.value_type {
                    ColumnType::Number => row.get::<Option<i64>, _>(at).map(|number| number.to_string()),
                    ColumnType::Text | ColumnType::Time => row.get(at),
                };
                text.push_str(&value.unwrap_or_default());
                text.push(BETWEEN);
            }
            kinds.known.insert(text, (row.get(0), 0));
        }
        kinds.whole = true;
        let targets = Dictionary::begin(connection, "targets").await?;
        let details = Dictionary::begin(connection, "details").await?;
        let rows =
            sqlx::query("SELECT call, seq, segment, place FROM open").fetch_all(&mut *connection).await?;
        let open = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect();
        let (events, spans, extents) = (Vec::new(), HashMap::new(), HashMap::new());
        Ok(Self { connection, kinds, targets, details, events, spans, extents, open, reached })
    }

    /// Returns the id of the segment that is being read.
    pub(super) async fn segment(&mut self) -> Result<i64, Fault> {
        let put = sqlx::query("INSERT OR IGNORE INTO segments (stem) VALUES (?)").bind(&self.reached.stem);
        put.execute(&mut *self.connection).await?;
        let number = sqlx::query_scalar("SELECT id FROM segments WHERE stem = ?").bind(&self.reached.stem);
        Ok(number.fetch_one(&mut *self.connection).await?)
    }

    /// Adds the next line of the segment.
    pub(super) async fn add(&mut self, segment: i64, line: &[u8]) -> Result<(), Fault> {
        let place = self.reached.next;
        self.reached.next += u64::try_from(line.len() + 1).unwrap_or(0);
        self.reached.last = Some(place);
        self.reached.events += 1;
        self.reached.hash.clear();
        let (_, hash) = chain::split_line(line).unwrap_or_default();
        self.reached.hash.push_str(&String::from_utf8_lossy(hash));
        // `audit verify` reports invalid lines; the index skips them.
        let Some(event) = Event::parse(line) else { return Ok(()) };
        let (seq, place) = (signed(event.seq), signed(place));
        match (event.event, event.request_id.as_deref()) {
            (EventKind::Head, _) => return Ok(()),
            (EventKind::Intent, Some(id)) => {
                self.open.insert(id.to_owned(), (seq, segment, place));
                return Ok(());
            }
            (_, Some(id)) => drop(self.open.remove(id)),
            _ => {}
        }
        let time = event.timestamp().map_or(0, Timestamp::as_microsecond);
        let mut text = String::new();
        write_kind(&event, &mut text);
        let kind = self.kinds.find(self.connection, &text).await?;
        write_detail(&event, line, &mut text);
        let detail = self.details.find(self.connection, &text).await?;
        let target = event.target.as_deref().unwrap_or_default();
        let target = self.targets.find(self.connection, target).await?;
        let call = event
            .request_id
            .as_deref()
            .and_then(|id| id.parse::<Uuid>().ok())
            .map(|id| id.as_bytes().to_vec());
        self.extents.entry(kind).or_insert((seq, seq)).1 = seq;
        let span = self.spans.entry(seq >> 12).or_insert((time, time));
        *span = (span.0.min(time), span.1.max(time));
        self.events.push(EventRow { seq, time, kind, target, detail, segment, place, call });
        Ok(())
    }

    /// Writes everything read so far in one transaction.
    pub(super) async fn write(&mut self) -> Result<(), Fault> {
        let mut writing = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let insert = format!("INSERT INTO kinds (id, events, {}) ", kind_names());
        write_rows(&mut writing, (&insert, ""), &std::mem::take(&mut self.kinds.new), |row, (id, text)| {
            row.push_bind(*id).push_bind(0);
            for value in text.split_terminator(BETWEEN) {
                row.push_bind(Some(value.to_owned()).filter(|value| !value.is_empty()));
            }
        })
        .await?;
        let insert = "INSERT INTO targets (id, text, path, slashes, events) ";
        write_rows(&mut writing, (insert, ""), &std::mem::take(&mut self.targets.new), |row, (id, text)| {
            let path = text.split_once('?').map_or(text.as_str(), |(path, _)| path).trim_matches('/');
            let slashes = path.bytes().filter(|byte| *byte == b'/').count();
            row.push_bind(*id).push_bind(text.clone()).push_bind(path.to_owned());
            row.push_bind(i64::try_from(slashes).unwrap_or(i64::MAX)).push_bind(0);
        })
        .await?;
        let insert = "INSERT INTO details (id, text, events) ";
        write_rows(&mut writing, (insert, ""), &std::mem::take(&mut self.details.new), |row, (id, text)| {
            row.push_bind(*id).push_bind(text.clone()).push_bind(0);
        })
        .await?;
        // Replace rows that a system crash left of a former run.
        let insert = "INSERT OR REPLACE INTO events ";
        write_rows(&mut writing, (insert, ""), &std::mem::take(&mut self.events), |row, event| {
            row.push_bind(event.seq).push_bind(event.time).push_bind(event.kind);
            row.push_bind(event.target).push_bind(event.detail).push_bind(event.segment);
            row.push_bind(event.place).push_bind(event.call.clone());
        })
        .await?;
        for (block, (first, last)) in self.spans.drain() {
            let put = "INSERT INTO spans VALUES (?, ?, ?) ON CONFLICT (block) DO UPDATE
                SET first = min(first, excluded.first), last = max(last, excluded.last)";
            sqlx::query(put).bind(block).bind(first).bind(last).execute(&mut *writing).await?;
        }
        for (kind, (first, last)) in self.extents.drain() {
            let put =
                sqlx::query("UPDATE kinds SET first = coalesce(first, ?), last = ? WHERE id = ?").bind(first);
            put.bind(last).bind(kind).execute(&mut *writing).await?;
        }
        sqlx::query("DELETE FROM open").execute(&mut *writing).await?;
        for (call, (seq, segment, place)) in &self.open {
            let put = sqlx::query("INSERT INTO open VALUES (?, ?, ?, ?)").bind(call).bind(seq);
            put.bind(segment).bind(place).execute(&mut *writing).await?;
        }
        let ScanPosition { stem, next, last, hash, events } = &self.reached;
        let put = sqlx::query("INSERT OR REPLACE INTO reached VALUES (1, ?, ?, ?, ?, ?)").bind(stem);
        let put = put.bind(signed(*next)).bind(last.map(signed)).bind(hash).bind(signed(*events));
        put.execute(&mut *writing).await?;
        Ok(writing.commit().await?)
    }

    /// Writes the number of events that refer to each text. After an interrupted run the counts are too low, which only
    /// makes a search slower.
    pub(super) async fn count(&mut self) -> Result<(), Fault> {
        let mut writing = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for dictionary in [&mut self.kinds, &mut self.targets, &mut self.details] {
            dictionary.count(&mut writing).await?;
        }
        Ok(writing.commit().await?)
    }
}
