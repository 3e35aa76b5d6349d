//! A whole connection through a gateway: whatever a consumer sends, it is answered in whole answers, and the upstream sees
//! only well-formed, signed calls for what was asked.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use claviger::audit::{Folder, segments};
use claviger::clock::SystemClock;
use claviger::config::{self, Base, CompileInputs};
use claviger::framing::{Body, Chunks, HeadLimits, answer_head, request_head};
use claviger::metrics::Metrics;
use claviger::server::{Server, Setup};
use claviger::state::StateDir;
use claviger::target::Target;
use tempfile::TempDir;

use super::room;

const SECRET: &str = "fake-d6ed1a06-66f7-4584-af18-000000000002";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
const LIMITS: HeadLimits = HeadLimits { target: 16 << 10, headers: 64 << 10, lines: 200 };

/// The digest is that of the token `clv_fake_token_of_the_tool`.
const CONFIG: &str = r#"
state_dir = "state"
workers = 1
[[listeners]]
address = "127.0.0.1:0"
[audit]
durability = "batched"
rotate = "1MiB"
[limits]
auth_failures_per_minute = 0
refusals_per_minute = 1000000
max_body = "64KiB"
[upstreams.jms]
profile = "jumpserver"
endpoint = "http://@UPSTREAM@"
credential = "key"
scheme.access-key = {}
[credentials.key]
access-key = { id = "f7373851-ea61-47bb-8357-000000000001", secret = { file = "key.secret" } }
[[routes]]
prefix = "/"
upstream = "jms"
[consumers.tool]
token_sha256 = ["@TOKEN@"]
[roles.all]
allow = [{ paths = ["/**"] }]
[[grants]]
consumer = "tool"
upstream = "jms"
roles = ["all"]
orgs = ["00000000-0000-0000-0000-000000000002"]
"#;

struct Scene {
    gateway: SocketAddr,
    upstream: Arc<Upstream>,
    folder: TempDir,
    runs: usize,
    _server: Server,
    _state: StateDir,
}

#[derive(Default)]
struct Upstream {
    calls: AtomicUsize,
    wrong: Mutex<Option<String>>,
}

pub fn body(input: &[u8]) {
    let mut scene = scene();
    let before = scene.upstream.calls.load(Ordering::SeqCst);
    let mut socket = TcpStream::connect(scene.gateway).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // It may have refused and closed already.
    let _sent = socket.write_all(input).and_then(|()| socket.shutdown(Shutdown::Write));
    let mut told = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => told.extend_from_slice(&buffer[..read]),
            // libFuzzer's own clock.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection ends: {error}");
                break;
            }
        }
    }
    let heads = input.windows(2).filter(|pair| pair[0] == b' ').count() + 1;
    let answers = answers(&told);
    let calls = scene.upstream.calls.load(Ordering::SeqCst) - before;
    assert!(answers <= heads && calls <= heads, "{calls} calls, {answers} answers");
    assert!(!told.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    if let Some(wrong) = scene.upstream.wrong.lock().unwrap().take() {
        panic!("{wrong}");
    }
    scene.runs += 1;
    if scene.runs.is_multiple_of(4096) {
        let mut old = segments(&scene.folder.path().join("state/audit")).unwrap();
        old.pop();
        for path in old {
            fs::remove_file(path).unwrap();
        }
    }
}

/// How many answers these bytes are; each but the last must be whole.
fn answers(mut told: &[u8]) -> usize {
    let mut count = 0;
    while !told.is_empty() {
        let Some(head) = answer_head(told, false, &LIMITS).expect("an answer like any") else { break };
        // What follows the head of an answer to HEAD is the next answer.
        let rest = &told[head.len..];
        let empty = rest.is_empty() || rest.starts_with(b"HTTP/1.1 ");
        let len = match head.body {
            _ if empty => 0,
            Body::Length(length) => usize::try_from(length).unwrap().min(rest.len()),
            Body::Chunked => Chunks::default().advance(rest).expect("the chunked coding"),
            Body::UntilClose => rest.len(),
        };
        count += usize::from(head.status >= 200);
        told = &rest[len..];
    }
    count
}

fn scene() -> MutexGuard<'static, Scene> {
    static SCENE: OnceLock<Mutex<Scene>> = OnceLock::new();
    SCENE.get_or_init(|| Mutex::new(Scene::new())).lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Scene {
    fn new() -> Self {
        let upstream = Arc::new(Upstream::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::clone(&upstream);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || seen.serve(socket));
            }
        });

        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        room::write(&folder.path().join("key.secret"), SECRET.as_bytes());
        let path = folder.path().join("claviger.toml");
        let digest = claviger::inbound::Directory::digest(b"clv_fake_token_of_the_tool");
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let config = CONFIG.replace("@UPSTREAM@", &address.to_string()).replace("@TOKEN@", &digest);
        room::write(&path, config.as_bytes());
        let state = StateDir::open(&folder.path().join("state")).unwrap();
        let inputs = CompileInputs {
            environment: &|_| None,
            now: SystemTime::now(),
            base: Base::Start(state.fingerprint_key().unwrap()),
            stored: None,
        };
        let config = config::load(&path).unwrap_or_else(|why| panic!("{}", why.render(false)));
        let compiled = config.compile(&inputs).unwrap_or_else(|why| panic!("{}", why.render(false))).0;
        let file = config.file;
        let disk = Box::new(Folder::new(file.audit.dir.value.clone()));
        let (clock, metrics) = (Arc::new(SystemClock), Arc::new(Metrics::default()));
        let signer = state.signer(&file.audit.origin).unwrap();
        let setup =
            Setup { compiled, workers: file.workers, spool: state.spool(), disk, signer, clock, metrics };
        let server = Server::start(setup).unwrap();
        Self { gateway: server.addresses[0], upstream, folder, runs: 0, _server: server, _state: state }
    }
}

impl Upstream {
    fn serve(&self, mut socket: TcpStream) {
        let (mut unread, mut buffer) = (Vec::new(), [0; 16 << 10]);
        loop {
            match self.take(&mut unread) {
                Ok(true) => {
                    if socket.write_all(ANSWER).is_err() {
                        return;
                    }
                    continue;
                }
                Ok(false) => {}
                Err(wrong) => return *self.wrong.lock().unwrap() = Some(wrong),
            }
            match socket.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(read) => unread.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// Takes one whole request off what was read, if it is there.
    fn take(&self, unread: &mut Vec<u8>) -> Result<bool, String> {
        let told = |what: &str, bytes: &[u8]| format!("the upstream got {what}: {}", bytes.escape_ascii());
        let head = match request_head(unread, &LIMITS) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(_) => return Err(told("no head", unread)),
        };
        let Body::Length(length) = head.body else { return Err(told("no length", unread)) };
        let end = head.len + usize::try_from(length).map_err(|_| told("a length", unread))?;
        if unread.len() < end {
            return Ok(false);
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let target = &unread[head.target_at..head.target_at + head.target_len];
        let canonical =
            Target::canonical(target).is_ok_and(|canonical| canonical.as_str().as_bytes() == target);
        let text = String::from_utf8_lossy(&unread[..head.len]).to_ascii_lowercase();
        let lines = |start: &str| text.split("\r\n").filter(|line| line.starts_with(start)).count();
        let once = ["host: 127.0.0.1:", "authorization: signature keyid=", "date: "];
        let none =
            ["transfer-encoding:", "connection:", "cookie:", "x-forwarded-for:", "x-api-key:", "upgrade:"];
        let good = once.iter().all(|start| lines(start) == 1)
            && ["host:", "authorization:", "date:"].iter().all(|start| lines(start) == 1)
            && none.iter().all(|start| lines(start) == 0);
        if !canonical || !good {
            return Err(told("a call that is not in order", &unread[..head.len]));
        }
        unread.drain(..end);
        Ok(true)
    }
}
