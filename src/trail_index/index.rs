//! The index of one trail: opening, updating and searching it.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::fault::Fault;
use super::filter::{EventFilter, Query, Targets, push_path, push_rows_with_text, push_text};
use super::seal::Seal;
use super::update::{Reach, ScanPosition, Updater, read_position, unsigned};
use crate::audit::trail::chain;
use crate::audit::trail::event::Event;
use crate::audit::{SegmentReader, open_at, parse_segment_name, read_line, segments, stem};
use crate::fs::trust;

/// Number of events below which a search uses an index. Otherwise it scans from the newest event on, since matches
/// are then frequent.
const FEW: i64 = 20_000;
const SCHEMA: &str = include_str!("schema.sql");
/// Indexes are created after all events were read, since sorting is faster than insertion.
const INDEXES: &str = "CREATE INDEX IF NOT EXISTS by_kind ON events (kind);
    CREATE INDEX IF NOT EXISTS by_target ON events (target);
    CREATE INDEX IF NOT EXISTS by_detail ON events (detail);
    CREATE INDEX IF NOT EXISTS by_call ON events (call);";
/// Number of events that are read before the index is written.
const BATCH: u64 = 200_000;
/// The version of the tables. An index of another version is rebuilt.
const VERSION: i64 = 2;

/// The index by which a search looks for events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ScanPlan {
    Kind,
    Target,
    Text,
    Call,
    Nothing,
}

/// The search index of one trail.
#[derive(Debug)]
pub struct Index {
    dir: PathBuf,
    path: PathBuf,
    connection: SqliteConnection,
    seal: Seal,
    was_changed: bool,
}

impl Index {
    /// Opens the index at `path` of the trail in `dir`. Creates it if it is missing, and rebuilds it with `anew`.
    ///
    /// # Errors
    /// A [`Fault`] if the index cannot be opened or created.
    pub async fn open(path: &Path, dir: &Path, anew: bool) -> Result<Self, Fault> {
        if anew {
            remove(path)?;
        }
        let is_new = !path.exists();
        let (seal, is_as_left) = Seal::open(path)?;
        let (connection, was_changed) = (connect(path).await?, !is_new && !is_as_left);
        let (dir, path) = (dir.to_owned(), path.to_owned());
        let mut index = Self { dir, path, connection, seal, was_changed };
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut index.connection).await?;
        if version != VERSION || was_changed {
            index.begin_anew().await?;
        }
        index.seal.share()?;
        Ok(index)
    }

    /// Whether another program than a search had changed the index, so that it was rebuilt.
    #[must_use]
    pub fn was_changed(&self) -> bool {
        self.was_changed
    }

    /// Deletes the index and creates an empty one.
    async fn begin_anew(&mut self) -> Result<(), Fault> {
        remove(&self.path)?;
        self.connection = connect(&self.path).await?;
        let tables = format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;");
        sqlx::raw_sql(AssertSqlSafe(tables)).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Closes the index, and seals it as a search leaves it.
    ///
    /// # Errors
    /// A [`Fault`] if the index cannot be closed or sealed.
    pub async fn close(self) -> Result<(), Fault> {
        self.connection.close().await?;
        Ok(self.seal.close()?)
    }

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
        let mut updater = Updater::begin(&mut self.connection, reached).await?;
        let mut read = 0;
        for path in paths.iter().skip(from.unwrap_or(0)) {
            let name = stem(path);
            if name != updater.reached.stem {
                (updater.reached.stem, updater.reached.next, updater.reached.last) = (name, 0, None);
            }
            let segment = updater.segment().await?;
            read += updater.reached.next;
            let mut reader = open_at(path, updater.reached.next)?;
            let mut line = Vec::new();
            loop {
                let bytes = read_line(&mut reader, &mut line)?;
                let Some(whole) = line.strip_suffix(b"\n").filter(|_| bytes > 0) else { break };
                updater.add(segment, whole).await?;
                read += u64::try_from(bytes).unwrap_or(0);
                if updater.reached.events.is_multiple_of(BATCH) {
                    updater.write().await?;
                }
                if updater.reached.events.is_multiple_of(4096) {
                    progress(read);
                }
            }
        }
        if updater.reached.events > before {
            updater.write().await?;
            updater.count().await?;
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
            if let Some(last) = Event::parse(&last) {
                (reach.last, reach.time) =
                    (last.seq, last.time.map_or_else(String::new, |time| (*time).to_owned()));
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
        let line = SegmentReader::of(&self.dir, &reached.stem).and_then(|mut lines| lines.line(last));
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
            for delete in [
                "DELETE FROM events WHERE segment = ?",
                "DELETE FROM open WHERE segment = ?",
                "DELETE FROM segments WHERE id = ?",
            ] {
                sqlx::query(delete).bind(row.get::<i64, _>(0)).execute(&mut self.connection).await?;
            }
        }
        Ok(())
    }

    /// Returns the lines of the latest matching events, at most `most`, newest first.
    ///
    /// # Errors
    /// A [`Fault`] if the index or a segment cannot be read, or if they differ.
    pub async fn find(&mut self, filter: &EventFilter, most: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let mut found = self.find_open(filter).await?;
        found.extend(self.find_closed(filter, most).await?);
        found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        found.truncate(most);
        Ok(found.into_iter().map(|(_, line)| line).collect())
    }

    /// Finds calls in flight. They are few, and their final kind is not known yet, so each line is checked.
    async fn find_open(&mut self, filter: &EventFilter) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
        let rows = "SELECT o.seq, s.stem, o.place FROM open o JOIN segments s ON s.id = o.segment ORDER BY o.seq DESC";
        let rows = sqlx::query(rows).fetch_all(&mut self.connection).await?;
        let mut lines = self.lines(&rows)?;
        lines.retain(|(_, line)| filter.matches(line));
        Ok(lines)
    }

    async fn find_closed(&mut self, filter: &EventFilter, most: usize) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
        let targets = self.targets(filter).await?;
        let by = self.plan(filter, &targets).await?;
        let mut query = Query::new("SELECT e.seq, s.stem, e.place FROM events e ");
        query.push(match by {
            ScanPlan::Kind => "INDEXED BY by_kind",
            ScanPlan::Target => "INDEXED BY by_target",
            ScanPlan::Call => "INDEXED BY by_call",
            ScanPlan::Text | ScanPlan::Nothing => "NOT INDEXED",
        });
        query.push(" CROSS JOIN segments s ON s.id = e.segment WHERE true");
        if let Some(id) = filter.request_id {
            query.push(" AND e.call = ").push_bind(id.as_bytes().to_vec());
        }
        if filter.looks_at_kinds() {
            query.push(" AND e.kind IN (SELECT id");
            filter.push_kinds(&mut query);
            query.push(")");
        }
        if filter.path.is_some() {
            query.push(" AND e.target IN (SELECT id");
            targets.push(&mut query, filter);
            query.push(")");
        }
        if let Some(text) = &filter.text {
            push_text(&mut query, text, by == ScanPlan::Text);
        }
        self.push_range(&mut query, filter).await?;
        query.push(" ORDER BY e.seq DESC LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
        let rows = query.build().fetch_all(&mut self.connection).await?;
        self.lines(&rows)
    }

    /// Returns the targets that match a pattern which the index alone cannot decide.
    async fn targets(&mut self, filter: &EventFilter) -> Result<Targets, Fault> {
        let Some(pattern) = filter.path.as_ref().filter(|pattern| pattern.as_glob().1.is_none()) else {
            return Ok(Targets(None));
        };
        let mut query = Query::new("SELECT id, path");
        push_path(&mut query, pattern);
        let rows = query.build().fetch_all(&mut self.connection).await?;
        let matching = rows.iter().filter(|row| pattern.matches(row.get(1)));
        let ids: Vec<String> = matching.map(|row| row.get::<i64, _>(0).to_string()).collect();
        Ok(Targets(Some(format!("[{}]", ids.join(",")))))
    }

    /// Selects the index with the fewest matching events, if they are few.
    async fn plan(&mut self, filter: &EventFilter, targets: &Targets) -> Result<ScanPlan, Fault> {
        if filter.request_id.is_some() {
            return Ok(ScanPlan::Call);
        }
        let mut plans = Vec::new();
        let sum = "SELECT coalesce(sum(events), 0)";
        if filter.looks_at_kinds() {
            let mut query = Query::new(sum);
            filter.push_kinds(&mut query);
            plans.push((self.count(query).await?, ScanPlan::Kind));
        }
        if filter.path.is_some() {
            let mut query = Query::new(sum);
            targets.push(&mut query, filter);
            plans.push((self.count(query).await?, ScanPlan::Target));
        }
        if let Some(text) = &filter.text {
            let mut all = 0;
            for table in ["kinds", "targets", "details"] {
                let mut query = Query::new(sum);
                push_rows_with_text(&mut query, table, text);
                all += self.count(query).await?;
            }
            plans.push((all, ScanPlan::Text));
        }
        let least = plans.into_iter().min_by_key(|(count, _)| *count).filter(|(count, _)| *count < FEW);
        Ok(least.map_or(ScanPlan::Nothing, |(_, plan)| plan))
    }

    async fn count(&mut self, mut query: Query) -> Result<i64, Fault> {
        Ok(query.build_query_scalar().fetch_one(&mut self.connection).await?)
    }

    /// Limits the query to one range of `seq`, computed from the kinds and times of the filter. The table is read in
    /// the order of `seq`.
    async fn push_range(&mut self, query: &mut Query, filter: &EventFilter) -> Result<(), Fault> {
        let (mut first, mut last) = (0, i64::MAX);
        if filter.looks_at_kinds() {
            let mut extent = Query::new("SELECT coalesce(min(first), 0), coalesce(max(last), -1)");
            filter.push_kinds(&mut extent);
            let row = extent.build().fetch_one(&mut self.connection).await?;
            (first, last) = (row.get(0), row.get(1));
        }
        if filter.since.is_some() || filter.until.is_some() {
            let since = filter.since.map_or(i64::MIN, Timestamp::as_microsecond);
            let until = filter.until.map_or(i64::MAX, Timestamp::as_microsecond);
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
    fn lines(&self, rows: &[SqliteRow]) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
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

async fn connect(path: &Path) -> Result<SqliteConnection, Fault> {
    // An index damaged by a crash is rebuilt.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(std::time::Duration::from_mins(1))
        .pragma("cache_size", "-65536")
        .pragma("temp_store", "memory");
    let is_new = !path.exists();
    let connection = options.connect().await?;
    if is_new {
        // The index reveals as much as the trail does.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, private)?;
    }
    Ok(connection)
}

/// Removes an index and its log files, if they exist.
fn remove(path: &Path) -> io::Result<()> {
    ["", "-wal", "-shm"].into_iter().try_for_each(|end| trust::remove_if_present(&trust::beside(path, end)))
}
