//! Strangers cannot use up the file descriptors of the gateway: a low limit only allows fewer connections.

use std::net::TcpStream;
use std::process::Command;

use crate::support::process::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::until;

#[test]
fn strangers_never_take_the_last_file() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 256; exec \"$0\" serve", env!("CARGO_BIN_EXE_claviger")]);
    let process = site.launch(limited.env_remove("CLAVIGER_LOG").env("CLAVIGER_CONFIG", site.config()));
    process.wait_ready();
    let said = process.said();
    assert!(said.contains("LimitNOFILE") && said.contains("room=64"), "{said}");
    // Each stranger keeps its connection open as long as it can, on the admin listener too.
    let connect = |address| TcpStream::connect(address).unwrap();
    let mut strangers: Vec<TcpStream> = (0..300).map(|_| connect(process.address)).collect();
    strangers.extend((0..300).map(|_| connect(process.admin)));
    until("they have what they get", || {
        let metrics = String::from_utf8(process.admin("/metrics").body).unwrap();
        metrics.contains("\nclaviger_connections 64\n")
    });
    for number in 0..3 {
        assert_eq!(process.get("/api/").status, 200, "call {number}: {}", process.said());
        assert_eq!(process.admin("/readyz").status, 200, "{}", process.said());
        strangers.extend((0..100).map(|_| connect(process.address)));
    }
    let metrics = String::from_utf8(process.admin("/metrics").body).unwrap();
    assert!(metrics.contains("claviger_connections_limit 64\n"), "{metrics}");
    let (code, said) = process.end();
    assert_eq!(code, Some(0), "{said}");
    for shortage in ["cannot accept", "Too many open files", "os error 24"] {
        assert!(!said.contains(shortage), "{said}");
    }
    assert_eq!(site.events().iter().filter(|event| event["event"] == "intent").count(), 3);
    site.verified();
    drop(strangers);
}
