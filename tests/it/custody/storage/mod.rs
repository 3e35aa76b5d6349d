//! The behaviour of every store, whatever its type: the suite takes a way to open the same store again.

mod damage;
mod former;
mod renewed;

use std::path::PathBuf;

use claviger::storage::{
    AccessKeyRow, Change, ConsumerRow, CredentialRow, FreezeTarget, Issuance, PendingAuditEvent, Revision,
    Rows, Seconds, Sqlite, Stage, Storage, StoreError, TokenRow, VersionRow,
};

use renewed::{
    a_use_is_no_reason_to_read_a_token_again, rows_are_renewed_from_any_earlier_stamp,
    rows_are_renewed_whatever_became_of_the_stamp,
};

/// Opens one store as often as a test needs, each time like another process.
trait Place {
    type Store: Storage;
    async fn open(&self) -> Self::Store;
}

/// A store in its own folder.
struct InFile(tempfile::TempDir);

impl InFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }
}

impl Place for InFile {
    type Store = Sqlite;

    async fn open(&self) -> Sqlite {
        Sqlite::create(&self.path()).await.unwrap()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn consumer(name: &str) -> ConsumerRow {
    ConsumerRow { name: name.into(), created: 7, disabled: false, note: None }
}

fn token(id: &str, consumer: &str) -> TokenRow {
    let mut digest = [0; 32];
    digest[..id.len()].copy_from_slice(id.as_bytes());
    let issued = Issuance {
        id: id.into(),
        consumer: consumer.into(),
        created: 1,
        expires: Some(Seconds::MAX),
        revoked: None,
        last_used: None,
        note: Some("it's a note; -- é \u{1f511}".into()),
    };
    TokenRow { issued, digest }
}

fn access_key(id: &str, consumer: &str) -> AccessKeyRow {
    let issued = Issuance {
        id: id.into(),
        consumer: consumer.into(),
        created: 2,
        expires: Some(8),
        revoked: None,
        last_used: None,
        note: Some("its script's".into()),
    };
    let (sealed, algorithms) = ((0..=255).rev().collect(), "hmac-sha256 hmac-sha1".into());
    AccessKeyRow { issued, sealed, algorithms, strict: Some(300) }
}

/// An access key that is not strict and does not expire.
fn endless_key() -> AccessKeyRow {
    let key = access_key("k1", "of-the-file");
    AccessKeyRow { strict: None, issued: Issuance { expires: None, ..key.issued }, ..key }
}

fn credential(name: &str) -> CredentialRow {
    CredentialRow {
        name: name.into(),
        upstream: "jms".into(),
        kind: "access-key".into(),
        created: 1,
        disabled: false,
    }
}

fn version(credential: &str, version: u32) -> VersionRow {
    let sealed = (0..=255).collect();
    VersionRow {
        credential: credential.into(),
        version,
        stage: Stage::Active,
        sealed,
        created: 3,
        until: Some(4),
    }
}

fn note(id: &str) -> PendingAuditEvent {
    let members = serde_json::json!({"consumer": "a", "versions": 2});
    PendingAuditEvent { id: id.into(), ..PendingAuditEvent::new("tested", "uid 0".into(), 1, members) }
}

/// Some rows of every kind, written in another order than they are read.
fn some() -> Vec<Change> {
    vec![
        Change::PutConsumer(consumer("zoe")),
        Change::PutConsumer(ConsumerRow { disabled: true, note: Some("n".into()), ..consumer("ada") }),
        Change::PutToken(token("t2", "zoe")),
        Change::PutToken(token("t1", "of-the-file")),
        Change::PutAccessKey(access_key("k2", "zoe")),
        Change::PutAccessKey(endless_key()),
        Change::PutCredential(credential("jms")),
        Change::PutVersion(VersionRow { stage: Stage::Staged, until: None, ..version("jms", 10) }),
        Change::PutVersion(version("jms", 9)),
        Change::Freeze(FreezeTarget::Credential("jms".into())),
        Change::Freeze(FreezeTarget::Gateway),
        Change::QueueAuditEvent(note("2")),
        Change::QueueAuditEvent(note("1")),
        Change::SetKeyCheck(vec![0, 1, 255]),
    ]
}

fn some_rows() -> Rows {
    Rows {
        consumers: vec![
            ConsumerRow { disabled: true, note: Some("n".into()), ..consumer("ada") },
            consumer("zoe"),
        ],
        tokens: vec![token("t1", "of-the-file"), token("t2", "zoe")],
        access_keys: vec![endless_key(), access_key("k2", "zoe")],
        credentials: vec![credential("jms")],
        versions: vec![
            version("jms", 9),
            VersionRow { stage: Stage::Staged, until: None, ..version("jms", 10) },
        ],
        last_versions: vec![("jms".into(), 10)],
        frozen: vec![FreezeTarget::Gateway, FreezeTarget::Credential("jms".into())],
        notes: vec![note("1"), note("2")],
        key_check: Some(vec![0, 1, 255]),
    }
}

async fn rows(store: &impl Storage) -> Rows {
    store.read().await.unwrap().0
}

async fn what_is_written_is_read_by_all(place: &impl Place) {
    let (one, other) = (place.open().await, place.open().await);
    assert_eq!(rows(&one).await, Rows::default());
    one.write(&some(), None).await.unwrap();
    for store in [&one, &other, &place.open().await] {
        assert_eq!(rows(store).await, some_rows());
    }
}

/// Any text that a custodian types, and numbers of any size.
async fn what_is_read_is_what_was_written(place: &impl Place) {
    let store = place.open().await;
    let odd = [
        "",
        "\0",
        "a\0b",
        "\"'\\\u{7f}\r\n\t\u{1b}",
        "[1]",
        "{\"a\":null}",
        "null",
        "\u{2028}\u{ffff}\u{10ffff}",
        "\\u0041",
    ];
    for (number, text) in odd.into_iter().enumerate() {
        for at in [0, Seconds::MAX, Seconds::MIN, 1 << 53, (1 << 53) + 1] {
            let id = number.to_string();
            let consumer = ConsumerRow { note: Some(text.into()), created: at, ..consumer(text) };
            let (mut token, mut key) = (token(&id, text), access_key(&id, text));
            (token.issued.note, token.issued.expires) = (Some(text.into()), Some(at));
            (key.issued.note, key.strict) = (Some(text.into()), Some(at));
            let credential = CredentialRow { upstream: text.into(), created: at, ..credential(text) };
            let version = VersionRow { until: Some(at), sealed: text.into(), ..version(text, u32::MAX) };
            let changes = [
                Change::PutConsumer(consumer.clone()),
                Change::PutToken(token.clone()),
                Change::PutAccessKey(key.clone()),
                Change::PutCredential(credential.clone()),
                Change::PutVersion(version.clone()),
                Change::Freeze(FreezeTarget::Consumer(text.into())),
            ];
            store.write(&changes, None).await.unwrap();
            let rows = rows(&store).await;
            assert!(rows.consumers.contains(&consumer) && rows.tokens.contains(&token), "{text:?} {at}");
            assert!(
                rows.access_keys.contains(&key) && rows.credentials.contains(&credential),
                "{text:?} {at}"
            );
            assert!(rows.versions.contains(&version), "{text:?} {at}");
            assert!(rows.frozen.contains(&FreezeTarget::Consumer(text.into())), "{text:?}");
        }
    }
    assert_eq!(rows(&store).await.tokens.len(), odd.len());
}

async fn a_row_of_the_same_key_is_replaced(place: &impl Place) {
    let store = place.open().await;
    store.write(&some(), None).await.unwrap();
    let consumer = ConsumerRow { disabled: true, ..consumer("zoe") };
    let (mut token, mut key) = (token("t2", "zoe"), access_key("k2", "zoe"));
    (token.issued.revoked, token.issued.consumer) = (Some(5), "ada".into());
    (key.issued.revoked, key.sealed, key.strict) = (Some(5), vec![7], None);
    let credential = CredentialRow { disabled: true, upstream: "other".into(), ..credential("jms") };
    let version = VersionRow { stage: Stage::Retired, sealed: vec![1], ..version("jms", 9) };
    let changes = [
        Change::PutConsumer(consumer.clone()),
        Change::PutToken(token.clone()),
        Change::PutAccessKey(key.clone()),
        Change::PutCredential(credential.clone()),
        Change::PutVersion(version.clone()),
        Change::Freeze(FreezeTarget::Gateway),
        Change::SetKeyCheck(vec![2]),
    ];
    store.write(&changes, None).await.unwrap();
    let mut expected = some_rows();
    expected.consumers[1] = consumer;
    expected.tokens[1] = token;
    expected.access_keys[1] = key;
    expected.credentials[0] = credential;
    expected.versions[0] = version;
    expected.key_check = Some(vec![2]);
    assert_eq!(rows(&store).await, expected, "and what belongs to them stays");
}

async fn what_is_taken_away_takes_with_it_what_is_its_own(place: &impl Place) {
    let store = place.open().await;
    store.write(&some(), None).await.unwrap();
    let changes = [
        Change::RemoveConsumer("zoe".into()),
        Change::RemoveVersion("jms".into(), 10),
        Change::Unfreeze(FreezeTarget::Gateway),
        Change::Unfreeze(FreezeTarget::Upstream("never frozen".into())),
        Change::AuditEventPublished("1".into()),
        Change::AuditEventPublished("unknown".into()),
    ];
    store.write(&changes, None).await.unwrap();
    let mut expected = some_rows();
    expected.consumers.pop();
    expected.tokens.pop();
    expected.access_keys.pop();
    expected.versions.pop();
    expected.frozen.remove(0);
    expected.notes.remove(0);
    assert_eq!(rows(&store).await, expected);
    store.write(&[Change::RemoveCredential("jms".into())], None).await.unwrap();
    (expected.credentials, expected.versions) = (Vec::new(), Vec::new());
    assert_eq!(rows(&store).await, expected);
}

/// The trail distinguishes versions by their numbers, even after a version or credential is removed.
async fn no_number_is_given_twice(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(rows(&store).await.next_version("jms"), 1);
    store.write(&some(), None).await.unwrap();
    store.write(&[Change::RemoveVersion("jms".into(), 10)], None).await.unwrap();
    assert_eq!(rows(&store).await.next_version("jms"), 11);
    store.write(&[Change::PutVersion(version("jms", 9))], None).await.unwrap();
    assert_eq!(rows(&store).await.next_version("jms"), 11);
    store.write(&[Change::RemoveCredential("jms".into())], None).await.unwrap();
    store.write(&[Change::PutCredential(credential("jms"))], None).await.unwrap();
    assert_eq!(rows(&place.open().await).await.next_version("jms"), 11);
    assert_eq!(rows(&store).await.next_version("another"), 1);
}

async fn a_list_is_made_whole_or_not_at_all(place: &impl Place) {
    let store = place.open().await;
    store.write(&some(), None).await.unwrap();
    let before = store.stamp().await.unwrap();
    // The store refuses a version of an unknown credential, and one token with two ids.
    let mut twin = token("t1", "ada");
    twin.issued.id = "t3".into();
    for bad in [
        Change::PutVersion(version("nowhere", 1)),
        Change::PutToken(twin),
        Change::QueueAuditEvent(note("1")),
    ] {
        let changes = [Change::PutConsumer(consumer("new")), Change::RemoveConsumer("ada".into()), bad];
        assert!(matches!(store.write(&changes, None).await, Err(StoreError::Unusable { .. })));
        assert_eq!(rows(&store).await, some_rows());
        assert_eq!(store.stamp().await.unwrap(), before);
    }
    store.write(&[Change::PutConsumer(consumer("new"))], None).await.unwrap();
    assert_eq!(rows(&place.open().await).await.consumers.len(), 3, "it goes on after a failure");
}

async fn the_stamp_is_the_same_for_all_and_another_after_a_change(place: &impl Place) {
    let (one, other) = (place.open().await, place.open().await);
    let mut last = one.stamp().await.unwrap();
    for change in some() {
        let counts = !matches!(change, Change::QueueAuditEvent(_));
        one.write(std::slice::from_ref(&change), None).await.unwrap();
        let (here, there) = (one.stamp().await.unwrap(), other.stamp().await.unwrap());
        assert_eq!(here, there);
        assert_eq!(other.read().await.unwrap().1, there);
        assert_eq!(here != last, counts, "{change:?}");
        last = here;
    }
    let quiet = [
        Change::MarkUsed("t1".into(), 9),
        Change::AuditEventPublished("1".into()),
        Change::QueueAuditEvent(note("3")),
    ];
    other.write(&quiet, None).await.unwrap();
    assert_eq!((one.stamp().await.unwrap(), place.open().await.stamp().await.unwrap()), (last, last));
}

async fn a_change_made_from_what_is_outdated_is_refused(place: &impl Place) {
    let (one, other) = (place.open().await, place.open().await);
    let (_, seen) = one.read().await.unwrap();
    one.write(&[Change::PutConsumer(consumer("first"))], Some(seen)).await.unwrap();
    let second = [Change::PutConsumer(consumer("second"))];
    for store in [&one, &other] {
        assert!(matches!(store.write(&second, Some(seen)).await, Err(StoreError::Conflict)));
    }
    let (now, changes) = (one.stamp().await.unwrap(), seen.changes - 1);
    for another in [Revision { changes, ..now }, Revision { mark: !now.mark, ..now }] {
        assert!(matches!(one.write(&second, Some(another)).await, Err(StoreError::Conflict)));
    }
    assert_eq!(rows(&other).await.consumers, [consumer("first")]);
    // A change that does not count does not make a snapshot outdated either.
    let (_, seen) = other.read().await.unwrap();
    one.write(&[Change::QueueAuditEvent(note("1"))], None).await.unwrap();
    other.write(&second, Some(seen)).await.unwrap();
    assert_eq!(rows(&one).await.consumers.len(), 2);
}

async fn the_latest_use_stays(place: &impl Place) {
    let store = place.open().await;
    store.write(&some(), None).await.unwrap();
    let used = |at| Change::MarkUsed("t1".into(), at);
    for (at, latest) in [(100, 100), (50, 100), (101, 101)] {
        let changes = [used(at), Change::MarkUsed("k2".into(), at), Change::MarkUsed("gone".into(), at)];
        store.write(&changes, None).await.unwrap();
        assert_eq!(rows(&store).await.tokens[0].issued.last_used, Some(latest));
        assert_eq!(rows(&store).await.access_keys[1].issued.last_used, Some(latest));
    }
    let unused = rows(&store).await;
    assert_eq!((unused.tokens[1].issued.last_used, unused.access_keys[0].issued.last_used), (None, None));
}

/// Concurrent writers wait for each other; none is refused, and no change is lost.
async fn several_may_write_at_once(place: &impl Place) {
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(place.open().await);
    }
    let write = async |number: usize| {
        for count in 0..10 {
            let change = Change::PutConsumer(consumer(&format!("c-{number}-{count}")));
            stores[number].write(&[change], None).await.unwrap();
        }
    };
    let ((), (), (), ()) = tokio::join!(write(0), write(1), write(2), write(3));
    assert_eq!(rows(&stores[0]).await.consumers.len(), 40);
}

macro_rules! conforms {
    ($module:ident, $place:expr, $($behaviour:ident),+ $(,)?) => {
        mod $module {
            $(#[test]
            fn $behaviour() {
                super::block_on(super::$behaviour(&$place));
            })+
        }
    };
}

conforms!(
    sqlite,
    super::InFile::new(),
    what_is_written_is_read_by_all,
    what_is_read_is_what_was_written,
    a_row_of_the_same_key_is_replaced,
    what_is_taken_away_takes_with_it_what_is_its_own,
    no_number_is_given_twice,
    a_list_is_made_whole_or_not_at_all,
    the_stamp_is_the_same_for_all_and_another_after_a_change,
    a_change_made_from_what_is_outdated_is_refused,
    rows_are_renewed_from_any_earlier_stamp,
    rows_are_renewed_whatever_became_of_the_stamp,
    a_use_is_no_reason_to_read_a_token_again,
    the_latest_use_stays,
    several_may_write_at_once,
);
