//! What is let go of, and when.

use super::*;
use crate::clock::SystemClock;
use crate::storage::{Change, CredentialRow, Stage, VersionRow};

/// Before all of the store is in force, what was read of it may be old.
#[tokio::test(flavor = "current_thread")]
async fn lets_go_of_nothing_without_the_stamp_of_what_it_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claviger.toml");
    std::fs::write(&path, include_str!("../../../config/minimal.toml")).unwrap();
    let (file, problems) = config::read_file(&path).unwrap();
    let store = Sqlite::create(&folder.path().join("store.db")).await.unwrap();
    let (upstream, kind) = ("jms".into(), "value".into());
    let credential = CredentialRow { name: "jms".into(), upstream, kind, created: 0, disabled: false };
    let (sealed, until) = (vec![1], Some(1));
    let version =
        VersionRow { credential: "jms".into(), version: 1, stage: Stage::Retired, sealed, created: 0, until };
    store.write(&[Change::PutCredential(credential), Change::PutVersion(version)], None).await.unwrap();
    let (rows, stamp) = store.read().await.unwrap();
    let kept = Kept {
        path,
        clock: Arc::new(SystemClock),
        failures: Arc::default(),
        fingerprints: HmacKey::new(b"fake"),
        metrics: Arc::default(),
    };
    let mut live = Follower { store: Some(store), ..Follower::without_store(kept, file, problems) };
    live.take_pending(&rows);
    for (known, left) in [(None, 1), (Some(stamp), 0)] {
        live.stamp = known;
        live.expire_versions().await;
        let (rows, _) = live.store.as_ref().unwrap().read().await.unwrap();
        assert_eq!(rows.versions.len(), left, "{known:?}");
    }
}
