//! Waits for conditions, and lets time pass if the test is about time. Nothing else in the suite sleeps;
//! `docs::suite` checks that.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::process::PATIENCE;

/// The time between two checks.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until `look` returns a value; fails with the text of `missing` if that does not happen.
#[track_caller]
pub fn found<T>(mut look: impl FnMut() -> Option<T>, missing: impl Fn() -> String) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it never came: {}", missing());
        sleep(LOOK);
    }
}

/// Waits until `holds`; fails with the text of `missing` if that does not happen.
#[track_caller]
pub fn until_or(mut holds: impl FnMut() -> bool, missing: impl Fn() -> String) {
    found(|| holds().then_some(()), missing);
}

/// Waits until `holds`; fails with a fixed text if that does not happen.
#[track_caller]
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or(holds, || what.to_owned());
}

/// Waits until `holds`, for a limited time; returns whether it holds.
pub fn comes_within(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        sleep(LOOK);
    }
    true
}

/// Waits until the gateway has read all bytes that were sent on this connection.
pub fn until_read(socket: &TcpStream) {
    let (own, its) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    until("the gateway has read what was sent", || {
        // On this side: sent and not acknowledged. On the other side: acknowledged and not read.
        queues(own, its).is_none_or(|(unsent, _)| unsent == 0)
            && queues(its, own).is_none_or(|(_, unread)| unread == 0)
    });
}

/// The number of bytes in the system's buffers of an IPv4 connection: unsent and unread.
fn queues(local: SocketAddr, remote: SocketAddr) -> Option<(u64, u64)> {
    let hex = |address: SocketAddr| {
        let SocketAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = [hex(local), hex(remote)];
    let line = table.lines().find(|line| line.split_whitespace().skip(1).take(2).eq(&ends))?;
    let (unsent, unread) = line.split_whitespace().nth(4)?.split_once(':')?;
    Some((u64::from_str_radix(unsent, 16).unwrap(), u64::from_str_radix(unread, 16).unwrap()))
}

/// Lets `time` pass because of `why`: a peer is slow, the test must reach a limit, or a forbidden event needs its time.
/// Never used in place of waiting for a visible event.
pub fn lapse(time: Duration, why: &str) {
    assert!(!why.is_empty());
    sleep(time);
}

/// A gate where a stand-in waits until the test opens it. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<(AtomicBool, AtomicUsize)>);

impl Gate {
    /// Waits until the gate is open.
    pub fn pass(&self) {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        let open = comes_within(PATIENCE, || self.0.0.load(Ordering::SeqCst));
        assert!(open, "the gate was never opened");
    }

    /// Waits until `count` threads have reached the gate.
    pub fn reached(&self, count: usize) {
        until("somebody comes to the gate", || self.0.1.load(Ordering::SeqCst) >= count);
    }

    /// Releases all waiting threads, and all later ones.
    pub fn open(&self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}
