//! RFC 5424 over TCP or TLS, each message with its length before it (RFC 6587 §3.4.1, RFC 5425 §4.3).
//!
//! Syslog has no acknowledgement. An event counts as delivered once its connection has stayed open for a while after
//! it. After a broken connection, later events are sent again, since the receiver may not have read or stored them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Deserialize;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::remote::{Remote, Stream};
use super::trail_reader::Line;

/// How long a connection must stay open after an event until the event counts as delivered.
const SETTLED: Duration = Duration::from_secs(10);
/// Time-out for connecting and writing one batch.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the peer's system may leave bytes unacknowledged, or accept none. Must be shorter than `SETTLED`.
const UNHEARD: Duration = Duration::from_secs(6);
/// The syslog facility `log audit` (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;

pub(super) struct Syslog {
    remote: Remote,
    /// The text `hostname claviger pid`, which each message contains.
    from: String,
    stream: Option<Box<dyn Stream>>,
    /// The batches that do not count as delivered yet: the time of sending, and the `seq` after the last event.
    sent: VecDeque<(Instant, u64)>,
}

#[derive(Deserialize)]
struct EventHead<'a> {
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

    /// Checks that the connection is open. Returns the `seq` before which every event counts as delivered.
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

    /// Closes the sending side, and waits until the receiver has read everything and closes, too.
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

    /// Formats one message (RFC 5424 §6). The line is ASCII and complete, so there is no structured data.
    fn message(&self, line: &[u8]) -> Vec<u8> {
        let parsed = serde_json::from_slice::<EventHead<'_>>(line);
        let (time, event, ended) =
            parsed.map_or(("-", "-", None), |parsed| (parsed.time, parsed.event, parsed.ended));
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
