//! Writes a list of changes to the tables in one transaction.

use sqlx::Connection as _;
use sqlx::Error;
use sqlx::sqlite::SqliteConnection;

use crate::storage::{
    AccessKeyRow, Change, ConsumerRow, CredentialRow, FreezeTarget, Revision, Seconds, Stage, TokenRow,
    VersionRow,
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

async fn apply(db: &mut SqliteConnection, change: &Change) -> Result<(), Error> {
    match change {
        Change::PutConsumer(row) => consumer(db, row).await,
        Change::RemoveConsumer(name) => {
            for delete in
                ["DELETE FROM tokens WHERE consumer = ?", "DELETE FROM access_keys WHERE consumer = ?"]
            {
                sqlx::query(delete).bind(name).execute(&mut *db).await?;
            }
            sqlx::query("DELETE FROM consumers WHERE name = ?").bind(name).execute(db).await.map(drop)
        }
        Change::PutToken(row) => token(db, row).await,
        Change::PutAccessKey(row) => access_key(db, row).await,
        Change::MarkUsed(id, at) => used(db, id, *at).await,
        Change::PutCredential(row) => credential(db, row).await,
        Change::RemoveCredential(name) => {
            sqlx::query("DELETE FROM credentials WHERE name = ?").bind(name).execute(db).await.map(drop)
        }
        Change::PutVersion(row) => version(db, row).await,
        Change::RemoveVersion(name, version) => {
            let delete = sqlx::query("DELETE FROM versions WHERE credential = ? AND version = ?");
            delete.bind(name).bind(version).execute(db).await.map(drop)
        }
        Change::Freeze(frozen) => {
            let (what, name) = words(frozen);
            let insert = sqlx::query("INSERT INTO frozen (what, name) VALUES (?, ?) ON CONFLICT DO NOTHING");
            insert.bind(what).bind(name).execute(db).await.map(drop)
        }
        Change::Unfreeze(frozen) => {
            let (what, name) = words(frozen);
            let delete = sqlx::query("DELETE FROM frozen WHERE what = ? AND name = ?");
            delete.bind(what).bind(name).execute(db).await.map(drop)
        }
        Change::QueueAuditEvent(event) => {
            let object = serde_json::to_string(event).map_err(|error| Error::Encode(error.into()))?;
            let insert = sqlx::query("INSERT INTO notes (id, members) VALUES (?, ?)");
            insert.bind(&event.id).bind(object).execute(db).await.map(drop)
        }
        Change::AuditEventPublished(id) => {
            sqlx::query("DELETE FROM notes WHERE id = ?").bind(id).execute(db).await.map(drop)
        }
        Change::AcceptStore(stamp) => {
            sqlx::query("UPDATE store SET accepted = ?").bind(stamp.to_string()).execute(db).await.map(drop)
        }
        Change::SetKeyCheck(proof) => {
            sqlx::query("UPDATE store SET proof = ?").bind(proof).execute(db).await.map(drop)
        }
    }
}

async fn consumer(db: &mut SqliteConnection, row: &ConsumerRow) -> Result<(), Error> {
    let ConsumerRow { name, created, disabled, note } = row;
    sqlx::query(
        "INSERT INTO consumers (name, created, disabled, note) VALUES (?, ?, ?, ?) ON CONFLICT (name) \
         DO UPDATE SET created = excluded.created, disabled = excluded.disabled, note = excluded.note",
    )
    .bind(name)
    .bind(created)
    .bind(disabled)
    .bind(note)
    .execute(db)
    .await
    .map(drop)
}

async fn token(db: &mut SqliteConnection, row: &TokenRow) -> Result<(), Error> {
    let TokenRow { id, consumer, digest, created, expires, revoked, last_used, note } = row;
    sqlx::query(
        "INSERT INTO tokens (id, consumer, digest, created, expires, revoked, last_used, note) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET consumer = excluded.consumer, \
         digest = excluded.digest, created = excluded.created, expires = excluded.expires, \
         revoked = excluded.revoked, last_used = excluded.last_used, note = excluded.note",
    )
    .bind(id)
    .bind(consumer)
    .bind(digest.as_slice())
    .bind(created)
    .bind(expires)
    .bind(revoked)
    .bind(last_used)
    .bind(note)
    .execute(db)
    .await
    .map(drop)
}

async fn access_key(db: &mut SqliteConnection, row: &AccessKeyRow) -> Result<(), Error> {
    let AccessKeyRow { id, consumer, sealed, algorithms, strict, .. } = row;
    let AccessKeyRow { created, expires, revoked, last_used, note, .. } = row;
    sqlx::query(
        "INSERT INTO access_keys (id, consumer, sealed, algorithms, strict, created, expires, revoked, \
         last_used, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
         consumer = excluded.consumer, sealed = excluded.sealed, algorithms = excluded.algorithms, \
         strict = excluded.strict, created = excluded.created, expires = excluded.expires, \
         revoked = excluded.revoked, last_used = excluded.last_used, note = excluded.note",
    )
    .bind(id)
    .bind(consumer)
    .bind(sealed)
    .bind(algorithms)
    .bind(strict)
    .bind(created)
    .bind(expires)
    .bind(revoked)
    .bind(last_used)
    .bind(note)
    .execute(db)
    .await
    .map(drop)
}

/// Records the last use of a token or access key. Both ids are UUIDs, so an id matches at most one table.
async fn used(db: &mut SqliteConnection, id: &str, at: Seconds) -> Result<(), Error> {
    for update in [
        "UPDATE tokens SET last_used = ?1 WHERE id = ?2 AND (last_used IS NULL OR last_used < ?1)",
        "UPDATE access_keys SET last_used = ?1 WHERE id = ?2 AND (last_used IS NULL OR last_used < ?1)",
    ] {
        sqlx::query(update).bind(at).bind(id).execute(&mut *db).await?;
    }
    Ok(())
}

async fn credential(db: &mut SqliteConnection, row: &CredentialRow) -> Result<(), Error> {
    let CredentialRow { name, upstream, kind, created, disabled } = row;
    sqlx::query(
        "INSERT INTO credentials (name, upstream, kind, created, disabled) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET upstream = excluded.upstream, kind = excluded.kind, \
         created = excluded.created, disabled = excluded.disabled",
    )
    .bind(name)
    .bind(upstream)
    .bind(kind)
    .bind(created)
    .bind(disabled)
    .execute(db)
    .await
    .map(drop)
}

async fn version(db: &mut SqliteConnection, row: &VersionRow) -> Result<(), Error> {
    let VersionRow { credential, version, stage, sealed, created, until } = row;
    let stage = match stage {
        Stage::Staged => "staged",
        Stage::Active => "active",
        Stage::Retired => "retired",
    };
    sqlx::query(
        "INSERT INTO versions (credential, version, stage, sealed, created, until) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (credential, version) DO UPDATE SET stage = excluded.stage, \
         sealed = excluded.sealed, created = excluded.created, until = excluded.until",
    )
    .bind(credential)
    .bind(version)
    .bind(stage)
    .bind(sealed)
    .bind(created)
    .bind(until)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO last_versions (credential, version) VALUES (?, ?) ON CONFLICT (credential) \
         DO UPDATE SET version = max(version, excluded.version)",
    )
    .bind(credential)
    .bind(version)
    .execute(db)
    .await
    .map(drop)
}

/// Returns kind and name of a freeze target as its row has them. The gateway has no name.
fn words(frozen: &FreezeTarget) -> (&'static str, &str) {
    match frozen {
        FreezeTarget::Gateway => ("gateway", ""),
        FreezeTarget::Upstream(name) => ("upstream", name),
        FreezeTarget::Consumer(name) => ("consumer", name),
        FreezeTarget::Credential(name) => ("credential", name),
    }
}
