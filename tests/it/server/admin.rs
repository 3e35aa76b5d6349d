//! The admin listener: the names that it answers to, and attacks on it by strangers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::process::{Process, Site, patient};
use crate::support::tls::{Authority, Pair, said, speaking};
use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, Raw};

fn status(process: &Process, head: &str) -> u16 {
    let mut raw = Raw::to(process.admin);
    raw.send(head);
    raw.answer().status
}

/// A stranger's web page in a local browser sends requests with the stranger's host name.
#[test]
fn no_name_of_a_strangers_is_answered() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "hosts = [\"GW.internal\"]\n");
    let process = site.start();
    let port = process.admin.port();
    let by = |host: &str| status(&process, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in
        ["127.0.0.1", "[::1]:7071", "localhost", "LOCALHOST.:1", "gw.internal", "gw.internal:443", "10.1.2.3"]
    {
        assert_eq!(by(host), 200, "{host}");
    }
    let own = format!("127.0.0.1:{port}");
    for host in ["evil.test", &format!("evil.test:{port}"), "127.0.0.1.evil.test", "", "localhost@evil.test"]
    {
        assert_eq!(by(host), 421, "{host}");
    }
    for (head, expected) in [
        ("GET /metrics HTTP/1.1\r\n\r\n".into(), 400),
        ("GET /metrics HTTP/1.0\r\n\r\n".into(), 200),
        ("GET /metrics HTTP/1.0\r\nHost: evil.test\r\n\r\n".into(), 421),
        (format!("GET /metrics HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\n\r\n"), 400),
        (format!("GET http://evil.test/metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"), 421),
        (format!("GET http://{own}/metrics HTTP/1.1\r\nHost: evil.test\r\n\r\n"), 421),
        (format!("GET http://{own}/metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"), 200),
    ] {
        assert_eq!(status(&process, &head), expected, "{head}");
    }
    let mut raw = Raw::to(process.admin);
    raw.send("GET /readyz HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    let answer = raw.answer();
    assert_eq!(answer.json()["code"], "unknown_host");
    assert!(answer.json()["detail"].as_str().unwrap().contains("`hosts`"), "{answer:?}");
    assert!(raw.closed());
    // A reload of the file replaces the list.
    let mut process = process;
    site.write(&(patient(CONFIG) + "[admin]\naddress = \"@ADMIN@\"\nhosts = [\"other.internal\"]\n"));
    process.signal(rustix::process::Signal::HUP);
    process.wait_said("configuration reloaded");
    let by = |host: &str| status(&process, &format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!((by("gw.internal"), by("other.internal")), (421, 200));
}

#[test]
fn whoever_holds_its_connections_locks_out_nobody() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    let mut held: Vec<Raw> = (0..100).map(|_| Raw::to(process.admin)).collect();
    let began = Instant::now();
    assert_eq!(process.admin("/readyz").status, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(held.first_mut().unwrap().closed(), "the oldest has made room");
    held.last_mut().unwrap().send(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", process.admin));
    assert_eq!(held.last_mut().unwrap().answer().status, 200, "the youngest is served");
}

#[test]
fn whoever_takes_no_answer_is_cut_off() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", process.admin).repeat(500);
    let mut socket = TcpStream::connect(process.admin).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let until = Instant::now() + Duration::from_secs(25);
    let error = loop {
        assert!(Instant::now() < until, "it is held for ever");
        match socket.write(request.as_bytes()) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    let mut left = Vec::new();
    let _reset = socket.read_to_end(&mut left);
    assert_eq!(process.admin("/healthz").status, 200);
}

/// The configuration with an admin listener on every address, and further lines.
fn everywhere(site: &Site, more: &str) -> String {
    let port = site.admin.port();
    format!("{}[admin]\naddress = \"0.0.0.0:{port}\"\n{more}", patient(CONFIG))
}

#[test]
fn beyond_this_machine_it_speaks_plain_http_only_where_that_is_said() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    site.write(&everywhere(&site, ""));
    let refused = site.run(&["check"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("insecure_plaintext"), "{told}");
    site.write(&everywhere(&site, "insecure_plaintext = true\n"));
    assert_eq!(site.run(&["check"]).status.code(), Some(0));
    let process = site.start();
    assert!(
        process.said().contains("the admin listener is reachable from other machines without TLS"),
        "{}",
        process.said()
    );
    assert_eq!(site.run(&["ready"]).status.code(), Some(0));
    assert_eq!(process.end().0, Some(0));
}

fn encrypted(pair: &Pair, client_ca: Option<&Authority>) -> String {
    let client_ca = client_ca.map(|authority| format!(", client_ca = \"{}\"", authority.pem.display()));
    let (cert, key) = (pair.cert.display(), pair.key.display());
    format!("tls = {{ cert = \"{cert}\", key = \"{key}\"{} }}\n", client_ca.unwrap_or_default())
}

#[test]
fn with_tls_it_is_for_whoever_may_know_and_ready_knows_it() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let pair = authority.issue("gw.test", |_| {});
    let site = Site::new(upstream.address, "");
    for client_ca in [None, Some(&authority)] {
        site.write(&everywhere(&site, &encrypted(&pair, client_ca)));
        let process = site.launch(site.claviger().arg("serve"));
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let asked = site.run(&["ready"]);
            if asked.status.success() {
                assert!(asked.stdout.starts_with(b"ready\n"));
                break;
            }
            assert!(Instant::now() < until, "{}", String::from_utf8_lossy(&asked.stderr));
        }
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", process.admin);
        let ask =
            |own: Option<&Pair>| said(&mut speaking(b"http/1.1", process.admin, &authority, own), &request).0;
        assert_eq!(ask(None).starts_with("HTTP/1.1 200"), client_ca.is_none());
        assert!(ask(Some(&authority.issue("operator", |_| {}))).starts_with("HTTP/1.1 200"));
        let mut plain = Raw::to(process.admin);
        plain.send(&request);
        assert_ne!(plain.answer().status, 200);
        // `ready` does not query a listener whose certificate differs from the configured one.
        let other = authority.issue("gw.test", |_| {});
        site.write(&everywhere(&site, &encrypted(&other, client_ca)));
        let asked = site.run(&["ready"]);
        let told = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(!asked.status.success() && told.contains("must present the certificate"), "{told}");
        assert_eq!(process.end().0, Some(0));
    }
}
