//! The store as one `SQLite` file. It uses a write-ahead log and flushes every commit.
//! Any number of readers may work beside one writer, in this process or in others.
//!
//! A file that cannot be read as a claviger store is refused with the reason. It is never treated as an empty store.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, MutexGuard};

use super::{Change, History, Revision, Rows, Storage, StoreError};
use super::{read, write};
use crate::fs::trust::{self, TrustedOwner};

/// Schema migrations in order: each brings a store to the next version. A released migration is never altered.
const STEPS: [&str; 6] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
];
/// The application id in the file header (`clvg`), which marks the file as a claviger store.
const APPLICATION: i64 = 0x636c_7667;
/// The first bytes of every `SQLite` file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Suffixes of the store's own path and of the files that `SQLite` keeps beside it.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// The longest time that a change waits for another writer.
const BUSY: Duration = Duration::from_secs(5);

/// A store in a file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    /// Device and inode number of the open file. They show whether another file has replaced it.
    file: (u64, u64),
    connection: Mutex<SqliteConnection>,
}

impl Sqlite {
    /// Opens the store at `path`, and migrates it to the schema of this version.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if the file is missing, damaged, another program's or a newer version's, or if other
    /// users may read it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = TrustedOwner::of(trust::folder(path)).open(path);
        let opened = opened.map_err(|ill| fault(&ill.path, ill.reason()))?;
        let file = check_file(opened).map_err(|error| fault(path, error.to_string()))?;
        check_beside(path)?;
        let mut connection = options(path).connect().await.map_err(|error| sqlx_error(path, &error))?;
        check(path, &mut connection).await?;
        Ok(Self { path: path.to_owned(), file, connection: Mutex::new(connection) })
    }

    /// Creates an empty store at `path`, or opens the store that another process has created there meanwhile.
    /// The file gets its name only once it is complete.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if the file cannot be created, and the errors of [`open`](Self::open).
    pub async fn create(path: &Path) -> Result<Self, StoreError> {
        let unusable = |error: io::Error| fault(path, error.to_string());
        let failed = |error: sqlx::Error| sqlx_error(path, &error);
        let folder = File::open(trust::folder(path)).map_err(unusable)?;
        flock(&folder, FlockOperation::LockExclusive).map_err(|error| unusable(error.into()))?;
        if !path.try_exists().map_err(unusable)? {
            let new = path.with_extension("db.new");
            let file = begin(&new).map_err(unusable)?;
            let mut connection = options(&new).connect().await.map_err(failed)?;
            // The write-ahead log is off at first, so that the one file that is renamed holds everything.
            migrate(path, &mut connection).await?;
            let mode = sqlx::query_scalar("PRAGMA journal_mode = WAL").fetch_one(&mut connection);
            let mode: String = mode.await.map_err(failed)?;
            if mode != "wal" {
                return Err(fault(path, format!("the file system takes no write-ahead log: {mode}")));
            }
            connection.close().await.map_err(failed)?;
            file.sync_all().and_then(|()| fs::rename(&new, path)).map_err(unusable)?;
        }
        folder.sync_all().map_err(unusable)?;
        Self::open(path).await
    }

    /// Sets the longest time that a change waits for another writer.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if the store cannot be used.
    pub async fn wait_at_most(&self, most: Duration) -> Result<(), StoreError> {
        let wait = format!("PRAGMA busy_timeout = {}", most.as_millis());
        let mut connection = self.connection.lock().await;
        let set = sqlx::raw_sql(sqlx::AssertSqlSafe(wait)).execute(&mut *connection).await;
        set.map(drop).map_err(|error| self.store_error(&error))
    }

    /// Closes the store, so that the one file holds all committed changes.
    pub async fn close(self) {
        if let Err(error) = self.connection.into_inner().close().await {
            // Nothing is lost: every acknowledged change is in the log beside the file.
            tracing::debug!(%error, "closing the store");
        }
    }

    fn store_error(&self, error: &sqlx::Error) -> StoreError {
        sqlx_error(&self.path, error)
    }

    /// Returns the connection. Fails if the open file is no longer the one at the path.
    async fn connection(&self) -> Result<MutexGuard<'_, SqliteConnection>, StoreError> {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.file => Ok(self.connection.lock().await),
            Ok(_) => Err(fault(&self.path, "another file was put in its place: start again")),
            Err(error) => Err(fault(&self.path, error.to_string())),
        }
    }
}

impl Storage for Sqlite {
    async fn read(&self) -> Result<(Rows, Revision), StoreError> {
        read::read(&mut *self.connection().await?).await.map_err(|error| self.store_error(&error))
    }

    async fn read_since(&self, rows: Rows, from: Revision) -> Result<(Rows, Revision), StoreError> {
        let mut connection = self.connection().await?;
        read::read_since(&mut connection, rows, from).await.map_err(|error| self.store_error(&error))
    }

    async fn write(&self, changes: &[Change], from: Option<Revision>) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        match write::write(&mut connection, changes, from).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Conflict),
            Err(error) => Err(self.store_error(&error)),
        }
    }

    async fn stamp(&self) -> Result<Revision, StoreError> {
        read::stamp(&mut *self.connection().await?).await.map_err(|error| self.store_error(&error))
    }

    async fn history(&self) -> Result<History, StoreError> {
        read::history(&mut *self.connection().await?).await.map_err(|error| self.store_error(&error))
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        // Overwrite deleted data, so that no material of a former version stays in free pages.
        .pragma("secure_delete", "ON")
        .pragma("trusted_schema", "OFF")
        .row_buffer_size(1024)
        .thread_name(|number| format!("store-{number}"))
        .disable_statement_logging()
}

/// Creates an empty file for a new store, and removes the remains of an earlier attempt.
fn begin(new: &Path) -> io::Result<File> {
    for end in BESIDE {
        trust::remove_if_present(&trust::beside(new, end))?;
    }
    trust::create(new)
}

/// Refuses symbolic links in place of the files that `SQLite` keeps beside the store. Through such a link, root would
/// create or alter the link's target.
fn check_beside(path: &Path) -> Result<(), StoreError> {
    for end in BESIDE.iter().skip(1) {
        let beside = trust::beside(path, end);
        if fs::symlink_metadata(&beside).is_ok_and(|found| found.is_symlink()) {
            return Err(fault(&beside, "it is a link, in the place of a file of the store"));
        }
    }
    Ok(())
}

/// Returns device and inode number of the file if it can be a store.
fn check_file(mut file: File) -> io::Result<(u64, u64)> {
    let found = file.metadata()?;
    let ill = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if !found.is_file() {
        return ill("it is no file");
    }
    let mut magic = [0; MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *MAGIC => Ok((found.dev(), found.ino())),
        Ok(()) => ill("it is no store of claviger's: its beginning is another program's, or was overwritten"),
        Err(_) => ill("it was cut off: it is not a store any more, and restoring a backup is what helps"),
    }
}

/// Checks that the file is undamaged and a claviger store, and migrates it to this version.
async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| sqlx_error(path, &error);
    let pragma = async |connection: &mut SqliteConnection, sql: &'static str| -> Result<i64, StoreError> {
        sqlx::query_scalar(sql).fetch_one(connection).await.map_err(failed)
    };
    if pragma(connection, "PRAGMA application_id").await? != APPLICATION {
        return Err(fault(path, "it is another program's database"));
    }
    let version = pragma(connection, "PRAGMA user_version").await?;
    let known = usize::try_from(version).ok().filter(|version| (1..=STEPS.len()).contains(version));
    let Some(version) = known else {
        let newest = STEPS.len();
        let reason = format!("it is of version {version}, and this claviger knows up to {newest}");
        return Err(fault(path, reason));
    };
    let found = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_all(&mut *connection);
    let found: Vec<String> = found.await.map_err(failed)?;
    if found != ["ok"] {
        return Err(fault(path, format!("it is damaged: {}", found.join("; "))));
    }
    if version < STEPS.len() { migrate(path, connection).await } else { Ok(()) }
}

/// Applies the outstanding migrations in one transaction.
async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let steps = async {
        let mut transaction = connection.begin_with("BEGIN EXCLUSIVE").await?;
        // Another process may have applied them while this one waited for the lock.
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
        for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
            sqlx::raw_sql(*step).execute(&mut *transaction).await?;
        }
        let marks = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {}", STEPS.len());
        sqlx::raw_sql(sqlx::AssertSqlSafe(marks)).execute(&mut *transaction).await?;
        transaction.commit().await
    };
    steps.await.map_err(|error: sqlx::Error| sqlx_error(path, &error))
}

fn sqlx_error(path: &Path, error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    let reason = text.strip_prefix("error returned from database: ").unwrap_or(&text);
    fault(path, reason)
}

fn fault(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Unusable { path: path.to_owned(), reason: reason.into() }
}
