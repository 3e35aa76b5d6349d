//! The stand-in upstream: raw sockets and a record of every received byte. Its check of signatures shares
//! no code with the gateway (aws-lc's HMAC, its own parser of the header).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;

pub const KEY_ID: &str = "f7373851-ea61-47bb-8357-000000000001";
/// The id of another key with the same secret.
pub const OTHER_KEY_ID: &str = "f7373851-ea61-47bb-8357-000000000002";
pub const SECRET: &str = "fake-d6ed1a06-66f7-4584-af18-000000000002";

/// One received request.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The head as received.
    pub raw_head: String,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Why the signature does not verify.
    pub unsigned: Option<String>,
}

impl Seen {
    /// The values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of a header.
    pub fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} once in {:?}", self.raw_head);
        all[0]
    }

    /// Verifies the signature over `target` with the usual keys.
    pub fn signed_for(&self, target: &str) -> Result<(), String> {
        self.signed_by(target, &[(KEY_ID, SECRET), (OTHER_KEY_ID, SECRET)]).map(|_| ())
    }

    /// Verifies the signature over `target` as JumpServer's library does: over the headers that `headers=` names,
    /// in its order. Returns the index of the matching key.
    pub fn signed_by(&self, target: &str, keys: &[(&str, &str)]) -> Result<usize, String> {
        let sent = self.all("authorization");
        let [sent] = sent[..] else { return Err(format!("{} authorization lines", sent.len())) };
        let parameters = sent.strip_prefix("Signature ").ok_or("no Signature")?;
        let parameter = |name: &str| {
            let start = parameters.find(&format!("{name}=\""))? + name.len() + 2;
            parameters[start..].split('"').next()
        };
        let id = parameter("keyId").ok_or("no keyId")?;
        let place = keys.iter().position(|(known, _)| *known == id).ok_or("unknown keyId")?;
        let mut lines = Vec::new();
        for name in parameter("headers").ok_or("no headers")?.split(' ') {
            lines.push(match name {
                "(request-target)" => format!("{name}: {} {target}", self.method.to_lowercase()),
                name => format!("{name}: {}", self.all(name).join(", ")),
            });
        }
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, keys[place].1.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, lines.join("\n").as_bytes());
        let wanted = base64::engine::general_purpose::STANDARD.encode(tag.as_ref());
        if parameter("signature") == Some(wanted.as_str()) {
            Ok(place)
        } else {
            Err(format!("wrong for {lines:?}"))
        }
    }
}

/// The upstream's reaction to a request: the bytes of its answer, and whether it then closes the connection.
pub struct Reply {
    pub bytes: Vec<u8>,
    pub close: bool,
}

impl Reply {
    pub fn json(body: &str) -> Self {
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        Self { bytes: [head.as_bytes(), body.as_bytes()].concat(), close: false }
    }

    pub fn raw(bytes: &str) -> Self {
        Self { bytes: bytes.as_bytes().to_vec(), close: false }
    }

    pub fn closing(bytes: &str) -> Self {
        Self { bytes: bytes.as_bytes().to_vec(), close: true }
    }
}

/// The running stand-in.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
}

type Answer = dyn Fn(&Seen) -> Reply + Send + Sync;

impl Upstream {
    /// Answers every request with `answer`.
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, answer): (_, Arc<Answer>) = (Arc::clone(&seen), Arc::new(answer));
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        thread::spawn(move || {
            for (connection, socket) in listener.incoming().enumerate() {
                let Ok(socket) = socket else { return };
                if told.load(Ordering::SeqCst) {
                    return;
                }
                let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                thread::spawn(move || serve(socket, connection, &record, &*answer));
            }
        });
        Self { address, seen, over }
    }

    /// Answers `{"ok":true}` to everything.
    pub fn ok() -> Self {
        Self::start(|_| Reply::json("{\"ok\":true}"))
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request so far, whose signature must be valid.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        assert_eq!(seen[0].unsigned, None, "{:?}", seen[0].raw_head);
        seen[0].clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Only wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
    }
}

fn serve(socket: TcpStream, connection: usize, record: &Mutex<Vec<Seen>>, answer: &Answer) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut socket = socket;
    while let Some(mut seen) = read(&mut reader) {
        // A health check, not a call: the gateway sends it after a time without calls.
        if seen.target.ends_with("/api/health/") && seen.all("authorization").is_empty() {
            if socket.write_all(&Reply::json("{}").bytes).is_err() {
                return;
            }
            continue;
        }
        seen.connection = connection;
        seen.unsigned = seen.signed_for(&seen.target).err();
        let reply = answer(&seen);
        record.lock().unwrap().push(seen);
        if socket.write_all(&reply.bytes).is_err() || reply.close {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut seen = Seen::default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        seen.raw_head.push_str(&line);
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if seen.method.is_empty() {
            let mut words = line.split(' ');
            seen.method = words.next()?.to_owned();
            seen.target = words.next()?.to_owned();
        } else {
            let (name, value) = line.split_once(':')?;
            seen.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    assert!(seen.all("transfer-encoding").is_empty(), "JumpServer reads a chunked body as empty");
    let length = seen.all("content-length").first().map_or(0, |length| length.parse().unwrap());
    seen.body.resize(length, 0);
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}
