//! Tables → rows.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Error, Row as _};

use crate::storage::{
    AccessKeyRow, ConsumerRow, CredentialRow, Frozen, Note, Rows, Seconds, Stage, Stamp, TokenRow, VersionRow,
};

/// Everything, as of one moment.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<(Rows, Stamp), Error> {
    let mut moment = connection.begin().await?;
    let db = &mut *moment;
    let consumers = "SELECT name, created, disabled, note FROM consumers ORDER BY name";
    let tokens =
        "SELECT id, consumer, digest, created, expires, revoked, last_used, note FROM tokens ORDER BY id";
    let keys = "SELECT id, consumer, sealed, algorithms, strict, created, expires, revoked, last_used, note \
                FROM access_keys ORDER BY id";
    let credentials = "SELECT name, upstream, kind, created, disabled FROM credentials ORDER BY name";
    let versions = "SELECT credential, version, stage, sealed, created, until FROM versions ORDER BY credential, version";
    let last_versions = "SELECT credential, version FROM last_versions ORDER BY credential";
    let frozen = "SELECT what, name FROM frozen";
    let notes = "SELECT id, members FROM notes ORDER BY id";
    let mut rows = Rows {
        consumers: sqlx::query(consumers).try_map(|row| consumer(&row)).fetch_all(&mut *db).await?,
        tokens: sqlx::query(tokens).try_map(|row| token(&row)).fetch_all(&mut *db).await?,
        access_keys: sqlx::query(keys).try_map(|row| access_key(&row)).fetch_all(&mut *db).await?,
        credentials: sqlx::query(credentials).try_map(|row| credential(&row)).fetch_all(&mut *db).await?,
        versions: sqlx::query(versions).try_map(|row| version(&row)).fetch_all(&mut *db).await?,
        last_versions: sqlx::query(last_versions).try_map(|row| last(&row)).fetch_all(&mut *db).await?,
        frozen: sqlx::query(frozen).try_map(|row| is_frozen(&row)).fetch_all(&mut *db).await?,
        notes: sqlx::query(notes).try_map(|row| note(&row)).fetch_all(&mut *db).await?,
        proof: None,
    };
    rows.frozen.sort();
    let own = sqlx::query("SELECT changes, proof FROM store").fetch_one(&mut *db).await?;
    rows.proof = own.try_get("proof")?;
    let stamp = Stamp(own.try_get("changes")?);
    moment.rollback().await?;
    Ok((rows, stamp))
}

/// The stamp alone.
pub(super) async fn stamp(connection: &mut SqliteConnection) -> Result<Stamp, Error> {
    sqlx::query_scalar("SELECT changes FROM store").fetch_one(connection).await.map(Stamp)
}

fn consumer(row: &SqliteRow) -> Result<ConsumerRow, Error> {
    Ok(ConsumerRow {
        name: row.try_get(0)?,
        created: row.try_get(1)?,
        disabled: is_set(row, 2)?,
        note: row.try_get(3)?,
    })
}

fn token(row: &SqliteRow) -> Result<TokenRow, Error> {
    let digest: &[u8] = row.try_get(2)?;
    Ok(TokenRow {
        id: row.try_get(0)?,
        consumer: row.try_get(1)?,
        digest: digest.try_into().map_err(|_| ill("a token's digest"))?,
        created: row.try_get(3)?,
        expires: row.try_get::<Option<Seconds>, _>(4)?,
        revoked: row.try_get(5)?,
        last_used: row.try_get(6)?,
        note: row.try_get(7)?,
    })
}

fn access_key(row: &SqliteRow) -> Result<AccessKeyRow, Error> {
    Ok(AccessKeyRow {
        id: row.try_get(0)?,
        consumer: row.try_get(1)?,
        sealed: row.try_get(2)?,
        algorithms: row.try_get(3)?,
        strict: row.try_get(4)?,
        created: row.try_get(5)?,
        expires: row.try_get(6)?,
        revoked: row.try_get(7)?,
        last_used: row.try_get(8)?,
        note: row.try_get(9)?,
    })
}

fn credential(row: &SqliteRow) -> Result<CredentialRow, Error> {
    Ok(CredentialRow {
        name: row.try_get(0)?,
        upstream: row.try_get(1)?,
        kind: row.try_get(2)?,
        created: row.try_get(3)?,
        disabled: is_set(row, 4)?,
    })
}

fn version(row: &SqliteRow) -> Result<VersionRow, Error> {
    let stage = match row.try_get::<&str, _>(2)? {
        "staged" => Stage::Staged,
        "active" => Stage::Active,
        "retired" => Stage::Retired,
        _ => return Err(ill("a version's stage")),
    };
    Ok(VersionRow {
        credential: row.try_get(0)?,
        version: number(row, 1)?,
        stage,
        sealed: row.try_get(3)?,
        created: row.try_get(4)?,
        until: row.try_get(5)?,
    })
}

fn last(row: &SqliteRow) -> Result<(String, u32), Error> {
    Ok((row.try_get(0)?, number(row, 1)?))
}

fn number(row: &SqliteRow, column: usize) -> Result<u32, Error> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| ill("a version's number"))
}

fn is_frozen(row: &SqliteRow) -> Result<Frozen, Error> {
    let name: String = row.try_get(1)?;
    match row.try_get::<&str, _>(0)? {
        "gateway" => Ok(Frozen::Gateway),
        "upstream" => Ok(Frozen::Upstream(name)),
        "consumer" => Ok(Frozen::Consumer(name)),
        "credential" => Ok(Frozen::Credential(name)),
        _ => Err(ill("what is frozen")),
    }
}

fn note(row: &SqliteRow) -> Result<Note, Error> {
    Ok(Note { id: row.try_get(0)?, members: row.try_get(1)? })
}

fn is_set(row: &SqliteRow, column: usize) -> Result<bool, Error> {
    row.try_get::<i64, _>(column).map(|value| value != 0)
}

fn ill(what: &str) -> Error {
    Error::Decode(format!("{what} is not what was ever written there").into())
}
