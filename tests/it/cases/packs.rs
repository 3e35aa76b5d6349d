//! The shipped roles. `packs/PRODUCT-ROLE.txt` lists calls that a role must allow or deny; the test sends each through
//! a gateway. `packs/jumpserver.paths` lists every path of JumpServer, with the decision of each role for each method.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use claviger::clock::http_date;
use claviger::code::Code;
use claviger::config::{self, Base, CompileInputs};
use claviger::gateway::Snapshot;
use claviger::gateway::explain::{TestCall, Verdict, attempt};
use claviger::policy::BodyMembers;
use claviger::signature::HmacKey;
use http::{HeaderMap, Method};
use toml::{Table, Value};

use crate::cases::exchanges::text_files;
use crate::support::upstream::{Reply, Upstream};
use crate::support::world::{TOKEN, World, fill};

const PRODUCTS: [&str; 4] = ["jumpserver", "jumpcloud", "foresight", "ops"];

/// Every method that a server may know, and two that only look similar.
const METHODS: [&str; 9] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "get", "PURGE"];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cases/packs"))
}

/// A shipped pack.
fn pack(product: &str) -> Table {
    let path = format!("{}/config/roles/{product}.toml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().parse::<Table>().unwrap()["roles"].as_table().unwrap().clone()
}

/// The grants of `tool`: these roles at that product.
fn grant(product: &str, roles: &[&str]) -> String {
    let (profile, org) = match product {
        "ops" => ("plain", ""),
        "foresight" => (product, ""),
        _ => (product, "org = \"5e9f\""),
    };
    format!(
        r#"
[upstreams.it]
profile = "{profile}"
endpoint = "http://@UPSTREAM@"
{org}
credential = "key"
scheme.bearer = {{}}
[credentials.key]
value = {{ file = "key.secret" }}
[[routes]]
prefix = "/"
upstream = "it"
[consumers.tool]
token_sha256 = ["@TOKEN@"]
[[grants]]
consumer = "tool"
upstream = "it"
roles = {roles:?}
"#
    )
}

/// The policy of a consumer `tool` that has these roles at that product.
fn granted(product: &str, roles: &[&str]) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (path, secret) = (folder.path().join("claviger.toml"), folder.path().join("key.secret"));
    std::fs::write(&secret, "fake-key").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, fill(&grant(product, roles), ([127, 0, 0, 1], 9).into())).unwrap();
    let inputs = CompileInputs {
        environment: &|_| None,
        now: SystemTime::now(),
        base: Base::Start(HmacKey::new(b"test")),
        stored: None,
    };
    match config::load(&path).and_then(|config| config.compile(&inputs)) {
        Ok((compiled, problems)) => {
            assert!(problems.is_empty(), "{}", problems.render(false));
            compiled.snapshot
        }
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// The refusal of a call without a body, if any.
fn refused(snapshot: &Snapshot, method: &str, target: &str) -> Option<Code> {
    let (method, target) = (Method::from_bytes(method.as_bytes()).unwrap(), target.to_owned());
    let (now, body) = (SystemTime::now(), BodyMembers::none());
    let call = TestCall { method, host: "gw.test".into(), target, headers: HeaderMap::new(), body };
    let (_, verdict) = attempt(snapshot, "tool", &call, (now, &http_date(now))).unwrap();
    match verdict {
        Verdict::Allowed { .. } => None,
        Verdict::Denied { code, .. } => Some(code),
    }
}

/// The lines of a table, without comments and empty lines.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.starts_with("# "), "{}: the first line tells what it is", path.display());
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(String::from).collect()
}

/// One call of a list: `allowed|denied METHOD target [content type] [body]`. A body that looks like JSON has that type.
struct Line<'l> {
    allowed: bool,
    method: &'l str,
    target: &'l str,
    body: Option<(&'l str, &'l str)>,
}

impl<'l> Line<'l> {
    fn read(line: &'l str) -> Self {
        let word =
            |text: &'l str| text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim_start()));
        let (verdict, rest) = word(line);
        let (method, rest) = word(rest);
        let (target, body) = word(rest);
        assert!(["allowed", "denied"].contains(&verdict) && target.starts_with('/'), "{line}");
        let body = match body.chars().next() {
            None => None,
            Some('{' | '[') => Some(("application/json", body)),
            Some(_) => Some(body.split_once(' ').unwrap_or_else(|| panic!("no body: {line}"))),
        };
        Self { allowed: verdict == "allowed", method, target, body }
    }

    /// Sends the call. Returns the differences from the expectation, if any.
    fn play(&self, world: &World) -> Option<String> {
        let Self { allowed, method, target, body } = *self;
        let before = world.upstream.seen().len();
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
        );
        match body {
            Some((kind, body)) => {
                let length = body.len();
                write!(request, "Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
            }
            None if ["POST", "PUT", "PATCH"].contains(&method) => {
                request.push_str("Content-Length: 0\r\n\r\n");
            }
            None => request.push_str("\r\n"),
        }
        let mut raw = world.connect();
        raw.send(request);
        let answer = raw.head();
        let (status, code) = (answer.status, answer.header("claviger-error").unwrap_or_default());
        let seen: Vec<_> = world.upstream.seen().split_off(before);
        let as_it_should = if allowed {
            let sent = body.map_or("", |(_, body)| body);
            status == 200 && seen.len() == 1 && seen[0].method == method && seen[0].body == sent.as_bytes()
        } else {
            status == 403 && ["denied", "denied_by_rule", "org_override"].contains(&code) && seen.is_empty()
        };
        (!as_it_should).then(|| format!("{status} {code}, {} received", seen.len()))
    }
}

#[test]
fn every_role_decides_as_its_table_says() {
    let mut tables: BTreeSet<_> = text_files(folder()).into_iter().collect();
    let mut wrong = Vec::new();
    for product in PRODUCTS {
        tables.remove(&folder().join(format!("never-{product}.txt")));
        for role in pack(product).keys().filter(|role| *role != "no-new-keys") {
            let name = format!("{product}:{role}");
            let path = folder().join(format!("{product}-{role}.txt"));
            assert!(tables.remove(&path), "{name} has no table");
            let limits = "state_dir = \"state\"\nworkers = 1\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[limits]\nrefusals_per_minute = 0\n";
            let upstream = Upstream::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
            let world = World::with(upstream, &[limits, &grant(product, &[&name])].concat());
            let mut counts = (0, 0);
            for text in lines(&path) {
                let line = Line::read(&text);
                *(if line.allowed { &mut counts.0 } else { &mut counts.1 }) += 1;
                wrong.extend(line.play(&world).map(|told| format!("{name}: {text}: {told}")));
            }
            assert!(counts.0 >= 8 && counts.1 >= 10, "{name} has few lines: {counts:?}");
        }
    }
    assert!(tables.is_empty(), "tables of no role: {tables:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_role_lets_keys_be_minted_by_any_method() {
    for product in PRODUCTS {
        let targets = lines(&folder().join(format!("never-{product}.txt")));
        assert!(targets.len() >= 25);
        for role in pack(product).keys() {
            let name = format!("{product}:{role}");
            let alone = granted(product, &[&name]);
            for (target, method) in targets.iter().flat_map(|target| METHODS.map(|method| (target, method))) {
                assert_eq!(
                    refused(&alone, method, target),
                    Some(Code::DeniedByRule),
                    "{name}: {method} {target}"
                );
            }
        }
    }
}

/// Denials of each role hold for all roles together: no role allows what another one denies.
#[test]
fn all_roles_together_mint_no_keys_either() {
    for product in PRODUCTS {
        let names: Vec<String> = pack(product).keys().map(|role| format!("{product}:{role}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = granted(product, &names);
        for target in lines(&folder().join(format!("never-{product}.txt"))) {
            for method in METHODS {
                assert_eq!(refused(&all, method, &target), Some(Code::DeniedByRule), "{method} {target}");
            }
        }
    }
}

/// The paths of a role's allow rules, with the methods of each; a POST whose body only reads counts as a
/// GET.
fn allowed(role: &Value) -> Vec<(Vec<&str>, &str, bool)> {
    let rules = role.get("allow").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts = |value: &'_ Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut found = Vec::new();
    for rule in rules {
        assert!(!texts(&rule["methods"]).is_empty());
        let asks = rule.get("body").and_then(|body| body["action"].as_str()).unwrap_or_default();
        let methods: Vec<&str> = match asks {
            "list" | "get" => vec!["GET"],
            _ => rule["methods"].as_array().unwrap().iter().filter_map(Value::as_str).collect(),
        };
        for path in rule["paths"].as_array().unwrap() {
            found.push((methods.clone(), path.as_str().unwrap(), rule.get("query").is_some()));
        }
    }
    found
}

#[test]
fn no_role_changes_a_whole_list() {
    const WRITES: [&str; 4] = ["PUT", "PATCH", "DELETE", "delete"];
    for product in PRODUCTS {
        for (role, rules) in pack(product) {
            let name = format!("{product}:{role}");
            let snapshot = granted(product, &[&name]);
            for (methods, path, filtered) in allowed(&rules) {
                assert!(!path.contains("**"), "{name} allows {path}: an exact shape is wanted");
                let reads = methods.iter().all(|method| ["GET", "HEAD", "OPTIONS"].contains(method));
                // The cache stores ids for a later GET.
                let reads = reads || path == "/api/v1/common/resources/cache";
                assert!(reads || !["read-only", "auditor"].contains(&role.as_str()), "{name}: {methods:?}");
                assert!(!filtered || methods == ["DELETE"], "{name}: {path}");
                // A task is not a list, and accepts only a POST.
                if path.contains('*') || path.ends_with("/tasks") {
                    continue;
                }
                for method in WRITES {
                    let some = [
                        "?name=a",
                        "?spm=a",
                        "?user=a",
                        "?assetpermission=a",
                        "?username=",
                        "?username=a&username=b",
                    ];
                    for spelled in ["", "/", "?", ".json"].into_iter().chain(some) {
                        let target = format!("{path}{spelled}");
                        assert!(refused(&snapshot, method, &target).is_some(), "{name}: {method} {target}");
                    }
                }
            }
        }
    }
}

/// The roles, in the order of the columns.
const JUMPSERVER: [&str; 6] =
    ["no-new-keys", "read-only", "users-admin", "assets-admin", "perms-admin", "auditor"];

/// The methods in the table, each with its letter.
const LETTERS: [(&str, char); 7] = [
    ("GET", 'g'),
    ("HEAD", 'h'),
    ("OPTIONS", 'o'),
    ("POST", 'C'),
    ("PUT", 'P'),
    ("PATCH", 'U'),
    ("DELETE", 'D'),
];

/// Every path of JumpServer with every method and role. The table was reviewed, so that this test shows any rule that
/// allows or denies more.
#[test]
fn every_path_of_jumpserver_is_decided_as_reviewed() {
    let path = folder().join("jumpserver.paths");
    let reviewed = std::fs::read_to_string(&path).unwrap();
    let entries: Vec<(&str, &str)> = reviewed
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.next().unwrap_or_else(|| panic!("{line}")))
        })
        .collect();
    assert!(entries.len() >= 792, "{} paths", entries.len());
    // The column of `no-new-keys` shows its denials; the other columns show what the roles allow.
    let decide = |role: &str| -> Vec<String> {
        let snapshot = granted("jumpserver", &[&format!("jumpserver:{role}")]);
        let wanted = (role == "no-new-keys").then_some(Code::DeniedByRule);
        let letters = |target: &str| -> String {
            let same = LETTERS.iter().filter(|(method, _)| refused(&snapshot, method, target) == wanted);
            same.map(|(_, letter)| *letter).collect()
        };
        let targets =
            entries.iter().map(|(path, _)| path.replace("{id}", "7c9e6679-7425-40de-944b-e07fc1f90ae7"));
        targets.map(|target| letters(&target)).collect()
    };
    let columns = std::thread::scope(|scope| {
        JUMPSERVER.map(|role| scope.spawn(|| decide(role))).map(|column| column.join().unwrap())
    });
    let mut decided: String = reviewed
        .lines()
        .take_while(|line| line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n");
    for (at, (path, takes)) in entries.iter().enumerate() {
        let mut line = format!("{path:<95} {takes:<5}");
        for column in &columns {
            write!(
                line,
                " {:<7}",
                Some(column[at].as_str()).filter(|letters| !letters.is_empty()).unwrap_or("-")
            )
            .unwrap();
        }
        decided.push_str(line.trim_end());
        decided.push('\n');
    }
    if std::env::var_os("PACKS_REVIEWED").is_some() {
        std::fs::write(&path, &decided).unwrap();
    } else if decided != reviewed {
        let lines = reviewed.lines().zip(decided.lines()).filter(|(reviewed, decided)| reviewed != decided);
        let told: String =
            lines.map(|(reviewed, decided)| format!("\n- {reviewed}\n+ {decided}\n")).collect();
        panic!(
            "roles decide otherwise than {} says:{told}\nReview each line; PACKS_REVIEWED=1 then writes the table anew.",
            path.display()
        );
    }
}
