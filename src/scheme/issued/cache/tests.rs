//! Tests of the token cache: which caller fetches a token, and when.

use super::*;
use crate::code::{Code, Failure};
use crate::fs::trust::TrustedOwner;
use crate::scheme::RefusedLogins;
use crate::scheme::issued::error::Verdict;
use std::time::UNIX_EPOCH;

const HOUR: Duration = Duration::from_hours(1);

fn slot() -> Arc<TokenSlot> {
    slot_in(Arc::default(), "of no file", true)
}

fn slot_in(records: Arc<RefusedLogins>, login: &str, versioned: bool) -> Arc<TokenSlot> {
    let name = |text| Name::parse(text).unwrap();
    let names = (name("jms"), name("key"));
    Arc::new(TokenSlot::new(LoginIdentity { names, login: login.into(), versioned, records }))
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(400_000) + Duration::from_secs(seconds)
}

fn gained(ends: SystemTime, refresh: Option<&str>) -> TokenResponse {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    TokenResponse { token: secret("fake-token"), ends, refresh: refresh.map(secret) }
}

fn turn(slot: &Arc<TokenSlot>, now: SystemTime) -> LoginLease {
    match slot.lookup(now) {
        Lookup::Leader(lease) => lease,
        Lookup::Fresh(_) | Lookup::RefreshAhead(..) | Lookup::Follower(_) | Lookup::Backoff(_) => {
            panic!("not its turn")
        }
    }
}

/// Names the result of a lookup in one word. A lease in the result is dropped.
fn look(slot: &Arc<TokenSlot>, now: SystemTime) -> &'static str {
    match slot.lookup(now) {
        Lookup::Fresh(_) => "good",
        Lookup::RefreshAhead(..) => "due",
        Lookup::Leader(_) => "turn",
        Lookup::Follower(_) => "wait",
        Lookup::Backoff(_) => "held",
    }
}

#[test]
fn one_obtains_it_and_a_lease_that_is_dropped_is_anothers_turn() {
    let slot = slot();
    let lease = turn(&slot, at(0));
    assert_eq!(look(&slot, at(0)), "wait");
    drop(lease);
    let lease = turn(&slot, at(0));
    lease.complete(Ok(gained(at(0) + HOUR, None)), at(0));
    let found: Vec<_> = [0, 3569, 3570, 3599, 3600].map(|after| look(&slot, at(after))).into();
    assert_eq!(found, ["good", "good", "due", "due", "turn"]);
    // A short-lived token is refreshed when a tenth of its life is left.
    turn(&slot, at(3600)).complete(Ok(gained(at(3610), None)), at(3600));
    assert_eq!([3608, 3609].map(|after| look(&slot, at(after))), ["good", "due"]);
    // A refresh in the background blocks no caller.
    let Lookup::RefreshAhead(_, lease) = slot.lookup(at(3609)) else { panic!("not due") };
    assert_eq!(look(&slot, at(3609)), "good");
    assert_eq!(look(&slot, at(3610)), "wait");
    drop(lease);
}

#[test]
fn two_refusals_in_a_row_hold_for_an_hour_and_so_does_each_after_them() {
    let slot = slot();
    turn(&slot, at(0)).complete(Err(LoginError::refused("no")), at(0));
    assert_eq!(
        (look(&slot, at(1)), slot.refusal(at(1))),
        ("turn", None),
        "one may be a mistake of the upstream's"
    );
    turn(&slot, at(100)).complete(Err(LoginError::refused("no")), at(100));
    assert_eq!([100, 3699].map(|after| look(&slot, at(after))), ["held", "held"]);
    let reason = slot.refusal(at(3699)).unwrap();
    let expected = "no login now, but after 2015-08-19T17:01:40Z or once the credential changes (correct the name or the secret): no";
    assert_eq!(reason, expected);
    assert_eq!(slot.refusal(at(3700)), None);
    turn(&slot, at(3700)).complete(Err(LoginError::refused("no")), at(3700));
    assert_eq!([3700, 7299].map(|after| look(&slot, at(after))), ["held", "held"], "no second try at once");
    // A login without a response in between proves nothing.
    let silent = LoginError { verdict: Verdict::Unheard, ..LoginError::refused("silence") };
    turn(&slot, at(7300)).complete(Err(silent), at(7300));
    turn(&slot, at(7302)).complete(Err(LoginError::refused("no")), at(7302));
    assert_eq!(look(&slot, at(7303)), "held");
    // An accepted login does.
    turn(&slot, at(10_902)).complete(Ok(gained(at(10_903), None)), at(10_902));
    turn(&slot, at(10_933)).complete(Err(LoginError::refused("no")), at(10_933));
    assert_eq!(look(&slot, at(10_933)), "turn");
}

#[test]
fn a_locked_account_is_tried_once_an_hour() {
    let slot = slot();
    let locked = LoginError { verdict: Verdict::Barred("unlock it"), ..LoginError::refused("locked") };
    for hour in 0..3 {
        let now = at(hour * 3600);
        turn(&slot, now).complete(Err(locked.clone()), now);
        assert_eq!([0, 3599].map(|after| look(&slot, now + Duration::from_secs(after))), ["held", "held"]);
        assert!(slot.refusal(now).unwrap().ends_with("(unlock it): locked"));
    }
    // A clock that was set back causes no back-off.
    assert_eq!(look(&slot, UNIX_EPOCH), "turn");
}

#[test]
fn what_is_not_about_the_credential_is_waited_for_ever_longer() {
    for verdict in [Verdict::Unheard, Verdict::Unjudged] {
        let slot = slot();
        let error = LoginError { verdict, ..LoginError::refused("ill") };
        let mut now = at(0);
        for pause in [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs) {
            turn(&slot, now).complete(Err(error.clone()), now);
            assert_eq!(look(&slot, now + pause - Duration::from_millis(1)), "held", "{verdict:?} {pause:?}");
            assert_eq!(slot.refusal(now), None);
            now += pause;
        }
    }
    let (slot, mut now) = (slot(), at(0));
    // Without a connection, nothing was sent.
    let away = LoginError::from(Failure::new(Code::UpstreamUnreachable, "away"));
    for _ in 0..4 {
        turn(&slot, now).complete(Err(away.clone()), now);
        now += Duration::from_secs(1);
    }
    turn(&slot, now).complete(Ok(gained(now + HOUR, None)), now);
    assert_eq!(look(&slot, now), "good");
}

#[test]
fn a_pass_that_may_have_ended_is_used_where_there_is_no_other() {
    let slot = slot();
    turn(&slot, at(0)).complete(Ok(gained(at(0) + HOUR * 2, None)), at(0));
    let pass = slot.cached(at(0)).unwrap();
    assert!(
        !slot.report_rejection(&pass, Rejection::Definite, at(29)),
        "so fresh and never good, it is not about the pass"
    );
    for now in [at(30), at(31)] {
        assert!(slot.report_rejection(&pass, Rejection::Possible, now));
        turn(&slot, now).complete(Err(LoginError::refused("no")), now);
        assert_eq!(look(&slot, now), "good");
    }
    assert!(slot.report_rejection(&pass, Rejection::Possible, at(32)));
    assert_eq!(look(&slot, at(32)), "good", "not a third");
    // Callers wait for the login, but only for a limited time.
    let lease = turn(&slot, at(3631));
    assert_eq!([3631, 3635, 3636].map(|after| look(&slot, at(after))), ["wait", "wait", "good"]);
    drop(lease);
    turn(&slot, at(3631)).complete(Ok(gained(at(3631) + HOUR, None)), at(3631));
    assert!(!slot.cached(at(3631)).unwrap().is(&pass));
    // The rejection of a former token proves nothing about the next.
    assert!(slot.report_rejection(&pass, Rejection::Definite, at(3632)));
    assert_eq!(look(&slot, at(3632)), "good");
    let next = slot.cached(at(3632)).unwrap();
    assert!(slot.report_rejection(&next, Rejection::Definite, at(3700)));
    assert!(slot.cached(at(3700)).is_none() && look(&slot, at(3700)) == "turn");
}

#[test]
fn who_read_the_clock_before_another_and_came_after_it_sees_what_it_did() {
    let before = |seconds| at(seconds) - Duration::from_millis(1);
    let slot = slot();
    turn(&slot, at(0)).complete(Ok(gained(at(0) + HOUR, None)), at(0));
    let pass = slot.cached(at(0)).unwrap();
    pass.mark_accepted();
    assert!(slot.report_rejection(&pass, Rejection::Possible, at(1)));
    let lease = turn(&slot, at(1));
    assert_eq!(look(&slot, before(1)), "wait", "not the pass that has ended");
    lease.complete(Err(LoginError::refused("no")), at(1));
    assert!(slot.report_rejection(&pass, Rejection::Definite, at(1)));
    turn(&slot, at(2)).complete(Err(LoginError::refused("no")), at(2));
    assert_eq!(look(&slot, before(2)), "held", "not a third login");
}

#[test]
fn one_that_was_good_may_end_at_once_but_not_again_and_again() {
    for (ended, most) in [(Rejection::Possible, MOST_DOUBTED), (Rejection::Definite, MOST_ENDED)] {
        let slot = slot();
        for round in 0..=most {
            if round == 0 || look(&slot, at(1)) == "turn" {
                turn(&slot, at(1)).complete(Ok(gained(at(0) + HOUR, None)), at(1));
            }
            let pass = slot.cached(at(1)).unwrap();
            assert!(!slot.report_rejection(&pass, ended, at(2)), "{round}: never good");
            pass.mark_accepted();
            assert_eq!(slot.report_rejection(&pass, ended, at(2)), round < most, "{round}");
            if round < most {
                // Eight callers used the token: each of them asks for a new one, and it is given up once.
                assert!(
                    ended == Rejection::Possible || slot.report_rejection(&pass, ended, at(2)),
                    "{round}"
                );
            }
        }
        assert_eq!(look(&slot, at(2)), "good", "kept");
        let other = if ended == Rejection::Definite { Rejection::Possible } else { Rejection::Definite };
        assert!(
            slot.report_rejection(&slot.cached(at(2)).unwrap(), other, at(2)),
            "the other kind is counted by itself"
        );
        turn(&slot, at(2)).complete(Ok(gained(at(0) + HOUR, None)), at(2));
        slot.cached(at(2)).unwrap().mark_accepted();
        assert!(slot.report_rejection(&slot.cached(at(62)).unwrap(), ended, at(62)), "a minute later");
    }
}

#[test]
fn a_refresh_token_is_kept_until_it_is_refused_or_replaced() {
    let slot = slot();
    let records = |now| turn(&slot, now).refresh().map(|token| token.expose().to_vec());
    turn(&slot, at(0)).complete(Ok(gained(at(10), Some("fake-1"))), at(0));
    assert_eq!(records(at(10)), Some(b"fake-1".to_vec()));
    turn(&slot, at(10)).complete(Ok(gained(at(20), None)), at(10));
    assert_eq!(records(at(20)), Some(b"fake-1".to_vec()));
    turn(&slot, at(20)).complete(Ok(gained(at(30), Some("fake-2"))), at(20));
    assert_eq!(records(at(30)), Some(b"fake-2".to_vec()));
    let mut lease = turn(&slot, at(30));
    lease.forget_refresh();
    lease.complete(Err(LoginError::refused("no")), at(30));
    assert_eq!(records(at(40)), None);
}

#[test]
fn a_pass_that_has_ended_when_it_comes_is_of_another_clock() {
    let slot = slot();
    turn(&slot, at(0)).complete(Ok(gained(UNIX_EPOCH, None)), at(0));
    assert_eq!([0, 26, 27, 30].map(|after| look(&slot, at(after))), ["good", "good", "due", "turn"]);
}

/// Creates the slot as after a restart with this file.
fn restarted(path: &std::path::Path, login: &str, versioned: bool) -> (Arc<TokenSlot>, Arc<RefusedLogins>) {
    let records = Arc::<RefusedLogins>::default();
    records.open(path, TrustedOwner::of(path.parent().unwrap())).unwrap();
    (slot_in(Arc::clone(&records), login, versioned), records)
}

#[test]
fn what_was_refused_is_recalled_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logins.refused");
    let start = || {
        let (slot, _) = restarted(&path, "of version 1", true);
        (slot.restore(|_| false), slot)
    };
    let (recalled, slot) = start();
    assert!(!recalled && !path.exists());
    turn(&slot, at(0)).complete(Err(LoginError::refused("no")), at(0));
    // One more attempt is made, and no third.
    let (recalled, slot) = start();
    assert!(recalled);
    turn(&slot, at(60)).complete(Err(LoginError::refused("still no")), at(60));
    let refusal = slot.refusal(at(60)).unwrap();
    for _ in 0..3 {
        let (_, slot) = start();
        assert_eq!(slot.refusal(at(61)).as_ref(), Some(&refusal), "{refusal}");
        assert_eq!([61, 3659, 3660].map(|after| look(&slot, at(after))), ["held", "held", "turn"]);
    }
    let (_, slot) = start();
    turn(&slot, at(3660)).complete(Err(LoginError::refused("no")), at(3660));
    assert_eq!(look(&start().1, at(3661)), "held", "once an hour");
    // A failure that is no rejection proves nothing.
    let silent = LoginError { verdict: Verdict::Unheard, ..LoginError::refused("silence") };
    turn(&start().1, at(7260)).complete(Err(silent), at(7260));
    assert_eq!(look(&start().1, at(7259)), "held");
    turn(&start().1, at(7260)).complete(Ok(gained(at(7300), None)), at(7260));
    assert!(!path.exists(), "it is forgotten with the first that is taken");
    // No second attempt is made if only a person can help.
    let locked = LoginError {
        verdict: crate::scheme::issued::response::parse_refusal(
            "the account is locked: unlock it at the upstream",
        )
        .unwrap(),
        ..LoginError::refused("locked")
    };
    turn(&start().1, at(0)).complete(Err(locked), at(0));
    let (_, slot) = start();
    assert_eq!(
        (look(&slot, at(1)), slot.refusal(at(1)).unwrap().ends_with("at the upstream): locked")),
        ("held", true)
    );
    // Another version or another setting is tried at once; the file drops the obsolete entry.
    let (other, records) = restarted(&path, "of version 2", true);
    assert!(!other.restore(|_| true) && look(&other, at(1)) == "turn" && path.exists());
    records.keep_only(&[]);
    assert!(!path.exists());
}

#[test]
fn a_secret_without_a_version_is_recalled_by_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logins.refused");
    let (slot, _) = restarted(&path, "of the file", false);
    let mut lease = turn(&slot, at(0));
    lease.mark = Mark::new(b"fake-password");
    lease.complete(Err(LoginError::refused("no")), at(0));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("password"));
    for (secret, recalled) in [("fake-password", true), ("fake-passwort", false)] {
        let (slot, _) = restarted(&path, "of the file", false);
        assert_eq!(slot.restore(|mark| mark.is_of(secret.as_bytes())), recalled, "{secret}");
    }
    // Without a mark it counts as another secret.
    let (slot, _) = restarted(&path, "of the file", false);
    turn(&slot, at(0)).complete(Err(LoginError::refused("no")), at(0));
    assert!(!restarted(&path, "of the file", false).0.restore(|_| true));
    // A damaged file is reported, and replaced at the next rejection.
    std::fs::write(&path, "[{").unwrap();
    let records = RefusedLogins::default();
    let error = records.open(&path, TrustedOwner::of(dir.path())).unwrap_err();
    assert!(error.to_string().starts_with("it is damaged"), "{error}");
    let slot = slot_in(Arc::new(records), "of version 1", true);
    turn(&slot, at(0)).complete(Err(LoginError::refused("no")), at(0));
    assert!(restarted(&path, "of version 1", true).0.restore(|_| false));
}
