//! The stand-in for JumpServer: raw sockets, a few accounts, and its own check of signatures.

mod accounts;
mod exchange;
mod signature;

pub(super) use accounts::{DEFAULT_ORG, OTHER_ORG};
pub(super) use exchange::Received;
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

use super::message::parse_head;
use accounts::Accounts;
use exchange::Answer;

/// How long an idle connection is kept: as long as JumpServer keeps it.
const IDLE: Duration = Duration::from_secs(2);
/// The maximum lengths of a head and of a body, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 1 << 20;

/// The running stand-in. Dropping it stops it.
pub(super) struct Standin {
    /// The address where it listens.
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// The state that all connections share.
struct Shared {
    key: KnownKey,
    accounts: Mutex<Accounts>,
    received: Mutex<Vec<Received>>,
    /// The folder of the gateway's trail; the stand-in reads it when a request arrives.
    trail: PathBuf,
    ending: AtomicBool,
}

impl Standin {
    /// Starts to listen on a free port of this machine.
    pub(super) fn start(key: KnownKey, trail: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (accounts, received) = (Mutex::new(Accounts::new()), Mutex::default());
        let shared = Arc::new(Shared { key, accounts, received, trail, ending: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let accepting =
            thread::Builder::new().name("stand-in".into()).spawn(move || accept(&listener, &of_thread))?;
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// All requests received so far.
    pub(super) fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
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

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        if shared.ending.load(Ordering::Acquire) {
            return;
        }
        let Ok(socket) = socket else { continue };
        let shared = Arc::clone(shared);
        // If a connection ends early, the gateway reports it.
        thread::spawn(move || serve_connection(&socket, &shared).unwrap_or_default());
    }
}

fn serve_connection(mut socket: &TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_read_timeout(Some(IDLE))?;
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket);
    while let Some(mut received) = read(&mut reader)? {
        received.intents = intents(&shared.trail);
        received.unsigned = shared.key.check(&received).err();
        let answer = lock(&shared.accounts).answer(&received);
        received.answer.clone_from(&answer.body);
        let bytes = encode_response(&received, &answer);
        lock(&shared.received).push(received);
        socket.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads the next request; `None` if the connection ends, or if JumpServer would misread the request.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Received>> {
    let mut received = Received::default();
    while !received.head.ends_with(b"\r\n\r\n") {
        let room = u64::try_from(MAX_HEAD - received.head.len()).unwrap_or(0);
        if Read::by_ref(reader).take(room).read_until(b'\n', &mut received.head)? == 0 {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&received.head).into_owned();
    let Some((first, lines)) = parse_head(&head) else { return Ok(None) };
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words.as_slice() else { return Ok(None) };
    (received.method, received.target, received.lines) = ((*method).into(), (*target).into(), lines);
    let length =
        match (received.all("transfer-encoding").as_slice(), received.all("content-length").as_slice()) {
            ([], []) => Some(0),
            ([], [length]) => length.parse().ok().filter(|length| *length <= MAX_BODY),
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
