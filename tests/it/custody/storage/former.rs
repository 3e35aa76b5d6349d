//! A store of an earlier version, made with that version's own schema steps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claviger::storage::{PendingAuditEvent, Rows, Sqlite, Storage as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{InFile, Place as _, block_on, consumer, credential, version};

/// The schema that the first version created.
const FIRST: &str = include_str!("../../../../src/storage/schema/1.sql");

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

async fn first(path: &Path) {
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut connection = raw(path).await;
    let rows = "PRAGMA journal_mode = WAL; PRAGMA application_id = 0x636c7667; PRAGMA user_version = 1; \
        INSERT INTO credentials VALUES ('jms', 'jms', 'access-key', 1, 0); \
        INSERT INTO consumers VALUES ('tool', 7, 0, NULL); \
        INSERT INTO versions VALUES ('jms', 7, 'active', X'00', 3, 4), ('jms', 12, 'active', X'00', 3, 4); \
        INSERT INTO notes VALUES ('01890000-0000-7000-8000-000000000001', ',\"what\":\"token issued\",\
        \"change\":\"01890000-0000-7000-8000-000000000001\",\"at\":\"1970-01-01T00:00:09Z\",\
        \"by\":\"uid 7\",\"consumer\":\"tool\",\"expires\":null');";
    sqlx::raw_sql(FIRST).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[test]
fn one_of_the_first_version_is_brought_to_the_form_of_this() {
    let place = InFile::new();
    block_on(async {
        let path = place.path();
        first(&path).await;
        let mut before = raw(&path).await;
        // The first process to open the store upgrades it, once.
        let (one, other) = tokio::join!(Sqlite::open(&path), Sqlite::open(&path));
        let sealed = |number| claviger::storage::VersionRow { sealed: vec![0], ..version("jms", number) };
        let members = serde_json::json!({"consumer": "tool", "expires": null});
        let pending = PendingAuditEvent {
            id: "01890000-0000-7000-8000-000000000001".into(),
            ..PendingAuditEvent::new("token issued", "uid 7".into(), 9, members)
        };
        let rows = Rows {
            consumers: vec![consumer("tool")],
            credentials: vec![credential("jms")],
            versions: vec![sealed(7), sealed(12)],
            last_versions: vec![("jms".into(), 12)],
            notes: vec![pending.clone()],
            ..Rows::default()
        };
        let (one, other) = (one.unwrap(), other.unwrap());
        for store in [&one, &other, &Sqlite::open(&path).await.unwrap()] {
            assert_eq!(store.read().await.unwrap().0, rows);
        }
        // The old schema marked no changes; a process that opened it before still follows and is followed.
        let (rows, from) = other.read().await.unwrap();
        let disable =
            "BEGIN; UPDATE consumers SET disabled = 1; UPDATE store SET changes = changes + 1; COMMIT";
        sqlx::raw_sql(disable).execute(&mut before).await.unwrap();
        let (rows, now) = other.read_since(rows, from).await.unwrap();
        assert!(rows.consumers[0].disabled && now != from);
        assert_eq!((rows, now), one.read().await.unwrap());
    });
}

/// A column without a trigger would be a change that no gateway follows.
#[test]
fn what_touches_a_consumer_is_every_column_but_the_last_use() {
    let place = InFile::new();
    block_on(async {
        place.open().await.close().await;
        let mut connection = raw(&place.path()).await;
        for (table, trigger) in [("tokens", "token_changed"), ("access_keys", "access_key_changed")] {
            let columns = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)").bind(table);
            let mut columns: Vec<String> = columns.fetch_all(&mut connection).await.unwrap();
            let before = columns.len();
            columns.retain(|column| column != "last_used");
            assert_eq!(columns.len(), before - 1);
            let made = sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE name = ?").bind(trigger);
            let made: String = made.fetch_one(&mut connection).await.unwrap();
            let followed = format!("UPDATE OF {} ON {table}", columns.join(", "));
            assert!(made.contains(&followed), "{made}");
        }
    });
}
