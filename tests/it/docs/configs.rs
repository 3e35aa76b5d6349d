//! The shipped configurations are valid as they are, and complete.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claviger::config::{self, Base, CompileInputs, Compiled, File};
use claviger::signature::HmacKey;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use toml::{Table, Value};

const MINIMAL: &str = include_str!("../../../config/minimal.toml");
pub(super) const COMPLETE: &str = include_str!("../../../config/claviger.toml");
const DEMO: &str = include_str!("../../../src/cli/demo/claviger.toml");

/// The file with every optional key set: `#key = …` in it counts as `key = …`.
pub(super) fn all_set(text: &str) -> String {
    let line = |line: &str| {
        let set =
            line.strip_prefix('#').filter(|rest| rest.starts_with(|first: char| !" #:".contains(first)));
        format!("{}\n", set.unwrap_or(line))
    };
    text.lines().map(line).collect()
}

/// Compiles it in a folder with the files that it names.
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
    let inputs = CompileInputs {
        environment: &environment,
        now: std::time::SystemTime::now(),
        base: Base::Start(HmacKey::new(b"test")),
        stored: None,
    };
    let loaded = config::load(&folder.path().join("claviger.toml")).and_then(|config| {
        let (compiled, problems) = config.compile(&inputs)?;
        Ok((config.file, compiled, problems))
    });
    match loaded {
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
    assert_eq!(
        file.limits,
        config::parse("", Path::new("")).0.unwrap().limits,
        "its limits are the defaults"
    );
    let text = all_set(COMPLETE);
    let (_, everything) = compiled(&text);
    assert_eq!((everything.listeners.len(), everything.snapshot.upstreams.len()), (2, 9), "{text}");
}

/// A value that the file shows as a default is the default: without it, nothing changes.
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

#[test]
fn the_demo_shows_no_key_that_the_complete_file_has_not() {
    let (mut known, mut shown) = (BTreeSet::new(), BTreeSet::new());
    keys_of(&Value::Table(all_set(COMPLETE).parse().unwrap()), &mut known);
    keys_of(&Value::Table(DEMO.parse().unwrap()), &mut shown);
    let own = ["jms-demo".to_owned()].into();
    assert_eq!(shown.difference(&known).cloned().collect::<BTreeSet<_>>(), own);
}
