//! A store that a former version made, as its own steps made it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claviger::storage::{Change, Rows, Sqlite, Storage as _};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::{InFile, block_on, consumer, credential, version};

/// What the first version made of an empty file.
const FIRST: &str = include_str!("../../../src/storage/schema/1.sql");

async fn first(path: &Path) {
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let rows = "PRAGMA journal_mode = WAL; PRAGMA application_id = 0x636c7667; PRAGMA user_version = 1; \
        INSERT INTO credentials VALUES ('jms', 'jms', 'access-key', 1, 0); \
        INSERT INTO consumers VALUES ('tool', 7, 0, NULL); \
        INSERT INTO versions VALUES ('jms', 7, 'active', X'00', 3, 4), ('jms', 12, 'active', X'00', 3, 4);";
    sqlx::raw_sql(FIRST).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[test]
fn one_of_the_first_version_is_brought_to_the_form_of_this() {
    let place = InFile::new();
    block_on(async {
        first(&place.path()).await;
        let path = place.path();
        // Whoever comes first takes the steps, once.
        let (one, other) = tokio::join!(Sqlite::open(&path), Sqlite::open(&path));
        let sealed = |number| claviger::storage::VersionRow { sealed: vec![0], ..version("jms", number) };
        let rows = Rows {
            consumers: vec![consumer("tool")],
            credentials: vec![credential("jms")],
            versions: vec![sealed(7), sealed(12)],
            last_versions: vec![("jms".into(), 12)],
            ..Rows::default()
        };
        let (one, other) = (one.unwrap(), other.unwrap());
        for store in [&one, &other, &Sqlite::open(&path).await.unwrap()] {
            assert_eq!(store.read().await.unwrap().0, rows);
        }
        // Nobody was touched yet of whom it kept no note.
        let (mut rows, from) = other.read().await.unwrap();
        one.write(&[Change::NoConsumer("tool".into())], None).await.unwrap();
        let now = other.renew(&mut rows, from).await.unwrap();
        assert_eq!((rows, now), other.read().await.unwrap());
    });
}
