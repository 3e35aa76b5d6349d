//! Writes a list of changes to the tables in one transaction.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Error};

use crate::storage::{
    AccessKeyRow, Change, ConsumerRow, CredentialRow, Issuance, Revision, Seconds, TokenRow, VersionRow,
};

/// Makes the changes in one transaction, which is durable when this returns. Returns false, and changes nothing, if the
/// revision of the store differs from `from`.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    changes: &[Change],
    from: Option<Revision>,
) -> Result<bool, Error> {
    // Take the write lock first: the revision compared below then cannot change before the commit.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if let Some(from) = from
        && super::read::stamp(&mut transaction).await? != from
    {
        transaction.rollback().await?;
        return Ok(false);
    }
    for change in changes {
        apply(&mut transaction, change).await?;
    }
    if changes.iter().any(counts) {
        sqlx::query("UPDATE store SET changes = changes + 1").execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Whether a change makes a new revision.
const fn counts(change: &Change) -> bool {
    match change {
        Change::MarkUsed(..) | Change::QueueAuditEvent(_) | Change::AuditEventPublished(_) => false,
        Change::PutConsumer(_)
        | Change::RemoveConsumer(_)
        | Change::PutToken(_)
        | Change::PutAccessKey(_)
        | Change::PutCredential(_)
        | Change::RemoveCredential(_)
        | Change::PutVersion(_)
        | Change::RemoveVersion(..)
        | Change::Freeze(_)
        | Change::Unfreeze(_)
        | Change::SetKeyCheck(_)
        | Change::AcceptStore(_) => true,
    }
}

/// Runs a statement with these values.
macro_rules! run {
    ($db:expr, $sql:expr $(, $value:expr)*) => {
        sqlx::query($sql)$(.bind($value))*.execute($db).await.map(drop)
    };
}

async fn apply(db: &mut SqliteConnection, change: &Change) -> Result<(), Error> {
    match change {
        Change::PutConsumer(row) => consumer(db, row).await,
        Change::RemoveConsumer(name) => {
            run!(&mut *db, "DELETE FROM tokens WHERE consumer = ?", name)?;
            run!(&mut *db, "DELETE FROM access_keys WHERE consumer = ?", name)?;
            run!(db, "DELETE FROM consumers WHERE name = ?", name)
        }
        Change::PutToken(row) => token(db, row).await,
        Change::PutAccessKey(row) => access_key(db, row).await,
        Change::MarkUsed(id, at) => mark_used(db, id, *at).await,
        Change::PutCredential(row) => credential(db, row).await,
        Change::RemoveCredential(name) => run!(db, "DELETE FROM credentials WHERE name = ?", name),
        Change::PutVersion(row) => version(db, row).await,
        Change::RemoveVersion(name, version) => {
            run!(db, "DELETE FROM versions WHERE credential = ? AND version = ?", name, version)
        }
        Change::Freeze(target) => {
            let insert = "INSERT INTO frozen (what, name) VALUES (?, ?) ON CONFLICT DO NOTHING";
            run!(db, insert, target.kind(), target.name())
        }
        Change::Unfreeze(target) => {
            run!(db, "DELETE FROM frozen WHERE what = ? AND name = ?", target.kind(), target.name())
        }
        Change::QueueAuditEvent(event) => {
            let object = serde_json::to_string(event).map_err(|error| Error::Encode(error.into()))?;
            run!(db, "INSERT INTO notes (id, members) VALUES (?, ?)", &event.id, object)
        }
        Change::AuditEventPublished(id) => run!(db, "DELETE FROM notes WHERE id = ?", id),
        Change::AcceptStore(revision) => run!(db, "UPDATE store SET accepted = ?", revision.to_string()),
        Change::SetKeyCheck(key_check) => run!(db, "UPDATE store SET proof = ?", key_check),
    }
}

/// Inserts a row into a table, or updates the row with the same key. Each column gets the value of the
/// variable with its name.
macro_rules! upsert {
    ($db:expr, $table:ident($($key:ident),+), $($column:ident),+) => {{
        let sql = upsert_sql(stringify!($table), &[$(stringify!($key)),+], &[$(stringify!($column)),+]);
        run!($db, AssertSqlSafe(sql) $(, $key)+ $(, $column)+)
    }};
}

fn upsert_sql(table: &str, key: &[&str], columns: &[&str]) -> String {
    let (all, key) = ([key, columns].concat(), key.join(", "));
    let (names, places) = (all.join(", "), vec!["?"; all.len()].join(", "));
    let update: Vec<String> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let update = update.join(", ");
    format!("INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {update}")
}

async fn consumer(db: &mut SqliteConnection, row: &ConsumerRow) -> Result<(), Error> {
    let ConsumerRow { name, created, disabled, note } = row;
    upsert!(db, consumers(name), created, disabled, note)
}

async fn token(db: &mut SqliteConnection, row: &TokenRow) -> Result<(), Error> {
    let Issuance { id, consumer, created, expires, revoked, last_used, note } = &row.issued;
    let digest = row.digest.as_slice();
    upsert!(db, tokens(id), consumer, digest, created, expires, revoked, last_used, note)
}

async fn access_key(db: &mut SqliteConnection, row: &AccessKeyRow) -> Result<(), Error> {
    let AccessKeyRow { issued, sealed, algorithms, strict } = row;
    let Issuance { id, consumer, created, expires, revoked, last_used, note } = issued;
    upsert!(
        db,
        access_keys(id),
        consumer,
        sealed,
        algorithms,
        strict,
        created,
        expires,
        revoked,
        last_used,
        note
    )
}

/// Records the last use of a token or access key. Both ids are UUIDs, so an id matches at most one table.
async fn mark_used(db: &mut SqliteConnection, id: &str, at: Seconds) -> Result<(), Error> {
    let later = "WHERE id = ?2 AND (last_used IS NULL OR last_used < ?1)";
    for table in ["tokens", "access_keys"] {
        let update = format!("UPDATE {table} SET last_used = ?1 {later}");
        run!(&mut *db, AssertSqlSafe(update), at, id)?;
    }
    Ok(())
}

async fn credential(db: &mut SqliteConnection, row: &CredentialRow) -> Result<(), Error> {
    let CredentialRow { name, upstream, kind, created, disabled } = row;
    upsert!(db, credentials(name), upstream, kind, created, disabled)
}

async fn version(db: &mut SqliteConnection, row: &VersionRow) -> Result<(), Error> {
    let VersionRow { credential, version, stage, sealed, created, until } = row;
    let stage = stage.as_str();
    upsert!(&mut *db, versions(credential, version), stage, sealed, created, until)?;
    let last = "INSERT INTO last_versions (credential, version) VALUES (?, ?) ON CONFLICT (credential) \
                DO UPDATE SET version = max(version, excluded.version)";
    run!(db, last, credential, version)
}
