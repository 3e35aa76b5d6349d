//! An address of this machine that only one test uses, whether or not anything listens there.

use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the system assigns by itself.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that no other test gets while this value exists, in any process.
pub struct Port {
    pub address: SocketAddr,
    _claim: UnixListener,
}

impl Port {
    pub fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
        loop {
            let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            // An abstract socket name, which the kernel releases with its owner.
            let name = Name::from_abstract_name(format!("claviger-test-{port}")).unwrap();
            let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
            if TcpListener::bind(address).is_ok() {
                return Self { address, _claim: claim };
            }
        }
    }
}
