//! Tests of configuration texts and their messages.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::file::{Limits, MasterKey, Profile, Reference, Scheme, urls};
use super::{File, Level, Problems, Span, parse};
use crate::audit::Durability;
use crate::custody::Kind;

const COMPLETE: &str = include_str!("tests/complete.toml");
const BROKEN: &str = include_str!("tests/broken.toml");
const SAID: &str = include_str!("tests/broken.txt");
/// Stands for a secret that was put in the wrong place.
const CANARY: &str = "hunter2-hunter2";

fn read(text: &str) -> (Option<File>, Problems) {
    parse(text, Path::new("/etc/claviger/claviger.toml"))
}

fn whole(text: &str) -> File {
    let (file, problems) = read(text);
    assert_eq!(problems.render(false), "");
    file.unwrap()
}

/// The messages for a text, as `line:column message (help)`.
fn settings(text: &str) -> Vec<String> {
    let json = read(text).1.to_json();
    let line = |problem: &serde_json::Value| {
        let place = format!("{}:{}", problem["line"], problem["column"]);
        let help = problem["help"].as_str().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{place} {}{help}", problem["message"].as_str().unwrap())
    };
    json.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn an_empty_file_is_all_defaults() {
    let file = whole("");
    assert_eq!(
        (file.state_dir.value.to_str(), file.state_dir.span),
        (Some("/etc/claviger/state"), Span::NOWHERE)
    );
    assert_eq!(file.workers, 0);
    let listeners: Vec<_> =
        file.listeners.iter().map(|listener| listener.address.value.to_string()).collect();
    assert_eq!(listeners, ["127.0.0.1:7070"]);
    assert_eq!(file.admin.address.value.to_string(), "127.0.0.1:7071");
    assert_eq!(file.audit.dir.value, Path::new("/etc/claviger/state/audit"));
    assert_eq!((file.audit.durability, file.audit.rotate), (Durability::Sync, 128 << 20));
    let key = MasterKey::File("/etc/claviger/state/master.key".into());
    assert_eq!((file.custody.master_key.value, file.custody.master_key.span), (key, Span::NOWHERE));
    assert_eq!(file.custody.store_max_staleness, Duration::from_mins(1));
    assert_eq!((file.limits.max_body, file.limits.header_timeout), (16 << 20, Duration::from_secs(10)));
    assert!(file.upstreams.is_empty() && file.credentials.is_empty() && file.roles.is_empty());
    assert!(file.routes.is_empty() && file.grants.is_empty() && file.consumers.is_empty());
}

#[test]
fn a_bound_that_any_look_would_miss_is_refused() {
    let bound = |bound: &str| format!("[custody]\nstore_max_staleness = \"{bound}\"\n");
    assert_eq!(whole(&bound("0s")).custody.store_max_staleness, Duration::ZERO);
    assert_eq!(whole(&bound("1s")).custody.store_max_staleness, Duration::from_secs(1));
    let refused = "2:23 `custody.store_max_staleness` must be at least 1s, or 0s for never";
    assert_eq!(settings(&bound("999ms")), [refused]);
    assert!(read(&bound("25h")).1.has_errors());
}

#[test]
fn the_complete_file_says_what_it_says() {
    let file = whole(COMPLETE);
    assert_eq!(file.workers, 2);
    let tls = file.listeners.last().and_then(|listener| listener.tls.as_ref()).unwrap();
    assert_eq!(tls.cert.value, Path::new("/etc/claviger/server.crt"));
    assert_eq!(tls.client_ca.as_ref().unwrap().value, Path::new("/srv/clients.crt"));
    assert_eq!(file.audit.durability, Durability::Batched);
    assert_eq!(
        file.custody.master_key.value,
        MasterKey::Passphrase(Reference::Env("CLAVIGER_PASSPHRASE".into()))
    );
    assert_eq!(file.custody.store_max_staleness, Duration::from_mins(5));
    assert_eq!(
        file.limits,
        Limits { max_body: 1 << 20, header_timeout: Duration::from_millis(2500), ..whole("").limits }
    );

    let grant = file.grants.first().unwrap();
    assert_eq!(grant.expires.as_ref().unwrap().value.to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(
        grant.roles.iter().map(|role| role.value.as_str()).collect::<Vec<_>>(),
        ["users-admin", "jumpserver:read-only"]
    );
    assert_eq!(
        file.grants.last().unwrap().expires.as_ref().unwrap().value.to_string(),
        "2026-12-31T23:00:00Z"
    );
    let consumer = file.consumers.find("onboarding").unwrap();
    assert_eq!(consumer.requests_per_minute, Some(600));
    assert_eq!(consumer.token_sha256.first().unwrap().value[..2], [0x9f, 0x86]);

    let role = file.roles.find("users-admin").unwrap();
    let delete = role.allow.last().unwrap();
    assert_eq!(delete.methods.as_ref().unwrap().first().unwrap().value, "DELETE");
    assert_eq!(delete.query.first().unwrap().name.value, "username");
    assert!(role.deny.first().unwrap().methods.is_none());
    let route = file.routes.first().unwrap();
    assert_eq!(
        (route.prefix.value.as_str(), route.host.as_ref().unwrap().value.as_str()),
        ("/", "bastion.example.com")
    );
}

#[test]
fn the_complete_file_says_where_it_forwards() {
    let file = whole(COMPLETE);
    let upstream = file.upstreams.find("jumpserver").unwrap();
    assert_eq!(upstream.profile.value, Profile::JumpServer);
    let endpoint = upstream.endpoint.as_ref().unwrap();
    assert_eq!(endpoint.value, "https://jms.example.com");
    assert_eq!(&COMPLETE[endpoint.span.start..endpoint.span.end], "\"https://jms.example.com\"");
    assert_eq!(upstream.trailing_slash, Some(true));
    assert_eq!(upstream.link_members.as_ref().unwrap().len(), 2);
    assert!(upstream.forwarded_for);
    assert_eq!(upstream.pool_idle, Some(Duration::from_millis(1500)));
    assert!(!upstream.sign_base_path && upstream.insecure_plaintext);
    assert!(matches!(&upstream.scheme.value, Scheme::AccessKey(key) if key.headers.is_none()));
    let second = file.upstreams.find("second").unwrap();
    assert!(second.sign_base_path && !second.pass_cookies && !second.insecure_plaintext);
    let Scheme::AccessKey(key) = &second.scheme.value else { unreachable!("another scheme") };
    let headers: Vec<_> = key.headers.as_ref().unwrap().iter().map(|header| header.value.as_str()).collect();
    assert_eq!(headers, ["(request-target)", "accept", "date"]);

    let credential = file.credentials.find("jms-prod").unwrap();
    assert_eq!(credential.name.value.as_str(), "jms-prod");
    assert_eq!(credential.kind, Kind::AccessKey);
    assert_eq!(credential.id.as_ref().unwrap().value, "75f6e4a4-8f4c-4c3b-9b8a-0f7a3f5e3d2c");
    assert_eq!(credential.secret.value, Reference::File("/etc/claviger/jms.secret".into()));
}

#[test]
fn every_problem_is_told_at_once() {
    let (file, problems) = read(BROKEN);
    assert_eq!(problems.render(false), SAID, "tests/broken.txt is to be:\n{}", problems.render(false));
    let file = file.unwrap();
    assert!(file.upstreams.declares("second") && file.upstreams.find("second").is_none());
    assert_eq!(file.upstreams.did_you_mean("secnod"), Some("second"));
    assert!(problems.has_errors() && problems.count(Level::Warning) == 0);
}

#[test]
fn one_mistake_is_told_once() {
    let missing = "[[routes]]\nperfix = \"/\"\nupstream = \"a\"\n";
    assert_eq!(settings(missing), ["2:1 unknown key `perfix` in `routes` (did you mean `prefix`?)"]);
    let misplaced = "[admin]\nworkers = 2\n";
    let expected = "2:1 unknown key `workers` in `admin` (`workers` is a key of the top level: write it above the first [table])";
    assert_eq!(settings(misplaced), [expected]);
    let single = "[routes]\nprefix = \"/\"\n";
    assert_eq!(
        settings(single),
        ["1:1 `routes` must be a list of tables, found a table (write `[[routes]]`)"]
    );
}

#[test]
fn errors_of_syntax_are_told_together_with_the_rest() {
    let text = "state_dir = \"a\nworkers =\n[admin]\naddress = 3\naddress = 4\n[admin]\nfoo bar\n";
    let (file, problems) = read(text);
    assert!(file.is_none());
    let starts = |part: &str| settings(text).iter().any(|said| said.starts_with(part));
    for part in
        ["1:15 not valid", "2:10 not valid", "4:11 `admin.address` must", "5:1 `address` is defined twice"]
    {
        assert!(starts(part), "{part} in {}", problems.render(false));
    }
    for part in ["6:2 `admin` is defined twice", "7:5 not valid TOML"] {
        assert!(starts(part), "{part} in {}", problems.render(false));
    }
    assert_eq!(problems.count(Level::Error), 6);
}

#[test]
fn a_second_definition_points_at_the_first() {
    let (_, problems) = read(
        "[admin]\n[limits]\nconnections = 1\n[audit]\n[limits] # again\n[custody]\nx = { y = 1, y = 2 }\n",
    );
    let json = problems.to_json();
    let places: Vec<_> = json.as_array().unwrap().iter().map(|problem| &problem["related"]["line"]).collect();
    assert_eq!(places, [2, 7]);
}

#[test]
fn a_literal_secret_is_refused_and_never_shown() {
    for text in [
        "[credentials.a]\naccess-key = { id = \"k\", secret = \"hunter2-hunter2\" }\n",
        "[credentials.a]\naccess-key = { id = 7, secret = { literal = \"hunter2-hunter2\" } }\n",
        "[credentials.a]\naccess-key = { id = 7, secret = { env = \"hunter2-hunter2\", file = \"a\" } }\n",
        "[credentials.a]\naccess-key = { id = \"a\", secret = { env = \"hunter2-hunter2\" } }\n",
        "[credentials.a]\nacess-key = { id = \"hunter2-hunter2\" }\nvaleu = \"hunter2-hunter2\"\n",
        "[credentials]\na = \"hunter2-hunter2\"\n",
        "[custody]\nmaster_key = \"\"\"\nhunter2-hunter2\"\"\"\n",
        "[upstreams.a]\nprofile = \"plain\"\nendpoint = \"https://me:hunter2-hunter2@a\"\nscheme.access-key = {}\n",
        "[upstreams.a]\nscheme.login = { username = \"a\", password = \"hunter2-hunter2\" }\n",
        "[upstreams.a]\ncredential = \"hunter2-hunter2 /\"\n",
        "[consumers.a]\ntoken_sha256 = [\"hunter2-hunter2\"]\n",
        "[consumers.a]\ntoken = \"hunter2-hunter2\"\n",
        "[upstreams.a]\nscheme.access-key = \"hunter2-hunter2\"\n",
        "[upstreams.a]\nendpoint = \"https\"//me:hunter2-hunter2@a\n",
        "[nothing] # was: secret = \"hunter2-hunter2\"\n",
        "[consumers.a] x\ntoken_sha256 =\n[\"hunter2-hunter2\"] x\n",
        "whatever = [{ a = \"hunter2-hunter2\" }]\n",
        "[credentials.a]\nvalue = \"hunter2-hunter2\n",
        "[credentials.a]\nvalue = hunter2-hunter2\n",
    ] {
        let (_, problems) = read(text);
        assert!(problems.has_errors(), "{text}");
        for shown in [problems.render(false), problems.render(true), problems.to_json().to_string()] {
            assert!(!shown.contains(CANARY), "{shown}");
        }
    }
}

#[test]
fn several_endpoints_are_read_in_their_order() {
    let text = "[upstreams.a]\nprofile = \"plain\"\nendpoints = [\"https://a\", \"https://b\", \"https://c\"]\nscheme.bearer = {}\n";
    let (file, problems) = read(text);
    let upstream = file.unwrap().upstreams.find("a").unwrap().clone();
    assert!(!problems.has_errors());
    let urls: Vec<&str> = urls(&upstream).map(|url| url.value.as_str()).collect();
    assert_eq!(urls, ["https://a", "https://b", "https://c"]);
    let both = text.replace("scheme", "endpoint = \"https://d\"\nscheme");
    assert_eq!(settings(&both), ["4:12 `endpoint` and `endpoints` are both given (keep one of them)"]);
    let none = text.replace("\"https://a\", \"https://b\", \"https://c\"", "");
    assert_eq!(settings(&none), ["3:13 `upstreams.a.endpoints` must not be empty"]);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let (file, problems) = read(&"#".repeat(super::LONGEST + 1));
    assert!(file.is_none() && problems.has_errors());
}

/// Characters that have a meaning in TOML, and some that do not.
const SLIPS: &[char] = &['\n', '"', '\'', '#', '[', ']', '=', '{', '}', ',', '\\', '.', ':', '@', 'x'];

/// A fragment of something like a configuration file.
fn piece() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        " = ",
        ".",
        ",",
        "\n",
        "\r\n",
        "\"",
        "'",
        "'''",
        "\"\"\"",
        "#",
        "\\",
        "é",
        "1",
        "limits",
        "listeners",
        "upstreams",
        "credentials",
        "roles",
        "grants",
        "routes",
        "custody",
        "audit",
        "state_dir",
        "scheme",
        "access-key",
        "secret",
        "file",
        "allow",
        "paths",
        "query",
        "address",
        "expires",
        "2027-01-01T00:00:00Z",
        "max_body",
        "\"16MiB\"",
        "\"a\"",
        "{ a = 1 }",
        "[1, \"x\"]",
        "[limits]\n",
        "[[grants]]\n",
        "[upstreams.a]\n",
    ];
    prop_oneof![4 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        let (file, problems) = read(&text);
        prop_assert!(file.is_some() || problems.has_errors());
        prop_assert_eq!(problems.render(true).is_empty(), problems.is_empty());
        prop_assert!(problems.to_json().is_array());
    }

    #[test]
    fn one_slip_of_the_pen_shows_no_secret(at in 0..BROKEN.len(), letter in prop::sample::select(SLIPS), cut in 0..2usize) {
        let at = BROKEN.floor_char_boundary(at);
        let after = BROKEN.ceil_char_boundary(at + cut);
        let text = format!("{}{letter}{}", &BROKEN[..at], &BROKEN[after..]);
        let (_, problems) = read(&text);
        let shown = problems.render(false);
        prop_assert!(!shown.contains("hunter2"), "{}", shown);
    }
}

#[test]
fn nesting_has_its_limit() {
    let dotted = format!("{}a", "a.".repeat(78));
    let text = format!("{}1{}", format!("{dotted} = {{").repeat(79), "}".repeat(79));
    let (_, problems) = read(&text);
    assert!(problems.has_errors());
    assert!(read(&"[".repeat(100_000)).1.has_errors());
    assert!(read(&"a = ".to_owned().repeat(10_000)).1.has_errors());
}
