//! The behaviour of every store for its followers: a follower updates the rows that it has read.

use claviger::storage::{Change, ConsumerRow, FreezeTarget, Revision, Rows, Storage as _};

use super::{Place, access_key, consumer, note, some, some_rows, token};

/// The updated rows equal a complete read of the same moment, whatever has changed since.
pub(super) async fn rows_are_renewed_from_any_earlier_stamp(place: &impl Place) {
    let (one, other) = (place.open().await, place.open().await);
    let (mut moved, mut ended) = (token("t2", "zoe"), token("t1", "of-the-file"));
    let mut revoked = access_key("k1", "of-the-file");
    (moved.issued.consumer, ended.issued.revoked) = ("ada".into(), Some(9));
    revoked.issued.revoked = Some(8);
    let bulk = (0..300).flat_map(|number| {
        let name = format!("many-{number}");
        [Change::PutToken(token(&number.to_string(), &name)), Change::PutConsumer(consumer(&name))]
    });
    let rounds = [
        Vec::new(),
        some(),
        vec![Change::PutConsumer(ConsumerRow { disabled: true, ..consumer("zoe") })],
        vec![Change::PutToken(ended)],
        vec![Change::PutToken(moved)],
        vec![Change::PutAccessKey(revoked)],
        vec![Change::Freeze(FreezeTarget::Consumer("ada".into())), Change::AuditEventPublished("1".into())],
        bulk.collect(),
        vec![Change::RemoveConsumer("ada".into()), Change::SetKeyCheck(vec![7])],
        vec![Change::PutConsumer(consumer("ada")), Change::RemoveVersion("jms".into(), 9)],
        vec![Change::RemoveConsumer("many-7".into()), Change::PutToken(token("t9", "many-7"))],
        // Each change alone, for consumers without other rows.
        vec![Change::PutToken(token("t8", "of-the-file"))],
        vec![Change::PutAccessKey(access_key("k3", "file-1"))],
        vec![Change::RemoveConsumer("file-1".into())],
        vec![Change::PutToken(token("t7", "file-2"))],
        vec![Change::RemoveConsumer("file-2".into())],
        vec![Change::PutConsumer(consumer("solo"))],
        vec![Change::RemoveConsumer("solo".into())],
        vec![Change::PutAccessKey(access_key("k2", "file-3"))],
        vec![Change::RemoveCredential("jms".into()), Change::QueueAuditEvent(note("9"))],
    ];
    let mut seen = Vec::new();
    for round in rounds {
        one.write(&round, None).await.unwrap();
        seen.push(other.read().await.unwrap());
        let (now, stamp) = seen.last().cloned().unwrap();
        for (rows, from) in &seen {
            let renewed = other.read_since(rows.clone(), *from).await.unwrap();
            assert_eq!(renewed, (now.clone(), stamp), "{from:?} after {round:?}");
        }
    }
}

/// An older state may have been restored and changed, or there may be many changes, or both.
pub(super) async fn rows_are_renewed_whatever_became_of_the_stamp(place: &impl Place) {
    let store = place.open().await;
    let begun = store.read().await.unwrap();
    store.write(&some(), None).await.unwrap();
    let (now, stamp) = store.read().await.unwrap();
    let other = Rows { tokens: vec![token("t9", "gone")], ..some_rows() };
    for changes in stamp.changes - 1..=stamp.changes + 1 {
        let of_another = Revision { changes, mark: !stamp.mark };
        let renewed = store.read_since(other.clone(), of_another).await.unwrap();
        assert_eq!(renewed, (now.clone(), stamp), "{changes}");
    }
    let crowd: Vec<Change> =
        (0..10_500).map(|number| Change::PutConsumer(consumer(&number.to_string()))).collect();
    store.write(&crowd, None).await.unwrap();
    let renewed = store.read_since(now.clone(), stamp).await.unwrap();
    assert_eq!(renewed, store.read().await.unwrap(), "very many at once");
    for number in 0..1001 {
        let frozen = FreezeTarget::Upstream("jms".into());
        let change = if number % 2 == 0 { Change::Freeze(frozen) } else { Change::Unfreeze(frozen) };
        store.write(&[change], None).await.unwrap();
    }
    let last = store.read().await.unwrap();
    for (rows, from) in [begun, (now, stamp)] {
        assert_eq!(store.read_since(rows, from).await.unwrap(), last, "very many one by one");
    }
}

/// Tokens are used all the time: a use must not make a follower read the token again.
pub(super) async fn a_use_is_no_reason_to_read_a_token_again(place: &impl Place) {
    let store = place.open().await;
    store.write(&some(), None).await.unwrap();
    let (rows, from) = store.read().await.unwrap();
    store.write(&[Change::MarkUsed("t1".into(), 9), Change::MarkUsed("k2".into(), 9)], None).await.unwrap();
    assert_eq!(store.read_since(rows, from).await.unwrap(), (some_rows(), from));
}
