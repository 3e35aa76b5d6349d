//! A complete gateway in this process: its upstream, folder and trail, and raw sockets to it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger::audit::{Disk, Folder};
use claviger::clock::{Clock, SystemClock};
use claviger::config::{self, Base, CompileInputs};
use claviger::metrics::Metrics;
use claviger::server::{Server, Setup};
use claviger::state::StateDir;
use serde_json::Value;

use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait;

pub const TOKEN: &str = "clv_fake_token_of_the_tool";
pub const OTHER_TOKEN: &str = "clv_fake_token_of_another";
pub const ORG: &str = "00000000-0000-0000-0000-000000000002";
pub const OTHER_ORG: &str = "11111111-1111-1111-1111-111111111111";

/// Verifies a trail without any key.
pub fn verified(dir: &std::path::Path) -> std::io::Result<claviger::audit::Report> {
    claviger::audit::verify(dir, &claviger::audit::TrustAnchors::default(), |_| {})
}

/// A running gateway.
pub struct World {
    pub upstream: Upstream,
    pub folder: tempfile::TempDir,
    pub server: Option<Server>,
    _state: StateDir,
}

/// The configuration of most tests. `@UPSTREAM@` stands for the stand-in's address.
pub const CONFIG: &str = r#"
state_dir = "state"
workers = 1
[[listeners]]
address = "127.0.0.1:0"
[limits]
header_timeout = "400ms"
body_timeout = "400ms"
upstream_timeout = "600ms"
idle_timeout = "5s"
max_body = "256KiB"
[upstreams.jms]
profile = "jumpserver"
endpoint = "http://@UPSTREAM@"
credential = "key"
scheme.access-key = {}
[credentials.key]
access-key = { id = "@KEY_ID@", secret = { file = "key.secret" } }
[[routes]]
prefix = "/"
upstream = "jms"
[consumers.tool]
token_sha256 = ["@TOKEN@"]
[consumers.other]
token_sha256 = ["@OTHER_TOKEN@"]
[roles.all]
allow = [{ paths = ["/**"] }]
[[grants]]
consumer = "tool"
upstream = "jms"
roles = ["all"]
orgs = ["00000000-0000-0000-0000-000000000002", "11111111-1111-1111-1111-111111111111"]
"#;

impl World {
    /// A gateway with [`CONFIG`] for `upstream`.
    pub fn new(upstream: Upstream) -> Self {
        Self::with(upstream, CONFIG)
    }

    /// A gateway with another configuration.
    pub fn with(upstream: Upstream, config: &str) -> Self {
        Self::on(upstream, config, |dir| Box::new(Folder::new(dir)), Arc::new(SystemClock))
    }

    /// A gateway with a disk for its journal and a clock, both from the test.
    pub fn on(
        upstream: Upstream,
        config: &str,
        disk: impl FnOnce(PathBuf) -> Box<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claviger.toml");
        let secret = folder.path().join("key.secret");
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, fill(config, upstream.address)).unwrap();
        let state = StateDir::open(&folder.path().join("state")).unwrap();
        let inputs = CompileInputs {
            environment: &|_| None,
            now: clock.now(),
            base: Base::Start(state.fingerprint_key().unwrap()),
            stored: None,
        };
        let config = config::load(&path).unwrap_or_else(|why| panic!("{}", why.render(false)));
        let compiled = config.compile(&inputs).unwrap_or_else(|why| panic!("{}", why.render(false))).0;
        let file = config.file;
        let metrics = Arc::new(Metrics::default());
        let disk = disk(file.audit.dir.value.clone());
        let (workers, spool) = (file.workers, state.spool());
        let signer = state.signer(&file.audit.origin).unwrap();
        let server = Server::start(Setup { compiled, workers, spool, disk, signer, clock, metrics });
        Self { upstream, folder, server: Some(server.unwrap()), _state: state }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// The first listener.
    pub fn address(&self) -> SocketAddr {
        self.server().addresses[0]
    }

    /// A raw connection to the first listener.
    pub fn connect(&self) -> Raw {
        Raw::to(self.address())
    }

    /// One complete exchange on a new connection: the bytes are sent unchanged.
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut raw = self.connect();
        raw.send(bytes);
        raw.answer()
    }

    /// Sends a `GET` with the tool's token and further header lines.
    pub fn get(&self, target: &str, lines: &str) -> Answer {
        self.exchange(format!(
            "GET {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n{lines}Connection: close\r\n\r\n"
        ))
    }

    /// Every event of the trail, except the journal's own events and the heads.
    pub fn trail(&self) -> Vec<Value> {
        events(&self.folder.path().join("state/audit"))
            .into_iter()
            .filter(|event| event["event"] != "journal" && event["event"] != "head")
            .collect()
    }

    /// The trail once it holds exactly `count` events.
    pub fn trail_of(&self, count: usize) -> Vec<Value> {
        let missing = || format!("{count} events of {:#?}", self.trail());
        wait::until_or(|| self.trail().len() >= count, missing);
        wait::lapse(Duration::from_millis(30), "an event too many would come at once");
        let trail = self.trail();
        assert_eq!(trail.len(), count, "{trail:#?}");
        trail
    }

    /// The events of the call with this answer, once they are on the trail.
    pub fn outcome_of(&self, answer: &Answer) -> Value {
        let id = answer.header("x-request-id").unwrap();
        let is_it = |event: &Value| event["event"] == "outcome" && event["request_id"] == id;
        let look = || self.trail().into_iter().find(is_it);
        wait::found(look, || format!("the outcome of {id}: {:#?}", self.trail()))
    }

    /// The only outcome of a call that was never forwarded.
    pub fn only_outcome(&self) -> Value {
        let trail = self.trail_of(1);
        assert_eq!(trail[0]["event"], "outcome");
        trail[0].clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::from_secs(2));
        }
        if !std::thread::panicking() {
            let report = verified(&self.folder.path().join("state/audit")).unwrap();
            assert_eq!(report.finding, None, "every test leaves an intact trail");
            assert_eq!(report.open, 0, "every call has its outcome");
        }
    }
}

/// Fills addresses and digests into a configuration.
pub fn fill(config: &str, upstream: SocketAddr) -> String {
    let digest = |token: &str| {
        let digest = claviger::inbound::Directory::digest(token.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    config
        .replace("@UPSTREAM@", &upstream.to_string())
        .replace("@KEY_ID@", KEY_ID)
        .replace("@TOKEN@", &digest(TOKEN))
        .replace("@OTHER_TOKEN@", &digest(OTHER_TOKEN))
}

/// Every complete line of a trail, in order.
pub fn events(dir: &std::path::Path) -> Vec<Value> {
    loop {
        match events_now(dir) {
            Ok(events) => return events,
            // The gateway compressed or deleted a segment after the folder was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn events_now(dir: &std::path::Path) -> std::io::Result<Vec<Value>> {
    let mut events = Vec::new();
    for path in claviger::audit::segments(dir).unwrap_or_default() {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut claviger::audit::open(&path)?, &mut text)?;
        events.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    Ok(events)
}

/// A raw connection.
pub struct Raw {
    pub socket: TcpStream,
    unread: Vec<u8>,
}

/// An answer as received.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body is complete.
    pub whole: bool,
}

impl Raw {
    pub fn to(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { socket, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that has already refused may have closed the connection: the answer shows it.
        let _sent = self.socket.write_all(bytes.as_ref());
    }

    /// The next answer, without interim ones.
    pub fn answer(&mut self) -> Answer {
        loop {
            let answer = self.any_answer();
            if answer.status >= 200 || answer.status == 0 {
                return answer;
            }
        }
    }

    /// The next answer, which has no body whatever its head says.
    pub fn head_alone(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more(), "no head in {:?}", String::from_utf8_lossy(&self.unread));
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: Vec::new(), whole: true }
    }

    /// The next answer, which may be `100 Continue`; status 0 where the connection closed instead.
    pub fn any_answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more() {
                return Answer {
                    status: 0,
                    head: String::new(),
                    body: std::mem::take(&mut self.unread),
                    whole: false,
                };
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new(), whole: true };
        if status < 200 || status == 204 || status == 304 {
            return answer;
        }
        match (answer.header("content-length"), answer.header("transfer-encoding")) {
            (Some(length), _) => {
                let length: usize = length.parse().unwrap();
                while self.unread.len() < length && answer.whole {
                    answer.whole = self.more();
                }
                answer.body = self.unread.drain(..length.min(self.unread.len())).collect();
            }
            (None, Some(_)) => {
                while !self.unread.ends_with(b"0\r\n\r\n") && answer.whole {
                    answer.whole = self.more();
                }
                answer.body = unchunked(&std::mem::take(&mut self.unread));
            }
            (None, None) => {
                while self.more() {}
                answer.body = std::mem::take(&mut self.unread);
            }
        }
        answer
    }

    /// The next answer without waiting for its body.
    pub fn head(&mut self) -> Answer {
        while !self.unread.windows(4).any(|window| window == b"\r\n\r\n") && self.more() {}
        let head = String::from_utf8_lossy(&self.unread).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head, body: Vec::new(), whole: false }
    }

    /// Whether the gateway closes the connection within the read time-out and sends nothing more.
    pub fn closed(&mut self) -> bool {
        let mut more = [0; 1];
        self.unread.is_empty()
            && match self.socket.read(&mut more) {
                Ok(read) => read == 0,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            }
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap_or(0);
        if size == 0 || bytes.len() < at + 2 + size {
            break;
        }
        body.extend_from_slice(&bytes[at + 2..at + 2 + size]);
        bytes = bytes.get(at + 4 + size..).unwrap_or_default();
    }
    body
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The code of claviger's refusal, which must be the same in body and header.
    pub fn code(&self) -> String {
        let code = self.header("claviger-error").unwrap_or_else(|| panic!("not ours: {self:?}")).to_owned();
        let body = self.json();
        assert_eq!((body["code"].as_str(), body["by"].as_str()), (Some(code.as_str()), Some("claviger")));
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"));
        code
    }
}
