//! An address of this machine that a test has for itself, whether or not anything listens there.

use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the system gives to those who name none.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that no other test gets as long as this is kept, in whichever process it runs.
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
            // A name that the kernel keeps beside the ports, and forgets with its owner.
            let name = Name::from_abstract_name(format!("claviger-test-{port}")).unwrap();
            let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
            if TcpListener::bind(address).is_ok() {
                return Self { address, _claim: claim };
            }
        }
    }
}
