//! RFC 5424 over TCP or TLS, each message with its length before it (RFC 6587 §3.4.1, RFC 5425 §4.3).
//!
//! Nobody acknowledges a message of syslog. An event counts as taken once its connection has outlived it for a while: what a
//! receiver that died had read and not written, or never read, is sent again on the next connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Deserialize;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::remote::{Remote, Stream};
use super::trail_reader::Line;

/// How long a connection must outlive an event.
const SETTLED: Duration = Duration::from_secs(10);
/// How long connecting, and writing what was read at a time, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the other side's system may leave bytes unacknowledged, or take none: less than it takes to settle.
const UNHEARD: Duration = Duration::from_secs(6);
/// `log audit` (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;

pub(super) struct Syslog {
    remote: Remote,
    /// `hostname claviger pid`, as each message has them.
    from: String,
    stream: Option<Box<dyn Stream>>,
    /// What was sent and when: the `seq` after it. None of it has settled.
    sent: VecDeque<(Instant, u64)>,
}

#[derive(Deserialize)]
struct Told<'a> {
    time: &'a str,
    event: &'a str,
    ended: Option<&'a str>,
}

impl Syslog {
    pub(super) fn new(remote: Remote) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        let good = !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
        let from = format!("{} claviger {}", if good { name } else { "-" }, std::process::id());
        Self { remote, from, stream: None, sent: VecDeque::new() }
    }

    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<Option<u64>, String> {
        let mut bytes = Vec::new();
        for line in lines {
            let message = self.message(&line.text);
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(&message);
        }
        let writing = async {
            let stream = self.connect_if_needed().await?;
            stream.write_all(&bytes).await.map_err(|error| error.to_string())?;
            stream.flush().await.map_err(|error| error.to_string())
        };
        let written = timeout(PATIENCE, writing).await;
        written
            .unwrap_or_else(|_| Err(format!("nothing taken within {PATIENCE:?}")))
            .inspect_err(|_| self.lost())?;
        self.sent.extend(lines.last().map(|last| (Instant::now(), last.seq + 1)));
        self.idle().await
    }

    /// Whether the connection lives; what has settled.
    pub(super) async fn idle(&mut self) -> Result<Option<u64>, String> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let mut ignored = [0; 256];
        let heard = timeout(Duration::ZERO, stream.read(&mut ignored)).await;
        if let Ok(Ok(0) | Err(_)) = heard {
            self.lost();
            return Err("the receiver has closed the connection".into());
        }
        let mut settled = None;
        while let Some((_, next)) = self.sent.pop_front_if(|(at, _)| at.elapsed() >= SETTLED) {
            settled = Some(next);
        }
        Ok(settled)
    }

    /// Says that nothing more comes: a receiver closes when it has read all.
    pub(super) async fn end(&mut self) -> Result<Option<u64>, String> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        stream.shutdown().await.map_err(|error| error.to_string())?;
        let mut ignored = [0; 256];
        while stream.read(&mut ignored).await.map_err(|error| error.to_string())? > 0 {}
        Ok(self.sent.pop_back().map(|(_, next)| next))
    }

    fn lost(&mut self) {
        self.stream = None;
        self.sent.clear();
    }

    async fn connect_if_needed(&mut self) -> Result<&mut Box<dyn Stream>, String> {
        if self.stream.is_none() {
            let unheard = |tcp: &TcpStream| SockRef::from(tcp).set_tcp_user_timeout(Some(UNHEARD));
            self.stream = Some(self.remote.connect(unheard).await?);
        }
        self.stream.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    /// One message (RFC 5424 §6). A line is ASCII and says all: there is no structured data.
    fn message(&self, line: &[u8]) -> Vec<u8> {
        let told = serde_json::from_slice::<Told<'_>>(line);
        let (time, event, ended) = told.map_or(("-", "-", None), |told| (told.time, told.event, told.ended));
        let severity = match (event, ended) {
            (_, Some("failed" | "lost")) => 3,
            (_, Some("refused" | "abandoned")) => 4,
            ("admin", _) => 5,
            _ => 6,
        };
        let mut message =
            format!("<{}>1 {time} {} {event} - ", FACILITY * 8 + severity, self.from).into_bytes();
        message.extend_from_slice(line);
        message
    }
}
