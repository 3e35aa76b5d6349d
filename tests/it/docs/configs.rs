//! The configurations that are shipped work as they are, and leave nothing out.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use claviger::config::{self, CompileInputs, Compiled, File};
use claviger::signature::HmacKey;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use toml::{Table, Value};

const MINIMAL: &str = include_str!("../../../config/minimal.toml");
const COMPLETE: &str = include_str!("../../../config/claviger.toml");
const DEMO: &str = include_str!("../../../src/cli/demo/claviger.toml");

/// The file with everything set that could be: what is `#key = …` in it is taken as written.
fn all_set(text: &str) -> String {
    let line = |line: &str| {
        let set =
            line.strip_prefix('#').filter(|rest| rest.starts_with(|first: char| !" #:".contains(first)));
        format!("{}\n", set.unwrap_or(line))
    };
    text.lines().map(line).collect()
}

/// Compiles it in a folder where the files are that it names.
fn compiled(text: &str) -> (File, Compiled) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let made = rcgen::generate_simple_self_signed(["gateway.example.com".to_owned()]).unwrap();
    write("server.crt", &made.cert.pem());
    write("server.key", &made.signing_key.serialize_pem());
    write("clients.crt", &made.cert.pem());
    write("internal-ca.crt", &made.cert.pem());
    write("log-ca.pem", &made.cert.pem());
    for name in
        ["jms.secret", "jms-third.secret", "jumpcloud.secret", "jms.password", "client.secret", "otel.token"]
    {
        write(name, "fake-d6ed1a06-66f7-4584-af18-0000000");
    }
    write("system.pem", &KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().serialize_pem());
    write("claviger.toml", text);
    let environment = |name: &str| {
        ["JMS_SECOND_SECRET", "FORESIGHT_TOKEN", "OPS_PASSWORD"]
            .contains(&name)
            .then(|| "fake-of-the-environment".to_owned())
    };
    let around = CompileInputs {
        environment: &environment,
        now: std::time::SystemTime::now(),
        failures: Arc::default(),
        former: None,
        fingerprints: HmacKey::new(b"test"),
        stored: None,
        following: false,
    };
    match config::load(&folder.path().join("claviger.toml"), around) {
        Ok((file, compiled, problems)) => {
            assert!(problems.is_empty(), "{}", problems.render(false));
            (file, compiled)
        }
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

#[test]
fn the_minimal_file_works() {
    let (file, compiled) = compiled(MINIMAL);
    assert_eq!(compiled.listeners.len(), 1);
    assert!(compiled.plaintext_upstreams.is_empty());
    assert_eq!(file.grants.len(), 1);
}

#[test]
fn the_complete_file_works_as_it_is_and_with_everything_set() {
    let (file, as_it_is) = compiled(COMPLETE);
    assert_eq!((as_it_is.listeners.len(), as_it_is.snapshot.upstreams.len()), (1, 1));
    assert_eq!(file.limits, config::file::Limits::default(), "its limits are the defaults");
    let text = all_set(COMPLETE);
    let (_, everything) = compiled(&text);
    assert_eq!((everything.listeners.len(), everything.snapshot.upstreams.len()), (2, 9), "{text}");
}

/// What is written as a default is the default: without it, nothing changes.
#[test]
fn the_complete_file_tells_the_defaults() {
    let mut table: Table = COMPLETE.parse().unwrap();
    let (given, _) = compiled(COMPLETE);
    for key in ["state_dir", "workers", "listeners", "admin", "audit", "custody", "limits"] {
        table.remove(key).unwrap();
    }
    let (default, _) = compiled(&table.to_string());
    let dir = |file: &File, path: &Path| {
        path.strip_prefix(file.state_dir.value.parent().unwrap()).unwrap().to_owned()
    };
    let told = |file: &File| {
        let listeners: Vec<_> = file.listeners.iter().map(|listener| listener.address.value).collect();
        let audit = (dir(file, &file.audit.dir.value), file.audit.durability, file.audit.rotate);
        (dir(file, &file.state_dir.value), file.workers, listeners, file.admin.address.value, audit)
    };
    assert_eq!(told(&given), told(&default));
    assert_eq!(given.limits, default.limits);
    let upstream = table["upstreams"]["jumpserver"].as_table_mut().unwrap();
    for key in ["trailing_slash", "link_members", "sign_base_path", "cookies", "forwarded_for", "pool_idle"] {
        upstream.remove(key).unwrap();
    }
    let (_, bare) = compiled(&table.to_string());
    let (_, full) = compiled(COMPLETE);
    let told = |compiled: &Compiled| {
        let upstream = &compiled.snapshot.upstreams[0];
        let links = upstream.links.members.clone();
        (
            upstream.trailing_slash,
            links,
            upstream.first.settings.sign_base_path,
            upstream.request_headers.cookies,
        )
    };
    assert_eq!(told(&bare), told(&full));
}

/// Where in the file each source of readers reads. A new source must be added here.
const SOURCES: [(&str, &[&str]); 9] = [
    ("mod.rs", &[]),
    ("listener.rs", &["listeners", "admin"]),
    ("journal.rs", &["audit"]),
    ("sink.rs", &["audit"]),
    ("custody.rs", &["custody", "credentials"]),
    ("limits.rs", &["limits"]),
    ("upstream.rs", &["upstreams"]),
    ("scheme.rs", &["upstreams"]),
    ("route.rs", &["routes"]),
];
const ACCESS: (&str, &[&str]) = ("access.rs", &["consumers", "roles", "grants"]);

/// The keys that a source asks for, and the tags that it takes: the literal after `optional(`, `required(` and their like.
fn asked_for(source: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for reader in ["optional(", "required(", ".or_default(", "each(", "keyed_items(", "wait(", "count("] {
        for (at, _) in source.match_indices(reader) {
            let rest = source[at + reader.len()..].trim_start();
            let Some(rest) = rest.strip_prefix('"') else { continue };
            keys.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    for line in source.lines().filter(|line| line.starts_with("const AVAILABLE_")) {
        keys.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    keys
}

/// Every key at any depth below `value`.
fn keys_of(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                found.insert(key.clone());
                keys_of(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys_of(item, found)),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// The words that a source takes for a value: `("sync", Durability::Sync)`.
fn words_of(source: &str) -> BTreeSet<&str> {
    let pairs = source.split("(\"").skip(1).filter_map(|rest| rest.split_once("\", "));
    let of_enum = |meant: &str| meant.starts_with(char::is_uppercase) && meant.contains("::");
    pairs.filter(|(_, rest)| of_enum(rest.split([')', ' ']).next().unwrap())).map(|(word, _)| word).collect()
}

#[test]
fn the_complete_file_tells_of_every_word() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/file");
    let mut number = 0;
    for (source, _) in SOURCES.into_iter().chain([ACCESS]) {
        let text = std::fs::read_to_string(folder.join(source)).unwrap();
        for word in words_of(&text) {
            assert!(
                COMPLETE.contains(word),
                "{source} takes \"{word}\", which config/claviger.toml does not tell"
            );
            number += 1;
        }
    }
    assert!(number >= 12, "only {number} words were found in the sources");
}

#[test]
fn the_complete_file_has_every_key() {
    let table: Table = all_set(COMPLETE).parse().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/file");
    let sources: Vec<_> = SOURCES.into_iter().chain([ACCESS]).collect();
    let mut there: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut known: Vec<String> = sources.iter().map(|(name, _)| (*name).to_owned()).collect();
    there.sort();
    known.sort();
    assert_eq!(there, known, "a source of readers that this test does not know");
    let mut number = 0;
    for (source, sections) in sources {
        let mut written = BTreeSet::new();
        if sections.is_empty() {
            written.extend(table.keys().cloned());
        }
        for section in sections {
            keys_of(&table[*section], &mut written);
        }
        let wanted = asked_for(&std::fs::read_to_string(folder.join(source)).unwrap());
        let missing: Vec<&String> = wanted.difference(&written).collect();
        assert!(missing.is_empty(), "{source} reads {missing:?}, which config/claviger.toml does not show");
        number += wanted.len();
    }
    assert!(number > 60, "only {number} keys were found in the sources");
}

#[test]
fn the_demo_shows_no_key_that_the_complete_file_has_not() {
    let (mut known, mut shown) = (BTreeSet::new(), BTreeSet::new());
    keys_of(&Value::Table(all_set(COMPLETE).parse().unwrap()), &mut known);
    keys_of(&Value::Table(DEMO.parse().unwrap()), &mut shown);
    let own = ["jms-demo".to_owned()].into();
    assert_eq!(shown.difference(&known).cloned().collect::<BTreeSet<_>>(), own);
}
