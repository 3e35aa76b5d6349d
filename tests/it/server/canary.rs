//! Secrets are planted everywhere; the test searches every output for them, at the most verbose log level.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger::inbound::Directory;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::planted::{forms, texts};
use crate::support::process::{PATIENCE, Process, Site, patient};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::until_read;
use crate::support::world::{Answer, CONFIG, Raw};

const TOKEN: &str = "clv_canary-of-the-consumer-4d1f0a9e";
const DENIED: &str = "clv_canary-of-the-denied-77b0c2d5";
const WRONG: &str = "clv_canary-of-nobody-c3a91e60";
const SECRET: &str = "canary-of-the-key-secret-0b5d7f12";
const BODY: &str = "canary-of-a-body-e81c3f7a";
const QUERY: &str = "canary-of-a-query-19d6b4c8";
const COOKIE: &str = "canary-of-a-cookie-5e2a8d03";
const SET_COOKIE: &str = "canary-of-a-set-cookie-a7f4916b";
const PLANTED: [&str; 8] = [TOKEN, DENIED, WRONG, SECRET, BODY, QUERY, COOKIE, SET_COOKIE];

const MORE: &str = r#"
[upstreams.down]
profile = "jumpserver"
endpoint = "http://127.0.0.1:1"
org = "00000000-0000-0000-0000-000000000002"
credential = "key-of-down"
scheme.access-key = {}
[credentials.key-of-down]
access-key = { id = "@KEY_ID@", secret = { file = "key.secret" } }
[upstreams.by-value]
profile = "plain"
endpoint = "http://@UPSTREAM@"
credential = "value"
scheme.header = { name = "x-api-key" }
[credentials.value]
value = { file = "key.secret" }
[[routes]]
prefix = "/by-value"
upstream = "by-value"
[[grants]]
consumer = "tool"
upstream = "by-value"
roles = ["all"]
[[routes]]
prefix = "/down"
upstream = "down"
[[grants]]
consumer = "tool"
upstream = "down"
roles = ["all"]
[[listeners]]
address = "127.0.0.1:0"
tls = { cert = "server.crt", key = "server.key" }
[admin]
address = "@ADMIN@"
[audit]
rotate = "64KiB"
"#;

fn digest(token: &str) -> String {
    Directory::digest(token.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn upstream() -> Upstream {
    Upstream::start(|seen| {
        let cookie = format!("Set-Cookie: session={SET_COOKIE}; HttpOnly\r\n");
        let length = "Content-Length: 2\r\n";
        if seen.target.contains("unauthorized") {
            return Reply::raw(&format!("HTTP/1.1 401 Unauthorized\r\n{cookie}{length}\r\n{{}}"));
        }
        if seen.target.contains("invalid") {
            return Reply::closing(&format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: x\r\n\r\n"));
        }
        if seen.target.contains("nonsense") {
            return Reply::closing(&format!("Set-Cookie: {SET_COOKIE} {SET_COOKIE}\r\n\r\n"));
        }
        if seen.target.contains("short") {
            return Reply::closing(&format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: 10\r\n\r\n{{"));
        }
        Reply::raw(&format!("HTTP/1.1 200 OK\r\n{cookie}{length}\r\n{{}}"))
    })
}

fn assert_clean(what: &str, text: &str) {
    for secret in PLANTED {
        for form in forms(secret) {
            if let Some(at) = text.find(&form) {
                let shown =
                    String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(200)..at + form.len()])
                        .into_owned();
                panic!("{secret} in {what}: …{shown}");
            }
        }
    }
}

/// Sends bytes and reads the answer, until the gateway closes the connection.
fn send(address: SocketAddr, bytes: &str) -> Answer {
    let mut raw = Raw::to(address);
    raw.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    raw.send(bytes);
    let answer = raw.answer();
    let rest = String::from_utf8_lossy(&raw.answer().body).into_owned();
    assert_clean("what followed an answer", &rest);
    answer
}

/// Puts a certificate for the gateway into its folder; returns the roots that a consumer trusts.
fn certified(folder: &Path) -> RootCertStore {
    let made = rcgen::generate_simple_self_signed(["gw.test".to_owned()]).unwrap();
    fs::write(folder.join("server.crt"), made.cert.pem()).unwrap();
    let key = folder.join("server.key");
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    roots
}

/// Sends bytes over TLS and reads the answer, until the gateway closes the connection.
fn send_encrypted(address: &str, roots: RootCertStore, bytes: &str) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("gw.test").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // This test does not check how the connection ends.
    let _ended = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(method: &str, target: &str, token: &str, more: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {token}\r\nCookie: sid={COOKIE}\r\n{more}Connection: close\r\n\r\n"
    )
}

fn post(target: &str, token: &str) -> String {
    let body = format!("{{\"password\":\"{BODY}\"}}");
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    head("POST", target, token, &length) + &body
}

/// Well-formed calls: the bytes, and the expected status.
fn well_formed() -> Vec<(String, u16)> {
    let query = format!("/api/v1/users/?token={QUERY}&x=1&Api_Ke%79={QUERY};secret={QUERY}");
    let named =
        |line: &str| format!("GET /api/v1/ HTTP/1.1\r\nHost: gw.test\r\n{line}\r\nConnection: close\r\n\r\n");
    let basic =
        |token: &str| named(&format!("Authorization: Basic {}", STANDARD.encode(format!("tool:{token}"))));
    vec![
        (head("GET", &query, TOKEN, ""), 200),
        (post("/api/v1/users/", TOKEN), 200),
        (named(&format!("x-api-key: {TOKEN}")), 200),
        (named(&format!("authorization: token {TOKEN}")), 200),
        (basic(TOKEN), 200),
        (head("GET", &query, DENIED, ""), 403),
        (post("/api/v1/users/", DENIED), 403),
        (head("GET", &query, WRONG, ""), 401),
        (post("/api/v1/users/", WRONG), 401),
        (named(&format!("x-api-key: {WRONG}")), 401),
        (named(&format!("Authorization: Digest {WRONG}")), 401),
        (basic(WRONG), 401),
        (named(&format!("Cookie: token={TOKEN}")), 401),
        (named(&format!("Authorization: Bearer {TOKEN}\r\nx-api-key: {WRONG}")), 400),
        (named(&format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {WRONG}")), 400),
        (head("GET", "/api/v1/", TOKEN, &format!("X-JMS-ORG: {}\r\n", "2".repeat(36))), 403),
        (head("GET", "/api/v1/unauthorized/", TOKEN, ""), 502),
        (post("/api/v1/invalid/", TOKEN), 502),
        (head("GET", "/api/v1/nonsense/", TOKEN, ""), 502),
        (head("GET", &query.replace("/api", "/by-value/api"), TOKEN, ""), 200),
        (post("/by-value/api/v1/unauthorized/", TOKEN), 502),
        (head("GET", &query.replace("/api", "/down/api"), TOKEN, ""), 502),
        (post("/down/api/v1/users/", TOKEN), 502),
    ]
}

/// Malformed calls: the answer is a 4xx or 5xx, or the connection is closed.
fn malformed() -> Vec<String> {
    let ok = |more: &str| head("GET", "/api/v1/", TOKEN, more);
    let chunked = |chunks: &str| head("POST", "/api/v1/", TOKEN, "Transfer-Encoding: chunked\r\n") + chunks;
    vec![
        head("GET", &format!("/api//v1/?token={QUERY}"), TOKEN, ""),
        head("GET", &format!("/api/../v1/?a=1;token={QUERY}"), TOKEN, ""),
        head("GET", &format!("/api/#access_token={QUERY}"), TOKEN, ""),
        head("GET", &format!("/api/?a=1#access_token={QUERY}"), TOKEN, ""),
        head("GET", &format!("/api/%zz?a=1?api_key={QUERY}"), TOKEN, ""),
        head("GET", &format!("/api/\u{e9}?secret={QUERY}"), TOKEN, ""),
        head("GET", &format!("http://gw.test/api//?token={QUERY}"), TOKEN, ""),
        head("CONNECT", "gw.test:80", TOKEN, ""),
        head("TRACE", "/api/v1/", TOKEN, ""),
        ok("Host: again\r\n"),
        ok(&format!("Authorization : Bearer {WRONG}\r\n")),
        ok(&format!("{WRONG}\r\n")),
        ok(&format!("X-Folded: a\r\n {WRONG}\r\n")),
        ok(&format!("X-Control: \x01{WRONG}\r\n")),
        ok("Content-Length: 1,1\r\n"),
        ok("Transfer-Encoding: gzip\r\n"),
        ok("Expect: 200-ok\r\n"),
        format!("Authorization: Bearer {TOKEN}\r\n\r\n"),
        format!("{{\"password\":\"{BODY}\"}}\r\n\r\n"),
        format!("password={BODY}&x=1\r\n\r\n"),
        format!("\0\0\0\"{BODY}\r\n\r\n"),
        format!("GET /api/v1/ HTTP/1.1\r\nAuthorization: Bearer {TOKEN}"),
        head("POST", "/api/v1/", TOKEN, "Content-Length: 999\r\n") + BODY,
        head("POST", "/api/v1/", TOKEN, "Content-Length: 99999999\r\n") + BODY,
        chunked(&format!("zz\r\n{BODY}\r\n0\r\n\r\n")),
        chunked(&format!("5;{BODY}\r\nab{BODY}")),
        chunked(&format!("{:x}\r\n{BODY}\r\n0\r\nX-Trailer: {BODY}\r\nbad\r\n\r\n", BODY.len())),
        ok(&format!("X-Long: {}\r\n", WRONG.repeat(2000))),
        // A body longer than its `Content-Length`: the rest is in the place of the next head.
        head("POST", "/api/v1/", TOKEN, "Content-Length: 1\r\n").replace("Connection: close\r\n", "")
            + &format!("{{\"password\":\"{BODY}\"}}\r\n\r\n"),
    ]
}

/// A gateway with every secret in place, and the roots that a consumer trusts.
fn planted(upstream: &Upstream) -> (Site, RootCertStore) {
    let quick = |config: String, name: &str| {
        config.replace(&format!("{name} = \"10s\""), &format!("{name} = \"900ms\""))
    };
    let config = quick(quick(patient(CONFIG), "header_timeout"), "body_timeout") + MORE;
    let config = config.replace("@TOKEN@", &digest(TOKEN)).replace("@OTHER_TOKEN@", &digest(DENIED));
    let site = Site::with(upstream.address, &config);
    fs::write(site.folder.path().join("key.secret"), SECRET).unwrap();
    let roots = certified(site.folder.path());
    (site, roots)
}

fn offline(site: &Site, verbs: &[&str]) {
    for verb in verbs {
        let done = site.claviger().args(verb.split(' ')).env("CLAVIGER_LOG", "trace").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let said = [done.stdout, done.stderr].concat();
        assert_clean(verb, &String::from_utf8_lossy(&said));
    }
}

fn assert_clean_answer(what: &str, answer: &Answer) {
    assert_clean(what, &format!("{} {}", answer.head, String::from_utf8_lossy(&answer.body)));
}

/// Sends every kind of call and searches each answer.
fn call(process: &Process, roots: &RootCertStore) {
    for (bytes, status) in well_formed() {
        let answer = send(process.address, &bytes);
        assert_eq!(answer.status, status, "{bytes}: {answer:?}");
        assert_clean_answer("an answer", &answer);
    }
    for bytes in malformed() {
        let answer = send(process.address, &bytes);
        let longer = bytes.contains("Content-Length: 1\r\n");
        assert!(answer.status == 0 || answer.status >= 400 || longer, "{bytes}: {answer:?}");
        assert_clean_answer("an answer", &answer);
    }
    let said = process.said();
    let encrypted = said.split("listening address=").nth(2).unwrap().split_whitespace().next().unwrap();
    let stray = format!("Authorization: Bearer {TOKEN}\r\n\r\n");
    for bytes in [post("/api/v1/users/", TOKEN), post("/api/v1/users/", WRONG), stray] {
        let answer = send_encrypted(encrypted, roots.clone(), &bytes);
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert_clean("an encrypted answer", &answer);
    }
    let short = send(process.address, &head("GET", "/api/v1/short/", TOKEN, ""));
    assert!(!short.whole, "{short:?}");
    // A consumer that disconnects in the middle of its body.
    let mut leaving = Raw::to(process.address);
    leaving.send(head("POST", "/api/v1/", TOKEN, "Content-Length: 999\r\n") + BODY);
    until_read(&leaving.socket);
    crate::support::ledger::reset(leaving);
}

#[test]
fn no_secret_is_found_in_any_output() {
    let upstream = upstream();
    let (site, roots) = planted(&upstream);
    let explain = "explain --consumer tool GET /api/v1/";
    let with_cookie = format!("{explain} --header Cookie:{COOKIE} --output json");
    offline(&site, &["check", explain, &with_cookie, "explain --consumer tool GET /by-value/api/v1/"]);

    let mut process = site.launch(site.claviger().arg("serve").env("CLAVIGER_LOG", "trace"));
    process.wait_ready();
    call(&process, &roots);
    let good = fs::read(site.config()).unwrap();
    fs::write(site.config(), [good.as_slice(), b"bad = 1\n"].concat()).unwrap();
    process.signal(rustix::process::Signal::HUP);
    process.wait_said("was not reloaded");
    fs::write(site.config(), good).unwrap();
    for target in ["/metrics", "/readyz", "/nothing"] {
        assert_clean_answer(target, &process.admin(target));
    }
    let (code, said) = process.end();
    assert_eq!(code, Some(0));
    for told in ["TRACE rustls", "DEBUG claviger"] {
        assert!(said.contains(told), "the log says too little to be searched: {told}");
    }
    assert_clean("the log", &said);

    let mut kept = Vec::new();
    texts(&site.folder.path().join("state"), &mut kept);
    assert!(kept.iter().any(|(path, text)| path.contains("/audit/") && text.contains("token=***")));
    for (path, text) in kept {
        assert_clean(&path, &text);
    }
    offline(&site, &["audit show --last 1000", "audit verify"]);
}
