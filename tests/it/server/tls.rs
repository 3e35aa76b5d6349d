//! TLS on both sides, with certificates that the test makes.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};

use crate::support::ledger::{ANSWERED, Ledger, failed, only_call, request};
use crate::support::port::Port;
use crate::support::process::Site;
use crate::support::script::Script;
use crate::support::tls::{Authority, before, behind, consumer, consumer_of, encrypted_upstream, said};
use crate::support::upstream::Upstream;
use crate::support::wait::Gate;
use crate::support::world::{CONFIG, Raw, World};

#[test]
fn an_upstream_of_the_configured_authority_is_called() {
    let authority = Authority::new();
    for host in ["localhost", "127.0.0.1"] {
        let (address, heard) = encrypted_upstream(&authority.issue(host, |_| {}));
        let mut ledger = Ledger::new(before(address, host, &authority));
        let answer = ledger.world.get("/api/", "");
        ledger.note(host, &answer, 200, ANSWERED);
        let heard = heard.lock().unwrap().to_ascii_lowercase();
        assert!(heard.contains(&format!("host: {host}:{}\r\n", address.port())), "{heard}");
        assert!(
            heard.contains("x-forwarded-proto: https\r\n") && heard.contains("authorization: signature "),
            "{heard}"
        );
        ledger.check();
    }
}

/// A token endpoint needs a certificate of the upstream's authority; otherwise claviger sends it nothing.
#[test]
fn a_client_proves_itself_only_to_whom_its_authority_vouches_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (trusted, code) in [(true, "upstream_auth"), (false, "upstream_tls")] {
        let issuer = if trusted { &authority } else { &other };
        let (address, heard) = encrypted_upstream(&issuer.issue("127.0.0.1", |_| {}));
        let ca = format!("credential = \"key\"\nca_file = \"{}\"", authority.pem.display());
        let scheme = format!("scheme.client-credentials = {{ token_url = \"https://{address}/token\" }}");
        let config = CONFIG.replacen("credential = \"key\"", &ca, 1);
        let config = config
            .replace("scheme.access-key = {}", &scheme)
            .replace("access-key = { id = \"@KEY_ID@\", secret", "client = { id = \"svc\", secret");
        let world = World::with(Upstream::ok(), &config);
        // The answer contains no token, which this test does not check.
        assert_eq!(world.get("/api/", "").code(), code);
        let heard = heard.lock().unwrap().clone();
        assert_eq!(heard.starts_with("POST /token HTTP/1.1\r\n"), trusted, "{heard}");
        assert_eq!(heard.is_empty(), !trusted, "{heard}");
        assert!(world.upstream.seen().is_empty());
    }
}

#[test]
fn an_upstream_that_cannot_prove_itself_is_told_nothing() {
    let authority = Authority::new();
    let other = Authority::new();
    let host = "127.0.0.1";
    let client_only = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    for (name, pair) in [
        ("another host", authority.issue("evil.test", |_| {})),
        ("another address", authority.issue("127.0.0.2", |_| {})),
        ("self-signed", authority.stranger(host)),
        ("another authority", other.issue(host, |_| {})),
        ("expired", authority.issue(host, |params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("not valid yet", authority.issue(host, |params| params.not_before = date_time_ymd(2999, 1, 1))),
        ("for consumers only", authority.issue(host, client_only)),
    ] {
        let (address, heard) = encrypted_upstream(&pair);
        let mut ledger = Ledger::new(before(address, host, &authority));
        for method in ["GET", "POST"] {
            let answer = ledger.world.exchange(request(method, "/api/", ""));
            ledger.note(name, &answer, 502, failed("upstream_tls"));
        }
        assert_eq!(*heard.lock().unwrap(), "", "{name}");
        assert!(ledger.check().iter().all(|outcome| outcome["reason"].is_string()), "{name}");
    }
}

#[test]
fn an_upstream_that_speaks_no_tls_is_told_nothing() {
    let authority = Authority::new();
    for (name, said) in [
        ("plain HTTP", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        ("an alert", "\x15\x03\x01\x00\x02\x02\x46"),
        ("nothing", ""),
    ] {
        let script = Script::start(move |line| {
            line.body(100);
            line.say(said);
        });
        let mut ledger = Ledger::new(before(script.address, "127.0.0.1", &authority));
        let answer = ledger.world.get("/api/", "");
        ledger.note(name, &answer, 502, failed("upstream_tls"));
        assert_eq!(script.count("/api/") + script.count("Signature"), 0, "{name}");
        ledger.check();
    }
}

#[test]
fn a_listener_with_tls_speaks_http_1() {
    let authority = Authority::new();
    let world = behind(&authority, "", CONFIG);
    let mut stream = consumer(&world, &authority, None);
    let (text, ended) = said(&mut stream, &request("GET", "/api/", "Connection: close\r\n"));
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("{\"ok\":true}"), "{text}");
    assert!(ended.is_ok(), "{ended:?}: no close_notify");
    assert_eq!(stream.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
    only_call(&world, ANSWERED);
    let (text, ended) = said(&mut consumer(&world, &authority, None), "GET / HTTP/1.1\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 400 ") && ended.is_ok(), "{text} {ended:?}");
    world.upstream.only();
    world.trail_of(3);
}

#[test]
fn a_listener_that_wants_a_certificate_serves_nobody_without() {
    let (authority, other) = (Authority::new(), Authority::new());
    let world = behind(&authority, &format!(", client_ca = \"{}\"", authority.pem.display()), CONFIG);
    let call = request("GET", "/api/", "Connection: close\r\n");
    for (name, own) in [("none", None), ("another authority's", Some(other.issue("tool", |_| {})))] {
        let (text, ended) = said(&mut consumer(&world, &authority, own.as_ref()), &call);
        assert!(text.is_empty() && ended.is_err(), "{name}: {text}");
    }
    assert_eq!((world.trail().len(), world.upstream.seen().len()), (0, 0));
    let (text, _) = said(&mut consumer(&world, &authority, Some(&authority.issue("tool", |_| {}))), &call);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    only_call(&world, ANSWERED);
}

/// A reload finds a listener's TLS settings by its address, even if the file has another listener before it.
#[test]
fn a_listener_goes_on_wanting_a_certificate_where_another_is_put_before_it() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let pair = authority.issue("gw.test", |_| {});
    let ports = [Port::claim(), Port::claim()];
    let [guarded, other] = ports.each_ref().map(|port| port.address);
    let listener = |address: SocketAddr, more: &str| {
        let (cert, key) = (pair.cert.display(), pair.key.display());
        format!(
            "[[listeners]]\naddress = \"{address}\"\ntls = {{ cert = \"{cert}\", key = \"{key}\"{more} }}\n"
        )
    };
    let guarded_by = listener(guarded, &format!(", client_ca = \"{}\"", authority.pem.display()));
    let config = |listeners: &str| {
        CONFIG.replace("[[listeners]]\naddress = \"127.0.0.1:0\"\n", listeners)
            + "[admin]\naddress = \"@ADMIN@\"\n"
    };
    let site = Site::with(upstream.address, &config(&guarded_by));
    let mut process = site.start();
    site.write(&config(&(listener(other, "") + &guarded_by)));
    process.signal(rustix::process::Signal::HUP);
    process.wait_said("configuration reloaded");
    let call = request("GET", "/api/", "Connection: close\r\n");
    let (text, ended) = said(&mut consumer_of(guarded, &authority, None), &call);
    assert!(text.is_empty() && ended.is_err(), "{text}");
    let own = authority.issue("tool", |_| {});
    let (text, _) = said(&mut consumer_of(guarded, &authority, Some(&own)), &call);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_listener_with_tls_hears_nothing_in_clear() {
    let authority = Authority::new();
    let world = behind(&authority, "", CONFIG);
    let mut raw = Raw::to(world.address());
    raw.send(request("GET", "/api/", ""));
    let answer = raw.answer();
    assert_eq!((answer.status, world.upstream.seen().len()), (0, 0), "{answer:?}");
    let mut silent = Raw::to(world.address());
    assert!(silent.closed(), "a handshake has to come in time");
    assert_eq!(world.trail().len(), 0);
}

#[test]
fn a_cut_answer_has_no_end_in_tls_either() {
    let authority = Authority::new();
    let begun = Gate::default();
    let cut = begun.clone();
    let script = Script::start(move |line| {
        line.head();
        line.say(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n",
        );
        cut.pass();
    });
    let world = behind(&authority, "", &CONFIG.replace("@UPSTREAM@", &script.address.to_string()));
    let old = request("GET", "/api/", "").replace("HTTP/1.1", "HTTP/1.0");
    let mut stream = consumer(&world, &authority, None);
    stream.write_all(old.as_bytes()).unwrap();
    let mut begin = [0; 17];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.0 200 OK\r\n");
    begun.open();
    let ended = stream.read_to_end(&mut Vec::new());
    assert!(ended.is_err(), "{ended:?}");
    only_call(&world, failed("upstream_closed"));
}
