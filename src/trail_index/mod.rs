//! The index of a trail: which events there are of whom, where, when. Derived from the segments, which alone are
//! evidence: what it finds is read and checked there before anybody is told.

mod event_columns;
mod interner;
mod query;
mod seal;
mod update;

pub use query::EventFilter;
pub use update::Reach;

use std::io;
use std::path::{Path, PathBuf};

use seal::{Seal, beside};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

const SCHEMA: &str = include_str!("schema.sql");
/// Made once all that is there was read: sorting is faster than putting each in its place.
const INDEXES: &str = "CREATE INDEX IF NOT EXISTS by_kind ON events (kind);
    CREATE INDEX IF NOT EXISTS by_target ON events (target);
    CREATE INDEX IF NOT EXISTS by_detail ON events (detail);
    CREATE INDEX IF NOT EXISTS by_call ON events (call);";
/// Rows put in at a time.
const ROWS: usize = 500;
/// The form of the tables. Another one is made anew.
const VERSION: i64 = 1;

/// Why nothing can be looked up.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The segments, or the folder of the index.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The index itself.
    #[error("the index cannot be used; --rebuild makes it anew")]
    Index(#[from] sqlx::Error),
    /// What the index says is not what the trail has.
    #[error("seq {0} is not where the index says: was the trail altered? verify it, and --rebuild the index")]
    Differs(u64),
}

/// The index of one trail.
#[derive(Debug)]
pub struct Index {
    dir: PathBuf,
    path: PathBuf,
    connection: SqliteConnection,
    seal: Seal,
    was_changed: bool,
}

impl Index {
    /// Opens the index at `path` of the trail in `dir`, or makes it where there is none, or `anew`.
    ///
    /// # Errors
    /// [`Fault`].
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

    /// Whether something else than a search had changed it, so that it was made anew.
    #[must_use]
    pub fn was_changed(&self) -> bool {
        self.was_changed
    }

    /// Forgets all that it holds.
    async fn begin_anew(&mut self) -> Result<(), Fault> {
        remove(&self.path)?;
        self.connection = connect(&self.path).await?;
        let made = format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;");
        sqlx::raw_sql(AssertSqlSafe(made)).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Ends its use.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn close(self) -> Result<(), Fault> {
        self.connection.close().await?;
        Ok(self.seal.close()?)
    }
}

async fn connect(path: &Path) -> Result<SqliteConnection, Fault> {
    // What a crash leaves of it is made anew.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(std::time::Duration::from_mins(1))
        .pragma("cache_size", "-65536")
        .pragma("temp_store", "memory");
    let made = !path.exists();
    let connection = options.connect().await?;
    if made {
        // It tells as much as the trail does.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, private)?;
    }
    Ok(connection)
}

/// Removes an index, if there is one.
fn remove(path: &Path) -> io::Result<()> {
    for end in ["", "-wal", "-shm"] {
        match std::fs::remove_file(beside(path, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
