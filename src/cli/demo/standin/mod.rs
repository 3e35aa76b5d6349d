//! The stand-in for JumpServer: raw sockets, a few accounts, and its own check of signatures.

mod accounts;
mod signature;

pub(super) use accounts::{DEFAULT_ORG, OTHER_ORG};
pub(super) use signature::KnownKey;

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::StatusCode;

use accounts::Accounts;

/// How long an idle connection is kept: as long as JumpServer keeps it.
const IDLE: Duration = Duration::from_secs(2);
/// The greatest lengths of a head and of a body, in bytes.
const MOST_HEAD: usize = 64 << 10;
const MOST_BODY: usize = 1 << 20;

/// The running stand-in. Dropping it stops it.
pub(super) struct Standin {
    address: SocketAddr,
    desk: Arc<Desk>,
    accepting: Option<JoinHandle<()>>,
}

/// The state that all connections share.
struct Desk {
    key: KnownKey,
    accounts: Mutex<Accounts>,
    seen: Mutex<Vec<Received>>,
    /// The folder of the gateway's trail; the stand-in reads it when a request arrives.
    trail: PathBuf,
    ending: AtomicBool,
}

/// One request as it arrived, and its answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    pub(super) method: String,
    pub(super) target: String,
    /// The header lines as received.
    pub(super) lines: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The bytes of the head.
    pub(super) head: Vec<u8>,
    /// The reason why the request is not correctly signed.
    pub(super) unsigned: Option<String>,
    /// The number of intents on the trail when the request arrived.
    pub(super) intents: usize,
    /// The body of the answer.
    pub(super) answer: String,
}

impl Received {
    /// The values of a header, in order.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let same = self.lines.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }
}

/// The answer of the stand-in to a request.
#[derive(Debug, PartialEq)]
struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

impl Answer {
    fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self { status, location: None, body: body.to_string() }
    }
}

impl Standin {
    /// Starts to listen on a free port of this machine.
    pub(super) fn start(key: KnownKey, trail: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (accounts, seen) = (Mutex::new(Accounts::new()), Mutex::default());
        let desk = Arc::new(Desk { key, accounts, seen, trail, ending: AtomicBool::new(false) });
        let shared = Arc::clone(&desk);
        let accepting =
            thread::Builder::new().name("stand-in".into()).spawn(move || accept(&listener, &shared))?;
        Ok(Self { address, desk, accepting: Some(accepting) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests received so far.
    pub(super) fn seen(&self) -> Vec<Received> {
        lock(&self.desk.seen).clone()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.desk.ending.store(true, Ordering::Release);
        // This wakes the accepting thread; connections end by themselves when they are idle.
        if TcpStream::connect(self.address).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            accepting.join().unwrap_or_default();
        }
    }
}

/// Locks a mutex. A thread that panicked leaves valid data, since every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, desk: &Arc<Desk>) {
    for socket in listener.incoming() {
        if desk.ending.load(Ordering::Acquire) {
            return;
        }
        let Ok(socket) = socket else { continue };
        let desk = Arc::clone(desk);
        // If a connection ends early, the gateway reports it.
        thread::spawn(move || serve_connection(&socket, &desk).unwrap_or_default());
    }
}

fn serve_connection(mut socket: &TcpStream, desk: &Desk) -> io::Result<()> {
    socket.set_read_timeout(Some(IDLE))?;
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket);
    while let Some(mut received) = read(&mut reader)? {
        received.intents = intents(&desk.trail);
        received.unsigned = desk.key.check(&received).err();
        let answer = lock(&desk.accounts).answer(&received);
        received.answer.clone_from(&answer.body);
        let bytes = encode_response(&received, &answer);
        lock(&desk.seen).push(received);
        socket.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads the next request; `None` if the connection ends, or if JumpServer would misread the request.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Received>> {
    let mut received = Received::default();
    while !received.head.ends_with(b"\r\n\r\n") {
        let room = u64::try_from(MOST_HEAD - received.head.len()).unwrap_or(0);
        if Read::by_ref(reader).take(room).read_until(b'\n', &mut received.head)? == 0 {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&received.head).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Ok(None);
    };
    (received.method, received.target) = (method.to_owned(), target.to_owned());
    let pairs = lines.filter_map(|line| line.split_once(':'));
    received.lines = pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let length =
        match (received.all("transfer-encoding").as_slice(), received.all("content-length").as_slice()) {
            ([], []) => Some(0),
            ([], [length]) => length.parse().ok().filter(|length| *length <= MOST_BODY),
            _ => None,
        };
    let Some(length) = length else { return Ok(None) };
    received.body.resize(length, 0);
    reader.read_exact(&mut received.body)?;
    Ok(Some(received))
}

/// The number of intents on the trail at present.
fn intents(trail: &Path) -> usize {
    let files = std::fs::read_dir(trail).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| std::fs::read(file.path()).ok());
    texts.map(|text| memchr::memmem::find_iter(&text, "\"event\":\"intent\"").count()).sum()
}

fn encode_response(received: &Received, answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", answer.status);
    // Every answer of JumpServer has this header.
    head.push_str("Set-Cookie: jms_sessionid=stand-in; HttpOnly; Path=/; SameSite=Lax\r\n");
    if let Some(location) = &answer.location {
        // Writing into a string cannot fail.
        write!(head, "Location: {location}\r\n").unwrap_or_default();
    }
    if answer.status == StatusCode::UNAUTHORIZED {
        head.push_str("WWW-Authenticate: Signature realm=\"api\",headers=\"(request-target) date\"\r\n");
    }
    if answer.status != StatusCode::NO_CONTENT {
        let length = answer.body.len();
        write!(head, "Content-Type: application/json\r\nContent-Length: {length}\r\n").unwrap_or_default();
    }
    head.push_str("\r\n");
    if received.method != "HEAD" {
        head.push_str(&answer.body);
    }
    head.into_bytes()
}

#[cfg(test)]
mod tests;
