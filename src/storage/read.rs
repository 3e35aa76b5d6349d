//! Reads the tables of the store into rows.

use std::collections::HashSet;

use serde::Deserialize;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Error, Row as _};

use crate::storage::{
    AccessKeyRow, FreezeTarget, History, PendingAuditEvent, Revision, Rows, TokenRow, VersionRow,
};

/// The number of touched consumers from which a full read, in the order of the tables, is faster.
const MANY: u16 = 10_000;

/// Reads everything in one transaction.
pub(crate) async fn read(connection: &mut SqliteConnection) -> Result<(Rows, Revision), Error> {
    let mut moment = connection.begin().await?;
    let read = (all(&mut moment, None).await?, stamp(&mut moment).await?);
    moment.rollback().await?;
    Ok(read)
}

/// Brings `rows`, which were read at revision `from`, up to date.
pub(crate) async fn read_since(
    connection: &mut SqliteConnection,
    rows: Rows,
    from: Revision,
) -> Result<(Rows, Revision), Error> {
    let mut moment = connection.begin().await?;
    let rows = if let Some(touched) = changed_since(&mut moment, from).await? {
        rows.merge_changed(&touched, all(&mut moment, Some(from)).await?)
    } else {
        // Memory may not hold both.
        drop(rows);
        all(&mut moment, None).await?
    };
    let renewed = (rows, stamp(&mut moment).await?);
    moment.rollback().await?;
    Ok(renewed)
}

/// Returns the consumers that were touched since `from`. Returns `None` if they are not known, or if there are so many
/// that a full read is faster.
async fn changed_since(db: &mut SqliteConnection, from: Revision) -> Result<Option<HashSet<String>>, Error> {
    let known = sqlx::query_scalar("SELECT mark FROM marks WHERE stamp = ?").bind(from.changes);
    let known: Option<i64> = known.fetch_optional(&mut *db).await?;
    if known != Some(from.mark) {
        return Ok(None);
    }
    let touched = sqlx::query_scalar("SELECT consumer FROM touched WHERE stamp > ? LIMIT ?");
    let touched: Vec<String> = touched.bind(from.changes).bind(MANY).fetch_all(db).await?;
    Ok((touched.len() < usize::from(MANY)).then(|| touched.into_iter().collect()))
}

/// Reads all tables. With `since`, reads only those consumers, tokens and access keys that were touched after it.
async fn all(db: &mut SqliteConnection, since: Option<Revision>) -> Result<Rows, Error> {
    let consumers = (
        "json_array(name, created, json(iif(disabled, 'true', 'false')), note) FROM consumers",
        "name",
        "name",
    );
    let issued = "json_array(id, consumer, created, expires, revoked, last_used, note)";
    let tokens = format!("{issued}, digest FROM tokens");
    let keys = format!("json_array({issued}, algorithms, strict), sealed FROM access_keys");
    let (tokens, keys) = ((tokens.as_str(), "consumer", "id"), (keys.as_str(), "consumer", "id"));
    let credentials = "SELECT json_array(name, upstream, kind, created, json(iif(disabled, 'true', 'false'))) FROM credentials \
         ORDER BY name";
    let versions = "SELECT json_array(credential, version, stage, created, until), sealed \
                    FROM versions ORDER BY credential, version";
    let last_versions = "SELECT json_array(credential, version) FROM last_versions ORDER BY credential";
    let frozen = "SELECT json_array(what, name) FROM frozen";
    let notes = "SELECT json_array(id, members) FROM notes ORDER BY id";
    let mut rows = Rows {
        consumers: of_consumers(db, consumers, since, |row| parse_json(row, "consumers")).await?,
        tokens: of_consumers(db, tokens, since, token).await?,
        access_keys: of_consumers(db, keys, since, access_key).await?,
        credentials: sqlx::query(credentials)
            .try_map(|row| parse_json(&row, "credentials"))
            .fetch_all(&mut *db)
            .await?,
        versions: sqlx::query(versions).try_map(|row| version(&row)).fetch_all(&mut *db).await?,
        last_versions: sqlx::query(last_versions)
            .try_map(|row| parse_json(&row, "last_versions"))
            .fetch_all(&mut *db)
            .await?,
        frozen: sqlx::query(frozen).try_map(|row| freeze_target(&row)).fetch_all(&mut *db).await?,
        notes: sqlx::query(notes).try_map(|row| parse_event(&row)).fetch_all(&mut *db).await?,
        key_check: sqlx::query_scalar("SELECT proof FROM store").fetch_one(db).await?,
    };
    rows.frozen.sort();
    Ok(rows)
}

/// Reads the selected columns in the order of the key. With `since`, reads only rows of consumers touched after it.
async fn of_consumers<T: Send + Unpin>(
    db: &mut SqliteConnection,
    (selected, consumer, key): (&str, &str, &str),
    since: Option<Revision>,
    read: fn(&SqliteRow) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let only = match since {
        Some(_) => format!("WHERE {consumer} IN (SELECT consumer FROM touched WHERE stamp > ?)"),
        None => String::new(),
    };
    let query = AssertSqlSafe(format!("SELECT {selected} {only} ORDER BY {key}"));
    let mut query = sqlx::query(query);
    if let Some(since) = since {
        query = query.bind(since.changes);
    }
    query.try_map(move |row| read(&row)).fetch_all(db).await
}

/// Reads only the revision.
pub(crate) async fn stamp(connection: &mut SqliteConnection) -> Result<Revision, Error> {
    let stamp = "SELECT changes, ifnull(mark, 0) FROM store LEFT JOIN marks ON marks.stamp = changes";
    let row = sqlx::query(stamp).fetch_one(connection).await?;
    Ok(Revision { changes: row.try_get(0)?, mark: row.try_get(1)? })
}

/// Reads the revisions that the store has had.
pub(crate) async fn history(connection: &mut SqliteConnection) -> Result<History, Error> {
    let mut moment = connection.begin().await?;
    let stamps: Vec<(i64, i64)> =
        sqlx::query_as("SELECT stamp, mark FROM marks").fetch_all(&mut *moment).await?;
    let (accepted, is_recorded): (Option<String>, bool) =
        sqlx::query_as("SELECT accepted, recorded FROM store").fetch_one(&mut *moment).await?;
    moment.rollback().await?;
    let accepted =
        accepted.map(|stamp| stamp.parse().map_err(|_| decode_error("what was accepted"))).transpose()?;
    Ok(History { stamps: stamps.into_iter().collect(), accepted, is_recorded })
}

/// Parses the first column of a row, which holds all values but the bytes as JSON. Bytes have a column of their own.
///
/// `SQLite` copies and frees each value separately, on two threads that wait for each other. With a hundred thousand
/// tokens, one column for all values is read in a third of the time.
fn parse_json<'r, T: Deserialize<'r>>(row: &'r SqliteRow, of: &str) -> Result<T, Error> {
    serde_json::from_str(row.try_get(0)?).map_err(|error| decode_error(&format!("a row of {of} ({error})")))
}

fn token(row: &SqliteRow) -> Result<TokenRow, Error> {
    let digest = <&[u8]>::try_into(row.try_get(1)?).map_err(|_| decode_error("a token's digest"))?;
    Ok(TokenRow { issued: parse_json(row, "tokens")?, digest })
}

fn access_key(row: &SqliteRow) -> Result<AccessKeyRow, Error> {
    let (issued, algorithms, strict) = parse_json(row, "access_keys")?;
    Ok(AccessKeyRow { issued, sealed: row.try_get(1)?, algorithms, strict })
}

fn version(row: &SqliteRow) -> Result<VersionRow, Error> {
    let (credential, version, stage, created, until) = parse_json(row, "versions")?;
    Ok(VersionRow { credential, version, stage, sealed: row.try_get(1)?, created, until })
}

fn freeze_target(row: &SqliteRow) -> Result<FreezeTarget, Error> {
    let (kind, name) = parse_json::<(&str, _)>(row, "frozen")?;
    FreezeTarget::parse(kind, name).ok_or_else(|| decode_error("what is frozen"))
}

fn parse_event(row: &SqliteRow) -> Result<PendingAuditEvent, Error> {
    let (id, members): (String, String) = parse_json(row, "notes")?;
    // Former versions stored the members without braces, each preceded by a comma.
    let object = members.strip_prefix(',').map_or(members.clone(), |members| format!("{{{members}}}"));
    let event = serde_json::from_str(&object).map_err(|_| decode_error("a pending audit event"))?;
    Ok(PendingAuditEvent { id, ..event })
}

fn decode_error(what: &str) -> Error {
    Error::Decode(format!("{what} is not what was ever written there").into())
}
