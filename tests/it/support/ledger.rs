//! The expected results of each case of the wire suites: an answer, and events on the trail.

use serde_json::Value;

use crate::support::world::{Answer, Raw, TOKEN, World};

/// A valid request behind an invalid one: no upstream may ever receive it.
pub const BEHIND: &str =
    "GET /api/behind/ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer clv_fake_token_of_the_tool\r\n\r\n";

/// How a call ends on the trail.
#[derive(Debug, Clone, Copy)]
pub struct Fate {
    intent: bool,
    ended: &'static str,
    code: Option<&'static str>,
}

pub const ANSWERED: Fate = Fate { intent: true, ended: "answered", code: None };

/// Refused before any intent.
pub const fn denied(code: &'static str) -> Fate {
    Fate { intent: false, ended: "refused", code: Some(code) }
}

/// Allowed and recorded, then refused because of its body.
pub const fn refused(code: &'static str) -> Fate {
    Fate { intent: true, ended: "refused", code: Some(code) }
}

pub const fn failed(code: &'static str) -> Fate {
    Fate { intent: true, ended: "failed", code: Some(code) }
}

pub const fn abandoned(code: Option<&'static str>) -> Fate {
    Fate { intent: true, ended: "abandoned", code }
}

/// A gateway, and the exact events that its trail must have at the end.
pub struct Ledger {
    pub world: World,
    rows: Vec<(String, Answer, Fate)>,
}

impl Ledger {
    pub fn new(world: World) -> Self {
        Self { world, rows: Vec::new() }
    }

    /// Records an answer of the upstream or of claviger; one of claviger must contain the expected code.
    pub fn note(&mut self, name: &str, answer: &Answer, status: u16, fate: Fate) {
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if fate.code.is_some() && status >= 400 {
            assert_eq!(Some(answer.code().as_str()), fate.code, "{name}: {answer:?}");
        }
        self.record(name, answer, fate);
    }

    /// As [`note`](Self::note), for an answer without a complete body: its header must contain the code.
    pub fn note_head(&mut self, name: &str, answer: &Answer, status: u16, fate: Fate) {
        let told = (answer.status, answer.header("claviger-error"));
        assert_eq!(told, (status, fate.code.filter(|_| status >= 400)), "{name}: {answer:?}");
        self.record(name, answer, fate);
    }

    /// Records an answer that the test has checked by itself.
    pub fn record(&mut self, name: &str, answer: &Answer, fate: Fate) {
        assert!(answer.header("x-request-id").is_some(), "{name}: no id in {answer:?}");
        self.rows.push((name.to_owned(), answer.clone(), fate));
    }

    /// Sends a request that claviger must deny, without forwarding anything.
    pub fn denied(&mut self, name: &str, bytes: impl AsRef<[u8]>, status: u16, code: &'static str) -> Answer {
        let before = self.world.upstream.seen().len();
        let mut raw = self.world.connect();
        raw.send(bytes);
        let answer = raw.answer();
        self.note(name, &answer, status, denied(code));
        assert_eq!(self.world.upstream.seen().len(), before, "{name} reached the upstream");
        answer
    }

    /// As [`denied`](Self::denied), with a valid request behind it: the connection must close, and the
    /// valid request must not be forwarded.
    pub fn closing(&mut self, name: &str, bytes: impl AsRef<[u8]>, status: u16, fate: Fate) -> Answer {
        let before = self.world.upstream.seen().len();
        let mut raw = self.world.connect();
        raw.send([bytes.as_ref(), BEHIND.as_bytes()].concat());
        let answer = raw.answer();
        self.note(name, &answer, status, fate);
        assert_eq!(answer.header("connection"), Some("close"), "{name}: {answer:?}");
        assert!(raw.closed(), "{name}: the connection goes on");
        assert_eq!(self.world.upstream.seen().len(), before, "{name} reached the upstream");
        answer
    }

    /// Compares the trail; returns the outcomes in the order of the records.
    pub fn check(self) -> Vec<Value> {
        let wanted = self.rows.iter().map(|(.., fate)| 1 + usize::from(fate.intent)).sum();
        let trail = self.world.trail_of(wanted);
        let outcomes = self.rows.iter().map(|(name, answer, fate)| {
            let id = answer.header("x-request-id");
            let events: Vec<&Value> =
                trail.iter().filter(|event| event["request_id"].as_str() == id).collect();
            check_events(name, &events, *fate);
            let outcome = events[events.len() - 1].clone();
            assert_eq!(outcome["status"], answer.status, "{name}: {outcome}");
            if fate.intent && answer.whole && answer.header("content-length").is_some() {
                assert_eq!(outcome["bytes_out"], answer.body.len(), "{name}: {outcome}");
            }
            outcome
        });
        outcomes.collect()
    }
}

/// Checks the trail of a gateway that had one call without an answer; returns its outcome.
pub fn only_call(world: &World, fate: Fate) -> Value {
    let trail = world.trail_of(1 + usize::from(fate.intent));
    check_events("the only call", &trail.iter().collect::<Vec<_>>(), fate);
    trail[trail.len() - 1].clone()
}

fn check_events(name: &str, events: &[&Value], fate: Fate) {
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    let (wanted, decision): (&[&str], _) =
        if fate.intent { (&["intent", "outcome"], "allowed") } else { (&["outcome"], "denied") };
    assert_eq!(kinds, wanted, "{name}: {events:#?}");
    assert!(events.iter().all(|event| event["decision"] == decision), "{name}: {events:#?}");
    let outcome = events[events.len() - 1];
    let told = (outcome["ended"].as_str(), outcome["code"].as_str());
    assert_eq!(told, (Some(fate.ended), fate.code), "{name}: {outcome}");
}

/// A request with the tool's token and further header lines, each with a CRLF at its end.
pub fn request(method: &str, target: &str, lines: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n{lines}\r\n")
}

/// Closes the consumer's sending side of a connection; the consumer still reads.
pub fn half_close(raw: &Raw) {
    raw.socket.shutdown(std::net::Shutdown::Write).unwrap();
}

/// Resets a connection.
pub fn reset(raw: Raw) {
    socket2::SockRef::from(&raw.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(raw);
}
