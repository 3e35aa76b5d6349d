//! Updates of the index with new events of the trail.

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::event_columns::{BETWEEN, COLUMNS, IndexedEvent, KIND, Text};
use super::interner::Dictionary;
use super::{Fault, INDEXES, Index, ROWS};
use crate::audit::trail::chain;
use crate::audit::{SegmentReader, open_at, parse_segment_name, read_line, segments, stem};

/// Number of events that are read before the index is written.
const BATCH: u64 = 200_000;

struct Event {
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
struct ScanPosition {
    stem: String,
    next: u64,
    last: Option<u64>,
    hash: String,
    events: u64,
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
struct Updater<'c> {
    connection: &'c mut SqliteConnection,
    kinds: Dictionary,
    targets: Dictionary,
    details: Dictionary,
    events: Vec<Event>,
    spans: HashMap<i64, (i64, i64)>,
    /// The first and the last `seq` that was read of each kind.
    extents: HashMap<i64, (i64, i64)>,
    open: HashMap<String, (i64, i64, i64)>,
    reached: ScanPosition,
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Index {
    /// Reads the events since the last update. `progress` receives the number of bytes of the segments read so far.
    ///
    /// # Errors
    /// A [`Fault`] if a segment cannot be read, or the index cannot be written.
    pub async fn catch_up(&mut self, mut progress: impl FnMut(u64)) -> Result<(), Fault> {
        let paths = segments(&self.dir)?;
        let mut reached = read_position(&mut self.connection).await?;
        let mut from = paths.iter().position(|path| stem(path) == reached.stem);
        if reached.events > 0 && (from.is_none() || !self.matches_trail(&reached)) {
            // The index is of another trail, or the segment that it ends in is gone.
            self.begin_anew().await?;
            (reached, from) = (ScanPosition::default(), None);
        }
        self.drop_retired(&paths).await?;
        let before = reached.events;
        let mut filling = Updater::begin(&mut self.connection, reached).await?;
        let mut read = 0;
        for path in paths.iter().skip(from.unwrap_or(0)) {
            let name = stem(path);
            if name != filling.reached.stem {
                (filling.reached.stem, filling.reached.next, filling.reached.last) = (name, 0, None);
            }
            let segment = filling.segment().await?;
            read += filling.reached.next;
            let mut reader = open_at(path, filling.reached.next)?;
            let mut line = Vec::new();
            loop {
                let bytes = read_line(&mut reader, &mut line)?;
                let Some(whole) = line.strip_suffix(b"\n").filter(|_| bytes > 0) else { break };
                filling.take(segment, whole).await?;
                read += u64::try_from(bytes).unwrap_or(0);
                if filling.reached.events.is_multiple_of(BATCH) {
                    filling.write().await?;
                }
                if filling.reached.events.is_multiple_of(4096) {
                    progress(read);
                }
            }
        }
        if filling.reached.events > before {
            filling.write().await?;
            filling.count().await?;
        }
        sqlx::raw_sql(INDEXES).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Returns the extent of the index, and the number of later events on the trail.
    ///
    /// # Errors
    /// A [`Fault`] if the index or a segment cannot be read.
    pub async fn reach(&mut self) -> Result<Reach, Fault> {
        let (reached, paths) = (read_position(&mut self.connection).await?, segments(&self.dir)?);
        let mut reach = Reach::default();
        if let Some(last) = reached.last {
            let last = SegmentReader::of(&self.dir, &reached.stem)?.line(last)?;
            if let Ok(last) = serde_json::from_slice::<IndexedEvent<'_>>(&last) {
                (reach.last, reach.time) = (last.seq, last.time.to_owned());
            }
        } else {
            // A segment was begun that has no event yet.
            let last = sqlx::query("SELECT seq, time FROM events ORDER BY seq DESC LIMIT 1");
            let Some(last) = last.fetch_optional(&mut self.connection).await? else { return Ok(reach) };
            let time = Timestamp::from_microsecond(last.get(1)).unwrap_or_default();
            (reach.last, reach.time) = (unsigned(last.get(0)), time.to_string());
        }
        reach.first = paths.first().and_then(|path| parse_segment_name(path)).map_or(1, |(first, _)| first);
        let from = paths.iter().position(|path| stem(path) == reached.stem).unwrap_or(paths.len());
        let mut at = reached.next;
        for path in paths.iter().skip(from) {
            let (mut reader, mut line) = (open_at(path, at)?, Vec::new());
            while read_line(&mut reader, &mut line)? > 0 {
                reach.newer += u64::from(line.ends_with(b"\n"));
            }
            at = 0;
        }
        Ok(reach)
    }

    /// Whether the trail still has the last event of the index.
    fn matches_trail(&self, reached: &ScanPosition) -> bool {
        let Some(last) = reached.last else { return true };
        let line = SegmentReader::of(&self.dir, &reached.stem).and_then(|mut places| places.line(last));
        let hash = line.ok().and_then(|line| chain::verified_line(&line).map(|(_, hash)| chain::hex(&hash)));
        hash.is_some_and(|hash| hash.as_slice() == reached.hash.as_bytes())
    }

    /// Deletes the events of retired segments from the index.
    async fn drop_retired(&mut self, paths: &[PathBuf]) -> Result<(), Fault> {
        let present: Vec<String> = paths.iter().map(|path| stem(path)).collect();
        let rows = sqlx::query("SELECT id, stem FROM segments").fetch_all(&mut self.connection).await?;
        for row in rows {
            if present.contains(&row.get::<String, _>(1)) {
                continue;
            }
            for gone in [
                "DELETE FROM events WHERE segment = ?",
                "DELETE FROM open WHERE segment = ?",
                "DELETE FROM segments WHERE id = ?",
            ] {
                sqlx::query(gone).bind(row.get::<i64, _>(0)).execute(&mut self.connection).await?;
            }
        }
        Ok(())
    }
}

async fn read_position(connection: &mut SqliteConnection) -> Result<ScanPosition, Fault> {
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
    async fn begin(connection: &'c mut SqliteConnection, reached: ScanPosition) -> Result<Self, Fault> {
        let mut kinds = Dictionary::begin(connection, "kinds").await?;
        let rows = QueryBuilder::<Sqlite>::new(format!("SELECT id, {KIND} FROM kinds"))
            .build()
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            let mut text = String::new();
            for column in 1..=COLUMNS {
                let number =
                    row.try_get::<Option<i64>, _>(column).ok().flatten().map(|number| number.to_string());
                let word = || row.try_get::<Option<String>, _>(column).ok().flatten();
                text.push_str(&number.or_else(word).unwrap_or_default());
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
    async fn segment(&mut self) -> Result<i64, Fault> {
        let put = sqlx::query("INSERT OR IGNORE INTO segments (stem) VALUES (?)").bind(&self.reached.stem);
        put.execute(&mut *self.connection).await?;
        let number = sqlx::query_scalar("SELECT id FROM segments WHERE stem = ?").bind(&self.reached.stem);
        Ok(number.fetch_one(&mut *self.connection).await?)
    }

    async fn take(&mut self, segment: i64, line: &[u8]) -> Result<(), Fault> {
        let place = self.reached.next;
        self.reached.next += u64::try_from(line.len() + 1).unwrap_or(0);
        self.reached.last = Some(place);
        self.reached.events += 1;
        self.reached.hash.clear();
        let (_, hash) = chain::split_line(line).unwrap_or_default();
        self.reached.hash.push_str(&String::from_utf8_lossy(hash));
        // `audit verify` reports invalid lines; the index skips them.
        let Ok(event) = serde_json::from_slice::<IndexedEvent<'_>>(line) else { return Ok(()) };
        let (seq, place) = (signed(event.seq), signed(place));
        match (event.event, event.request_id) {
            ("head", _) => return Ok(()),
            ("intent", Some(id)) => {
                self.open.insert(id.to_owned(), (seq, segment, place));
                return Ok(());
            }
            (_, Some(id)) => drop(self.open.remove(id)),
            _ => {}
        }
        let time = event.time.parse::<Timestamp>().map_or(0, Timestamp::as_microsecond);
        let mut text = String::new();
        event.kind(&mut text);
        let kind = self.kinds.find(self.connection, "kinds", &text).await?;
        event.detail(line, &mut text);
        let detail = self.details.find(self.connection, "details", &text).await?;
        let target = event.target.as_ref().map_or("", |Text(target)| target);
        let target = self.targets.find(self.connection, "targets", target).await?;
        let call = event.request_id.and_then(|id| id.parse::<Uuid>().ok()).map(|id| id.as_bytes().to_vec());
        self.extents.entry(kind).or_insert((seq, seq)).1 = seq;
        let span = self.spans.entry(seq >> 12).or_insert((time, time));
        *span = (span.0.min(time), span.1.max(time));
        self.events.push(Event { seq, time, kind, target, detail, segment, place, call });
        Ok(())
    }

    /// Writes everything read so far in one transaction.
    async fn write(&mut self) -> Result<(), Fault> {
        let mut writing = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for rows in std::mem::take(&mut self.kinds.fresh).chunks(ROWS) {
            QueryBuilder::<Sqlite>::new(format!("INSERT INTO kinds (id, events, {KIND}) "))
                .push_values(rows, |mut row, (number, text)| {
                    row.push_bind(*number).push_bind(0);
                    for column in text.split(BETWEEN).take(COLUMNS) {
                        row.push_bind(Some(column.to_owned()).filter(|column| !column.is_empty()));
                    }
                })
                .build()
                .execute(&mut *writing)
                .await?;
        }
        for rows in std::mem::take(&mut self.targets.fresh).chunks(ROWS) {
            QueryBuilder::<Sqlite>::new("INSERT INTO targets (id, text, path, slashes, events) ")
                .push_values(rows, |mut row, (number, text)| {
                    let path = text.split_once('?').map_or(text.as_str(), |(path, _)| path).trim_matches('/');
                    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
                    row.push_bind(*number).push_bind(text.clone()).push_bind(path.to_owned());
                    row.push_bind(i64::try_from(slashes).unwrap_or(i64::MAX)).push_bind(0);
                })
                .build()
                .execute(&mut *writing)
                .await?;
        }
        for rows in std::mem::take(&mut self.details.fresh).chunks(ROWS) {
            QueryBuilder::<Sqlite>::new("INSERT INTO details (id, text, events) ")
                .push_values(rows, |mut row, (number, text)| {
                    row.push_bind(*number).push_bind(text.clone()).push_bind(0);
                })
                .build()
                .execute(&mut *writing)
                .await?;
        }
        for rows in std::mem::take(&mut self.events).chunks(ROWS) {
            // Replace rows that a system crash left of a former run.
            QueryBuilder::<Sqlite>::new("INSERT OR REPLACE INTO events ")
                .push_values(rows, |mut row, event| {
                    row.push_bind(event.seq).push_bind(event.time).push_bind(event.kind);
                    row.push_bind(event.target).push_bind(event.detail).push_bind(event.segment);
                    row.push_bind(event.place).push_bind(event.call.clone());
                })
                .build()
                .execute(&mut *writing)
                .await?;
        }
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
    async fn count(&mut self) -> Result<(), Fault> {
        let mut writing = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for (dictionary, table) in
            [(&mut self.kinds, "kinds"), (&mut self.targets, "targets"), (&mut self.details, "details")]
        {
            dictionary.count(&mut writing, table).await?;
        }
        Ok(writing.commit().await?)
    }
}
