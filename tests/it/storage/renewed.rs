//! What every store does for whoever follows it: what was read once is brought up to date.

use claviger::storage::{AccessKeyRow, Change, ConsumerRow, Frozen, Stamp, Storage as _, TokenRow};

use super::{Place, access_key, consumer, note, some, some_rows, token};

/// As of one moment it is what reading all of it gives, however much was changed since and by whom.
pub(super) async fn rows_are_renewed_from_any_earlier_stamp(place: &impl Place) {
    let (one, other) = (place.open().await, place.open().await);
    let moved = TokenRow { consumer: "ada".into(), ..token("t2", "zoe") };
    let revoked = AccessKeyRow { revoked: Some(8), ..access_key("k1", "of-the-file") };
    let bulk = (0..300).flat_map(|number| {
        let name = format!("many-{number}");
        [Change::Token(token(&number.to_string(), &name)), Change::Consumer(consumer(&name))]
    });
    let rounds = [
        Vec::new(),
        some(),
        vec![Change::Consumer(ConsumerRow { disabled: true, ..consumer("zoe") })],
        vec![Change::Token(TokenRow { revoked: Some(9), ..token("t1", "of-the-file") })],
        vec![Change::Token(moved)],
        vec![Change::AccessKey(revoked)],
        vec![Change::Freeze(Frozen::Consumer("ada".into())), Change::Told("1".into())],
        bulk.collect(),
        vec![Change::NoConsumer("ada".into()), Change::Proof(vec![7])],
        vec![Change::Consumer(consumer("ada")), Change::NoVersion("jms".into(), 9)],
        vec![Change::NoConsumer("many-7".into()), Change::Token(token("t9", "many-7"))],
        vec![Change::NoCredential("jms".into()), Change::Note(note("9"))],
    ];
    let mut seen = Vec::new();
    for round in rounds {
        one.write(&round, None).await.unwrap();
        seen.push(other.read().await.unwrap());
        let (now, stamp) = seen.last().cloned().unwrap();
        for (rows, from) in &seen {
            let mut rows = rows.clone();
            assert_eq!(other.renew(&mut rows, *from).await.unwrap(), stamp);
            assert_eq!(rows, now, "{from:?} after {round:?}");
        }
    }
    let (now, stamp) = seen.pop().unwrap();
    // One that is of a later state than that which was put back.
    let mut rows = some_rows();
    assert_eq!(other.renew(&mut rows, Stamp(stamp.0 + 1)).await.unwrap(), stamp);
    assert_eq!(rows, now);
}

/// Tokens are used all the time: that must not make whoever follows read them again.
pub(super) async fn a_use_is_no_reason_to_read_a_token_again(place: &impl Place) {
    let store = place.open().await;
    store.write(&some(), None).await.unwrap();
    let (mut rows, from) = store.read().await.unwrap();
    store.write(&[Change::Used("t1".into(), 9), Change::Used("k2".into(), 9)], None).await.unwrap();
    assert_eq!(store.renew(&mut rows, from).await.unwrap(), from);
    assert_eq!(rows, some_rows());
}
