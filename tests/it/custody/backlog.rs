//! The gateway records a backlog of pending audit events in small batches, and the backlog delays nothing.

use std::collections::BTreeSet;

use claviger::storage::{Change, PendingAuditEvent, Sqlite, Storage as _};

use super::{at_work, soon};
use crate::support::upstream::Upstream;
use crate::support::wait::until_or;

const MANY: usize = 5_000;

#[test]
fn a_revocation_does_not_wait_for_what_is_to_be_told() {
    let upstream = Upstream::ok();
    let (site, token) = at_work(&upstream);
    let id = site.done(&["token", "list"])[0]["id"].as_str().unwrap().to_owned();
    let note = |number: usize| {
        // With the ids of the oldest changes.
        let id = format!("00000000-0000-7000-8000-{number:012}");
        let event = PendingAuditEvent::new("token issued", "tool".into(), 0, serde_json::json!({}));
        Change::QueueAuditEvent(PendingAuditEvent { id, ..event })
    };
    let notes: Vec<Change> = (0..MANY).map(note).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(Sqlite::open(&site.store())).unwrap();
    runtime.block_on(store.write(&notes, None)).unwrap();
    let left = || runtime.block_on(store.read()).unwrap().0.notes.len();

    let process = site.start();
    site.done(&["token", "revoke", &id]);
    soon(&process, &token, 401);
    assert!(left() > 0, "the revocation came before all was told");
    until_or(|| left() == 0, || format!("{} are left: {}", left(), process.said()));
    assert_eq!(process.end().0, Some(0));
    let told: Vec<String> =
        site.admin_events().iter().map(|event| event["change"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told.len(), MANY + 3, "each once");
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len());
    assert!(told.is_sorted(), "in their order");

    // At the end the gateway records the remaining events in one batch.
    runtime.block_on(store.write(&notes, None)).unwrap();
    let process = site.start();
    assert_eq!(process.end().0, Some(0));
    assert_eq!(left(), 0);
    assert_eq!(site.admin_events().len(), 2 * MANY + 3);
    site.verified();
}
