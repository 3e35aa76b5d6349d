//! Versions, ciphers, chains and validity of TLS, on both sides: claviger refuses each fault with its code,
//! and sends nothing inside the connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion,
};

use crate::support::ledger::{ANSWERED, Ledger, failed, only_call, request};
use crate::support::port::Port;
use crate::support::process::Site;
use crate::support::script::Script;
use crate::support::tls::{Authority, Pair, before, behind, said, serving, speaking};
use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, Raw};

/// An upstream with these settings and this chain.
fn upstream_with(
    versions: &[&'static SupportedProtocolVersion],
    chain: Vec<CertificateDer<'static>>,
    key: &Pair,
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let key = PrivateKeyDer::from_pem_file(&key.key).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    serving(Arc::new(config)).0
}

fn chain(pair: &Pair) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_file(&pair.cert).unwrap()]
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn an_upstream_of_either_sound_version_is_called() {
    let authority = Authority::new();
    let pair = authority.issue("127.0.0.1", |_| {});
    for (name, versions) in [("1.2", &BOTH[..1]), ("1.3", &BOTH[1..])] {
        let address = upstream_with(versions, chain(&pair), &pair);
        let mut ledger = Ledger::new(before(address, "127.0.0.1", &authority));
        let answer = ledger.world.get("/api/", "");
        ledger.note(name, &answer, 200, ANSWERED);
        ledger.check();
    }
}

/// A handshake message of the server with this version and cipher (RFC 5246 §7.4.1.3).
fn server_hello(version: [u8; 2], cipher: [u8; 2]) -> Vec<u8> {
    let body = [&version[..], &[7; 32], &[0], &cipher, &[0]].concat();
    let len = u8::try_from(body.len()).unwrap();
    [&[0x16], &version[..], &[0, len + 4, 2, 0, 0, len], &body].concat()
}

#[test]
fn an_upstream_of_an_old_version_or_a_weak_cipher_is_told_nothing() {
    let authority = Authority::new();
    let alert = |what: u8| vec![0x15, 3, 3, 0, 2, 2, what];
    for (name, said) in [
        ("SSL 3", server_hello([3, 0], [0, 0x2f])),
        ("TLS 1.0", server_hello([3, 1], [0, 0x2f])),
        ("TLS 1.1", server_hello([3, 2], [0, 0x2f])),
        ("RC4", server_hello([3, 3], [0, 0x05])),
        ("CBC with SHA-1", server_hello([3, 3], [0, 0x2f])),
        ("no encryption", server_hello([3, 3], [0, 0x01])),
        ("wants another version", alert(70)),
        ("has no cipher in common", alert(40)),
        ("wants a certificate of ours", alert(116)),
        ("knows no such name", alert(112)),
    ] {
        let script = Script::start(move |line| {
            line.body(100);
            line.say(&said);
        });
        let mut ledger = Ledger::new(before(script.address, "127.0.0.1", &authority));
        for method in ["GET", "POST"] {
            let answer = ledger.world.exchange(request(method, "/api/", ""));
            ledger.note(name, &answer, 502, failed("upstream_tls"));
        }
        assert_eq!(script.count("/api/") + script.count("Signature"), 0, "{name}");
        assert!(ledger.check().iter().all(|outcome| outcome["reason"].is_string()), "{name}");
    }
}

#[test]
fn an_upstream_whose_chain_is_incomplete_or_whose_name_is_elsewhere_is_told_nothing() {
    let authority = Authority::new();
    let (mut params, between) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let between_cert = authority.sign(&params, &between);
    let issuer = Issuer::new(params, between);
    let leaf = authority.issue_by(&issuer, vec!["127.0.0.1".into()]);
    let nameless = authority.issue_by(&issuer, Vec::new());
    for (name, pair, whole, code) in [
        ("whole", &leaf, true, None),
        ("without what is between", &leaf, false, Some("upstream_tls")),
        ("without a name", &nameless, true, Some("upstream_tls")),
    ] {
        let mut sent = chain(pair);
        sent.extend(whole.then(|| between_cert.clone()));
        let address = upstream_with(BOTH, sent, pair);
        let mut ledger = Ledger::new(before(address, "127.0.0.1", &authority));
        let answer = ledger.world.get("/api/", "");
        match code {
            None => ledger.note(name, &answer, 200, ANSWERED),
            Some(code) => ledger.note(name, &answer, 502, failed(code)),
        }
        ledger.check();
    }
}

#[test]
fn an_upstream_that_stalls_in_its_handshake_is_a_504() {
    let authority = Authority::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ledger = Ledger::new(before(silent.local_addr().unwrap(), "127.0.0.1", &authority));
    let answer = ledger.world.get("/api/", "");
    ledger.note("silent", &answer, 504, failed("upstream_timeout"));
    ledger.check();
}

/// A consumer's connection of these versions only.
fn consumer_of_versions(
    address: SocketAddr,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("gw.test").unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    StreamOwned::new(connection, socket)
}

#[test]
fn a_consumer_of_either_sound_version_is_served_and_of_an_old_one_is_not() {
    let authority = Authority::new();
    let world = behind(&authority, "", CONFIG);
    let call = request("GET", "/api/", "Connection: close\r\n");
    for (at, versions) in [&BOTH[..1], &BOTH[1..]].into_iter().enumerate() {
        let mut stream = consumer_of_versions(world.address(), &authority, versions);
        let (text, ended) = said(&mut stream, &call);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && ended.is_ok(), "{text} {ended:?}");
        world.trail_of(2 * (at + 1));
    }
    // The first message of a client that supports only TLS 1.1 and older (RFC 4346 §7.4.1.2).
    for version in [[3, 0], [3, 1], [3, 2]] {
        let body = [&version[..], &[7; 32], &[0, 0, 4, 0, 0x2f, 0xc0, 0x14, 1, 0]].concat();
        let len = u8::try_from(body.len()).unwrap();
        let mut raw = Raw::to(world.address());
        raw.send([&[0x16, 3, 1, 0, len + 4, 1, 0, 0, len], &body[..]].concat());
        let mut alert = Vec::new();
        raw.socket.read_to_end(&mut alert).unwrap_or_default();
        // A fatal alert: about the version, or about a feature that such a version lacks.
        let [0x15, _, _, 0, 2, 2, 40 | 70] = alert[..] else { panic!("{version:?}: {alert:?}") };
    }
    world.trail_of(4);
}

#[test]
fn a_consumers_certificate_must_be_sound_where_one_is_wanted() {
    let authority = Authority::new();
    let world = behind(&authority, &format!(", client_ca = \"{}\"", authority.pem.display()), CONFIG);
    let call = request("GET", "/api/", "Connection: close\r\n");
    for (name, own) in [
        ("expired", authority.issue("tool", |params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("not valid yet", authority.issue("tool", |params| params.not_before = date_time_ymd(2999, 1, 1))),
        ("self-signed", authority.stranger("tool")),
        (
            "for servers only",
            authority.issue("tool", |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
    ] {
        for protocol in [&b"http/1.1"[..], b"h2"] {
            let (text, ended) = said(&mut speaking(protocol, world.address(), &authority, Some(&own)), &call);
            assert!(text.is_empty() && ended.is_err(), "{name}: {text}");
        }
    }
    assert_eq!((world.trail().len(), world.upstream.seen().len()), (0, 0));
    let own = authority.issue("tool", |_| {});
    let (text, _) = said(&mut speaking(b"http/1.1", world.address(), &authority, Some(&own)), &call);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    only_call(&world, ANSWERED);
}

#[test]
fn a_renewed_certificate_is_in_force_for_new_connections_and_old_ones_go_on() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let (first, second) = (authority.issue("gw.test", |_| {}), authority.issue("gw.test", |_| {}));
    let port = Port::claim();
    let address = port.address;
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("gw.crt"), folder.path().join("gw.key"));
    let place = |pair: &Pair| {
        std::fs::copy(&pair.cert, &cert).unwrap();
        std::fs::copy(&pair.key, &key).unwrap();
    };
    place(&first);
    let listener = format!(
        "[[listeners]]\naddress = \"{address}\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
        cert.display(),
        key.display()
    );
    let config = CONFIG.replace("[[listeners]]\naddress = \"127.0.0.1:0\"\n", &listener)
        + "[admin]\naddress = \"@ADMIN@\"\n";
    let site = Site::with(upstream.address, &config);
    let mut process = site.start();
    let ask = |stream: &mut StreamOwned<ClientConnection, TcpStream>| {
        stream.write_all(request("GET", "/api/", "").as_bytes()).unwrap();
        let mut room = [0; 4096];
        let read = stream.read(&mut room).unwrap();
        assert!(room[..read].starts_with(b"HTTP/1.1 200 OK\r\n"));
        stream.conn.peer_certificates().unwrap()[0].clone()
    };
    let mut old = speaking(b"http/1.1", address, &authority, None);
    assert_eq!(ask(&mut old), chain(&first)[0]);
    place(&second);
    process.signal(rustix::process::Signal::HUP);
    process.wait_said("configuration reloaded");
    assert_eq!(ask(&mut speaking(b"http/1.1", address, &authority, None)), chain(&second)[0]);
    assert_eq!(ask(&mut old), chain(&first)[0]);
    drop(old);
    assert_eq!(process.end().0, Some(0));
}
