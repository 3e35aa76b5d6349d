//! A search index of the trail by consumer, upstream, time and more. It is derived from the segments, which alone are
//! evidence. Every event found is read from its segment and checked before it is returned.

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
/// Indexes are created after all events were read, since sorting is faster than insertion.
const INDEXES: &str = "CREATE INDEX IF NOT EXISTS by_kind ON events (kind);
    CREATE INDEX IF NOT EXISTS by_target ON events (target);
    CREATE INDEX IF NOT EXISTS by_detail ON events (detail);
    CREATE INDEX IF NOT EXISTS by_call ON events (call);";
/// Number of rows per `INSERT`.
const ROWS: usize = 500;
/// The version of the tables. An index of another version is rebuilt.
const VERSION: i64 = 1;

/// The reason why a search fails.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The segments, or the folder of the index, cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The index database cannot be used.
    #[error("the index cannot be used; --rebuild makes it anew")]
    Index(#[from] sqlx::Error),
    /// The trail does not have the event with this `seq` where the index refers to it.
    #[error("seq {0} is not where the index says: was the trail altered? verify it, and --rebuild the index")]
    Differs(u64),
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
        let made = format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;");
        sqlx::raw_sql(AssertSqlSafe(made)).execute(&mut self.connection).await?;
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
    let made = !path.exists();
    let connection = options.connect().await?;
    if made {
        // The index reveals as much as the trail does.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, private)?;
    }
    Ok(connection)
}

/// Removes an index and its log files, if they exist.
fn remove(path: &Path) -> io::Result<()> {
    for end in ["", "-wal", "-shm"] {
        match std::fs::remove_file(beside(path, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
