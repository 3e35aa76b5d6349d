//! An upstream that issues tokens for a password, counts its requests, and can misbehave.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use claviger::audit::Folder;
use claviger::clock::Clock;
use serde_json::{Value, json};

use crate::support::process::PATIENCE;
use crate::support::upstream::{Reply, SECRET, Seen, Upstream};
use crate::support::wait::lapse;
use crate::support::world::{CONFIG, World};

/// The behaviour of the upstream.
#[derive(Debug, Clone)]
pub struct Hands {
    /// The status of its answers to logins; 0 closes the connection instead.
    pub login: u16,
    /// The error word in its refusal of a login; if empty, that of a wrong password.
    pub word: &'static str,
    /// Whether logins take some time.
    pub slow: bool,
    /// Whether logins stay unanswered as long as this is true.
    pub hold: bool,
    /// The status of its answers to all other requests, if it refuses them.
    pub refuse: Option<u16>,
    /// The lifetime of tokens, by the machine's clock.
    pub life: Option<Duration>,
    /// Whether the gateway uses the machine's clock.
    pub real_time: bool,
}

impl Default for Hands {
    fn default() -> Self {
        Self { login: 201, word: "", slow: false, hold: false, refuse: None, life: None, real_time: false }
    }
}

#[derive(Default)]
struct State {
    hands: Hands,
    logins: usize,
    calls: usize,
    /// The valid tokens, each with its time of issue.
    good: Vec<(String, Instant)>,
    /// The offset of the gateway's clock.
    ahead: Duration,
}

/// The state of the upstream, and the gateway's clock.
#[derive(Clone, Default)]
pub struct Bastion(Arc<(Mutex<State>, Condvar)>);

impl Clock for Bastion {
    fn now(&self) -> SystemTime {
        let state = self.0.0.lock().unwrap();
        if state.hands.real_time {
            return SystemTime::now();
        }
        UNIX_EPOCH + Duration::from_hours(500_000) + state.ahead
    }
}

/// The seconds since 1970 by this clock.
pub fn seconds(clock: &Bastion) -> u64 {
    clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Bastion {
    /// A gateway with several workers for it.
    pub fn serve(config: String, hands: Hands) -> (Self, World) {
        let bastion = Self::default();
        bastion.hands(|held| *held = hands);
        let part = bastion.clone();
        let upstream = Upstream::start(move |seen| part.reply(seen));
        let world = bastion.before(upstream, &config);
        (bastion, world)
    }

    /// A gateway for `upstream` with this clock.
    pub fn before(&self, upstream: Upstream, config: &str) -> World {
        World::on(upstream, config, |dir| Box::new(Folder::new(dir)), Arc::new(self.clone()))
    }

    /// Changes the behaviour.
    pub fn hands(&self, change: impl FnOnce(&mut Hands)) {
        change(&mut self.0.0.lock().unwrap().hands);
        self.0.1.notify_all();
    }

    pub fn logins(&self) -> usize {
        self.0.0.lock().unwrap().logins
    }

    /// The number of calls, without the logins.
    pub fn calls(&self) -> usize {
        self.0.0.lock().unwrap().calls
    }

    pub fn wait_logins(&self, wanted: usize) {
        let (state, turned) = &*self.0;
        let waited =
            turned.wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| state.logins < wanted);
        assert_eq!(waited.unwrap().0.logins, wanted);
    }

    /// Advances the gateway's clock.
    pub fn advance(&self, by: Duration) {
        self.0.0.lock().unwrap().ahead += by;
    }

    /// Makes all tokens so far invalid.
    pub fn end_all(&self) {
        self.0.0.lock().unwrap().good.clear();
    }

    fn reply(&self, seen: &Seen) -> Reply {
        let ops = seen.target.starts_with("/api/login") || !seen.target.starts_with("/api/v1");
        let login = seen.target == "/api/v1/authentication/auth/" || seen.target.starts_with("/api/login");
        if login { self.login(seen, ops) } else { self.call(seen, ops) }
    }

    fn login(&self, seen: &Seen, ops: bool) -> Reply {
        let (state, turned) = &*self.0;
        let mut held = state.lock().unwrap();
        held.logins += 1;
        let (number, hands) = (held.logins, held.hands.clone());
        turned.notify_all();
        held = turned.wait_timeout_while(held, Duration::from_secs(10), |state| state.hands.hold).unwrap().0;
        let told = String::from_utf8_lossy(&seen.body);
        assert!(told.contains(SECRET), "{told}");
        let token = format!("fake-token-{number}");
        let ends = UNIX_EPOCH + Duration::from_hours(500_024) + held.ahead;
        if hands.login / 100 == 2 && hands.login != 204 && hands.login != 200 {
            held.good.push((token.clone(), Instant::now()));
        }
        drop(held);
        if hands.slow {
            lapse(Duration::from_millis(150), "others come while it is under way");
        }
        let ends = jiff::Timestamp::try_from(ends).unwrap().strftime("%Y/%m/%d %H:%M:%S +0000").to_string();
        match (hands.login, ops) {
            (0, _) => Reply::closing(""),
            (201, true) => {
                let cookie =
                    format!("Set-Cookie: other=1\r\nSet-Cookie: access_token={token}; Path=/; HttpOnly\r\n");
                answer(200, &cookie, &json!({"ok": true, "info": {"access_token": token}}))
            }
            (201, false) => {
                answer(201, "", &json!({"token": token, "keyword": "Bearer", "date_expired": ends}))
            }
            (200, true) => answer(200, "", &json!({"ok": false, "info": format!("wrong password {SECRET}")})),
            (204, _) => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
            (status, _) => {
                let word = if hands.word.is_empty() { "password_failed" } else { hands.word };
                answer(status, "", &json!({"error": word, "msg": SECRET}))
            }
        }
    }

    fn call(&self, seen: &Seen, ops: bool) -> Reply {
        let mut state = self.0.0.lock().unwrap();
        state.calls += 1;
        let sent = [seen.all("authorization"), seen.all("cookie")].concat();
        let [sent] = sent[..] else { panic!("not one credential: {}", seen.raw_head) };
        let token = sent.trim_start_matches("Bearer ").trim_start_matches("access_token=");
        let life = state.hands.life.unwrap_or(Duration::MAX);
        let good = state.good.iter().any(|(good, since)| good == token && since.elapsed() < life);
        match state.hands.refuse {
            Some(200) => answer(200, "", &json!({"ok": false, "info": "no such machine"})),
            Some(status) => answer(status, "", &json!({"detail": "refused"})),
            None if good => answer(200, "", &json!({"ok": true, "info": []})),
            None if ops => answer(200, "", &json!({"ok": false, "info": "login required"})),
            None => answer(401, "", &json!({"detail": "no"})),
        }
    }
}

fn answer(status: u16, lines: &str, body: &Value) -> Reply {
    let body = body.to_string();
    Reply::raw(&format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// A configuration for a JumpServer with a login.
pub fn jumpserver() -> String {
    with_login(CONFIG, "scheme.login = {}")
}

/// A configuration for the in-house ops backend.
pub fn ops(scheme: &str) -> String {
    let config = CONFIG.replace("profile = \"jumpserver\"", "profile = \"plain\"");
    with_login(&config, scheme)
        .lines()
        .filter(|line| !line.starts_with("orgs"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn with_login(config: &str, scheme: &str) -> String {
    config
        .replace("workers = 1", "workers = 4")
        .replace("upstream_timeout = \"600ms\"", "upstream_timeout = \"10s\"")
        .replace("scheme.access-key = {}", scheme)
        .replace(
            "access-key = { id = \"@KEY_ID@\", secret = { file = \"key.secret\" } }",
            "login = { username = \"svc\", password = { file = \"key.secret\" } }",
        )
}
