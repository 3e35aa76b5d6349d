//! TLS on both sides, with certificates made here.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::ledger::{ANSWERED, Ledger, failed, only_call, request};
use crate::process::Site;
use crate::script::Script;
use crate::upstream::Upstream;
use crate::world::{CONFIG, Raw, World};

/// A certificate authority and the folder of what it issued.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: PathBuf,
}

/// A certificate's file and its key's.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = written(folder.path(), "ca.crt", &params.self_signed(&key).unwrap().pem());
        Self { folder, issuer: Issuer::new(params, key), pem }
    }

    /// Issues a certificate for `name`, changed as wanted.
    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        self.pair(&cert, &key)
    }

    /// A certificate that vouches for itself.
    pub fn stranger(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        self.pair(&cert.pem(), &key)
    }

    /// Signs another authority's certificate.
    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// A certificate for these names, issued by another whose pair is kept here.
    pub fn issue_by(&self, issuer: &Issuer<'static, KeyPair>, names: Vec<String>) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap().pem();
        self.pair(&cert, &key)
    }

    fn pair(&self, cert: &str, key: &KeyPair) -> Pair {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        let cert = written(self.folder.path(), &format!("{number}.crt"), cert);
        let key = written(self.folder.path(), &format!("{number}.key"), &key.serialize_pem());
        Pair { cert, key }
    }
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// An upstream that speaks TLS; gives its address, and what it heard inside.
fn encrypted_upstream(pair: &Pair) -> (SocketAddr, Arc<Mutex<String>>) {
    let key = claviger::secret::Secret::new(std::fs::read(&pair.key).unwrap());
    serving(claviger::tls::server_config(&pair.cert, &key, None).unwrap())
}

/// The same with settings of its own.
pub fn serving(config: Arc<ServerConfig>) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
    let record = Arc::clone(&heard);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            let mut bytes = [0; 16384];
            // A gateway that refuses the certificate leaves here.
            let Ok(read) = stream.read(&mut bytes) else { continue };
            record.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").unwrap();
        }
    });
    (address, heard)
}

/// A gateway in front of `https://…`, which trusts the authority alone.
pub fn before(address: SocketAddr, host: &str, authority: &Authority) -> World {
    let ca = format!("credential = \"key\"\nca_file = \"{}\"", authority.pem.display());
    let endpoint = format!("https://{host}:{}", address.port());
    let config = CONFIG.replace("http://@UPSTREAM@", &endpoint).replacen("credential = \"key\"", &ca, 1);
    World::with(Upstream::ok(), &config)
}

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

/// What gives tokens is trusted by the same authority as the upstream, and told nothing otherwise.
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
        // What it gives is no token; that is not what is looked at here.
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

/// A gateway whose listener speaks TLS, with further members of its `tls`.
pub fn behind(authority: &Authority, more: &str, config: &str) -> World {
    let pair = authority.issue("gw.test", |_| {});
    let tls =
        format!("tls = {{ cert = \"{}\", key = \"{}\"{more} }}", pair.cert.display(), pair.key.display());
    World::with(
        Upstream::ok(),
        &config.replace("address = \"127.0.0.1:0\"", &format!("address = \"127.0.0.1:0\"\n{tls}")),
    )
}

pub type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A consumer's TLS connection, with a certificate of its own or without.
fn consumer(world: &World, authority: &Authority, own: Option<&Pair>) -> Encrypted {
    consumer_of(world.address(), authority, own)
}

fn consumer_of(address: SocketAddr, authority: &Authority, own: Option<&Pair>) -> Encrypted {
    speaking(b"http/1.1", address, authority, own)
}

/// The same, offering one protocol.
pub fn speaking(
    protocol: &[u8],
    address: SocketAddr,
    authority: &Authority,
    own: Option<&Pair>,
) -> Encrypted {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_file(&pair.cert).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("gw.test").unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    StreamOwned::new(connection, socket)
}

/// Sends, and reads to the end of the connection; how that came.
pub fn said(stream: &mut Encrypted, bytes: &str) -> (String, std::io::Result<usize>) {
    let mut text = Vec::new();
    let ended = stream.write_all(bytes.as_bytes()).and_then(|()| stream.read_to_end(&mut text));
    (String::from_utf8_lossy(&text).into_owned(), ended)
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

/// A reload takes a listener's TLS settings by its address: one put before it in the file is not it.
#[test]
fn a_listener_goes_on_wanting_a_certificate_where_another_is_put_before_it() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let pair = authority.issue("gw.test", |_| {});
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (guarded, other) = (free(), free());
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
    let script = Script::start(|line| {
        line.head();
        line.say(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n",
        );
        std::thread::sleep(Duration::from_millis(30));
    });
    let world = behind(&authority, "", &CONFIG.replace("@UPSTREAM@", &script.address.to_string()));
    let old = request("GET", "/api/", "").replace("HTTP/1.1", "HTTP/1.0");
    let (text, ended) = said(&mut consumer(&world, &authority, None), &old);
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && ended.is_err(), "{text} {ended:?}");
    only_call(&world, failed("upstream_closed"));
}
